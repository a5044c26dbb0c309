/** A run that cannot be started or read. `fix` says what to do about it. */
export class RunError extends Error {
  override readonly name = "RunError";
  constructor(
    message: string,
    readonly fix?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
