import { AronnaxError } from "../graph/errors.js";

/** A run that cannot be started or read. `fix` says what to do about it. */
export class RunError extends AronnaxError {
  constructor(message: string, fix?: string, options?: ErrorOptions) {
    super(message, fix);
    if (options !== undefined) this.cause = options.cause;
  }
}
