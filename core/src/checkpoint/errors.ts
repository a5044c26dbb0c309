import { AronnaxError } from "../graph/errors.js";

/** A file that is not valid safetensors, or a tensor that cannot be written as such. */
export class SafetensorsError extends AronnaxError {
  constructor(message: string, fix?: string, options?: ErrorOptions) {
    super(message, fix);
    if (options !== undefined) this.cause = options.cause;
  }
}

/** A checkpoint that cannot be saved or loaded. `fix` says what to do about it. */
export class CheckpointError extends AronnaxError {
  constructor(message: string, fix?: string, options?: ErrorOptions) {
    super(message, fix);
    if (options !== undefined) this.cause = options.cause;
  }
}
