/** A corpus, a tokenizer or a data option that cannot be used. `fix` says what to do about it. */
export class DataError extends Error {
  override readonly name = "DataError";
  constructor(
    message: string,
    readonly fix?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
