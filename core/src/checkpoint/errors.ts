/** A file that is not valid safetensors, or a tensor that cannot be written as such. */
export class SafetensorsError extends Error {
  override readonly name = "SafetensorsError";
  constructor(
    message: string,
    readonly fix?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A checkpoint that cannot be saved or loaded. `fix` says what to do about it. */
export class CheckpointError extends Error {
  override readonly name = "CheckpointError";
  constructor(
    message: string,
    readonly fix?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
