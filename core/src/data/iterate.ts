import type { Batch, BatchSource } from "./batch.js";
import { EndOfData } from "./errors.js";

/** The batches of a source, one after another, to its end if it has one. */
export async function* iterate<F extends object>(
  source: Pick<BatchSource<F>, "next">,
): AsyncGenerator<Batch<F>, void> {
  for (;;) {
    let batch: Batch<F>;
    try {
      batch = await source.next();
    } catch (error) {
      if (error instanceof EndOfData) return;
      throw error;
    }
    yield batch;
  }
}
