/** What the Trainer asks of the batches that a source gives: it must not compute with what was meant otherwise. */
import type { Batch, TokenSource } from "../data/batch.js";
import { ArgumentError } from "../graph/errors.js";
import { vocabularyOf } from "./config.js";
import type { TrainableModel } from "./step.js";

const kinds = {
  inputs: Int32Array,
  targets: Int32Array,
  weights: Float32Array,
  segments: Int32Array,
  positions: Int32Array,
};

/**
 * Checks a batch before it is computed with. One of validation may have fewer rows than the source says.
 *
 * @throws ArgumentError for what is no batch, has another shape or element type, or ids that the model does not have
 */
export function checkBatch(
  batch: Batch,
  config: { readonly data: TokenSource; readonly model: TrainableModel; readonly loss?: unknown },
  call: "next" | "validation",
): void {
  const { batchSize, sequenceLength } = config.data;
  const where = `Trainer: data.${call}()`;
  if (typeof batch !== "object" || batch === null) {
    throw new ArgumentError(
      `${where} gave ${String(batch)} in place of a batch`,
      "a source of a training is endless: begin the next epoch after the last batch",
    );
  }
  const fits =
    batch.sequenceLength === sequenceLength &&
    (call === "next" ? batch.batchSize === batchSize : batch.batchSize >= 1 && batch.batchSize <= batchSize);
  if (!fits) {
    throw new ArgumentError(
      `${where} gave a batch of ${batch.batchSize} x ${batch.sequenceLength} tokens, the source says ${batchSize} x ${sequenceLength}`,
      "give batches of the source's batchSize and sequenceLength",
    );
  }
  const size = batch.batchSize * sequenceLength;
  for (const [name, kind] of Object.entries(kinds) as [keyof typeof kinds, typeof Int32Array][]) {
    const values: unknown = batch[name];
    if (values === undefined && name !== "inputs" && name !== "targets") continue;
    if (values instanceof kind && values.length === size) continue;
    const given = values as { length?: number; constructor?: { name: string } } | null | undefined;
    throw new ArgumentError(
      `${where}: ${name} is ${given == null ? String(given) : `${given.constructor?.name} of ${given.length}`}`,
      `give a typed array ${kind.name} of ${size}, row after row`,
    );
  }
  if (call === "next" && (typeof batch.after !== "object" || batch.after === null)) {
    throw new ArgumentError(
      `${where}: the batch has no \`after\``,
      "give the position after it, which checkpoints hold",
    );
  }
  const vocabulary = vocabularyOf(config.model);
  if (vocabulary === undefined) return;
  // A loss of the user's own may read targets otherwise.
  for (const name of config.loss === undefined ? (["inputs", "targets"] as const) : (["inputs"] as const)) {
    const at = batch[name].findIndex((id) => id < 0 || id >= vocabulary);
    if (at < 0) continue;
    throw new ArgumentError(
      `${where}: ${name} has the id ${batch[name][at]} in row ${Math.floor(at / sequenceLength)}, the model's ids are 0 to ${vocabulary - 1}`,
      name === "targets" && batch[name][at]! < 0
        ? "give targets that do not count any id, and `weights` that are 0 there"
        : "take the tokenizer that belongs to the model",
    );
  }
}

/** A batch in parts of at most so many rows. */
export function* inParts(batch: Batch, rows: number): Iterable<Batch> {
  const { batchSize, sequenceLength } = batch;
  for (let from = 0; from < batchSize; from += rows) {
    const to = Math.min(batchSize, from + rows);
    const cut = <A extends Int32Array | Float32Array>(values: A): A =>
      values.subarray(from * sequenceLength, to * sequenceLength) as A;
    yield {
      ...batch,
      batchSize: to - from,
      inputs: cut(batch.inputs),
      targets: cut(batch.targets),
      ...(batch.weights && { weights: cut(batch.weights) }),
      ...(batch.segments && { segments: cut(batch.segments) }),
      ...(batch.positions && { positions: cut(batch.positions) }),
    };
  }
}

/** Sum of the weights of a batch's targets. */
export function weightOf({ weights, inputs }: Batch): number {
  return weights === undefined ? inputs.length : weights.reduce((sum, w) => sum + w, 0);
}
