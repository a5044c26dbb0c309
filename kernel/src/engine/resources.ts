/**
 * What a cell declares with `using` and `await using` at its top level. V8's REPL mode takes these declarations and
 * never disposes; here they are disposed of when the cell has ended and its value is shown, the last one first, as at the
 * end of a module.
 */
export class CellResources {
  #stack = new AsyncDisposableStack();

  /** A cell starts. The result disposes; it throws what a `dispose` threw, with `error` as what that suppressed. */
  begin(): (failed: boolean, error?: unknown) => Promise<void> {
    const stack = new AsyncDisposableStack();
    this.#stack = stack;
    return async (failed, error) => {
      try {
        await stack.disposeAsync();
      } catch (thrown) {
        throw failed
          ? new SuppressedError(thrown, error, "disposing of a resource of the cell failed")
          : thrown;
      }
    };
  }

  /** The initialiser of a declaration; returns the value. */
  readonly use = (value: unknown, isAsync: boolean): unknown => {
    if (isAsync) return this.#stack.use(value as AsyncDisposable | null | undefined);
    if (value === null || value === undefined) return value;
    const dispose = (value as Partial<Disposable>)[Symbol.dispose];
    if (typeof dispose !== "function") {
      throw new TypeError("a value declared with `using` has no method [Symbol.dispose]");
    }
    this.#stack.defer(() => dispose.call(value));
    return value;
  };
}
