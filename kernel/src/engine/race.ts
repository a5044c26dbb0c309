/**
 * Settles as the first of the promises does. Unlike `Promise.race` it goes by `await` alone, which does not look up
 * `then` on the prototype: a cell may have replaced that.
 */
export function race<T>(...promises: Promise<T>[]): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const follow = async (promise: Promise<T>) => {
      try {
        resolve(await promise);
      } catch (error) {
        reject(error);
      }
    };
    for (const promise of promises) void follow(promise);
  });
}
