import { type InspectorNotification, Session } from "node:inspector";

/** How long the main thread may take to answer a question, in ms: in a native call, or while it asks for input, it does not. */
const PATIENCE = 1_500;

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

  /** The same, for what somebody waits for: rejects when the main thread does not answer for long. */
  async ask<T>(method: string, parameters: object = {}): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () =>
          reject(
            new Error(
              "the code that runs cannot be looked at now: it waits in a call that is not JavaScript",
            ),
          ),
        PATIENCE,
      );
    });
    try {
      return await Promise.race([this.post<T>(method, parameters), tooLate]);
    } finally {
      clearTimeout(timer);
    }
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
