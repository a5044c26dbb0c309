import { AronnaxError } from "../graph/errors.js";

/** A corpus, a tokenizer or a data option that cannot be used. `fix` says what to do about it. */
export class DataError extends AronnaxError {
  constructor(message: string, fix?: string, options?: ErrorOptions) {
    super(message, fix);
    if (options !== undefined) this.cause = options.cause;
  }
}

/** What `next` of a source with an end rejects with after its last batch. */
export class EndOfData extends DataError {}
