import { type InspectorNotification, Session } from "node:inspector";

/** V8's inspector for the main thread, spoken to from another thread, with promises. */
export class InspectorClient {
  readonly #session = new Session();

  constructor() {
    this.#session.connectToMainThread();
  }

  post<T>(method: string, parameters: object = {}): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#session.post(method, parameters, (error, result) =>
        error ? reject(error) : resolve(result as T),
      );
    });
  }

  on<T extends object>(event: string, handle: (parameters: T) => void): void {
    this.#session.on(
      event as "inspectorNotification",
      ((message: InspectorNotification<T>) => handle(message.params)) as (
        message: InspectorNotification<object>,
      ) => void,
    );
  }

  close(): void {
    this.#session.disconnect();
  }
}
