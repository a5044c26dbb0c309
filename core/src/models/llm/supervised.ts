/** Learning from conversations: the loss over the tokens that count, for which alone there are logits. */
import { sum } from "../../array/broadcast.js";
import { add, cast, equal, mul, notEqual, rsqrt } from "../../array/elementwise.js";
import { gather } from "../../array/indexing.js";
import { type Key, uniform } from "../../array/random.js";
import { expandDims } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknownOptions } from "../../graph/spelling.js";
import { type Mean, mean } from "../../metrics/measures.js";
import { linearArgmax } from "../../nn/losses.js";
import type { Module } from "../../nn/module.js";
import type { Decoder } from "./decoder.js";
import type { TokenBatch } from "./model.js";

/** Positions and their targets. */
interface Positions {
  /** [batch, places, features] */
  readonly hidden: Tensor;
  /** Integer [batch, places], -100 where none counts. */
  readonly targets: Tensor;
  readonly weights?: Tensor;
}

/**
 * The positions whose targets count, put together: of a batch that says which they are (`supervised`, [batch, capacity]) only those are left, so that the
 * output layer computes no others.
 */
export function supervisedPositions(
  hidden: Tensor,
  { targets, weights, supervised }: Pick<TokenBatch, "targets" | "weights" | "supervised">,
): Positions {
  if (supervised === undefined) return { hidden, targets, ...(weights !== undefined && { weights }) };
  const places = expandDims(supervised, -1);
  const common = {
    operandBatchingDims: [0],
    startIndicesBatchingDims: [0],
    startIndexMap: [1],
    collapsedSliceDims: [1],
  };
  const pick = (x: Tensor): Tensor => gather(x, places, { ...common, offsetDims: [], sliceSizes: [1, 1] });
  return {
    hidden: gather(hidden, places, { ...common, offsetDims: [2], sliceSizes: [1, 1, hidden.shape[2]!] }),
    targets: pick(targets),
    ...(weights !== undefined && { weights: pick(weights) }),
  };
}

/** Uniform noise on embeddings; see `noisyEmbeddings`. */
export interface EmbeddingNoise {
  readonly key: Key;
  readonly alpha: number;
}

/**
 * Embeddings [batch, time, features] with noise from U(-1, 1) · alpha / √(L · features), L the tokens of the text that each belongs to (Jain et al. 2023,
 * "NEFTune", algorithm 1).
 *
 * @param segments - integer [batch, time]: the texts of packed rows; default each row is one
 */
export function noisyEmbeddings(x: Tensor, { key, alpha }: EmbeddingNoise, segments?: Tensor): Tensor {
  const [, time, features] = x.shape as [number, number, number];
  const noise = uniform(key, x.shape, { low: -alpha, high: alpha });
  const same =
    segments === undefined
      ? undefined
      : sum(cast(equal(expandDims(segments, 2), expandDims(segments, 1)), "float32"), -1);
  const scale = same === undefined ? (time * features) ** -0.5 : expandDims(rsqrt(mul(same, features)), -1);
  return add(x, cast(mul(noise, scale), x.dtype));
}

export interface SupervisedOptions {
  /** Noise on the embeddings in training, alpha of NEFTune; 5 in its paper. Default 0: none. */
  neftune?: number;
  /** Measures the share of targets that are the likeliest token: in validations (default), always, or never. */
  accuracy?: "validation" | "always" | "never";
}

/** What a Trainer's loss is told, as far as it is read here. */
interface Context {
  readonly key: Key | undefined;
  readonly training: boolean;
}

/**
 * The loss of fine-tuning, for a Trainer: cross-entropy over the targets that count, Σ over all of an update / their number, over parts and devices. With
 * the metric `accuracy`, the share of targets that the model holds for the likeliest.
 */
export function supervised<M extends Module>(
  options: SupervisedOptions = {},
): (model: M, batch: TokenBatch, context: Context) => { loss: Tensor; metrics: Record<string, Mean> } {
  refuseUnknownOptions("llm.supervised", options, ["neftune", "accuracy"]);
  const { neftune = 0, accuracy = "validation" } = options;
  if (!(Number.isFinite(neftune) && neftune >= 0))
    throw new ArgumentError(`llm.supervised: neftune is ${neftune}`, "give a number of at least 0, e.g. 5");
  if (!["validation", "always", "never"].includes(accuracy))
    throw new ArgumentError(
      `llm.supervised: accuracy is ${JSON.stringify(accuracy)}`,
      'use "validation", "always" or "never"',
    );
  return (model, batch, { key, training }) => {
    const decoder = model as unknown as Decoder;
    if (typeof decoder.lossAndPositions !== "function")
      throw new ArgumentError(
        `llm.supervised: a ${model.constructor.name} is no language model of this library`,
        "leave the loss out: the model's own is taken, and -100 among the targets do not count",
      );
    const noise = training && neftune > 0 && key !== undefined ? { key, alpha: neftune } : undefined;
    const wanted = accuracy === "always" || (accuracy === "validation" && !training);
    const { loss, positions } = decoder.lossAndPositions(batch, { noise });
    const metrics: Record<string, Mean> = {};
    if (!wanted) return { loss, metrics };
    const { hidden, targets } = positions;
    const counts = notEqual(targets, -100);
    const likeliest = linearArgmax(hidden, decoder.outputLayer);
    const right = cast(equal(likeliest, targets), "float32");
    metrics.accuracy = mean(right, cast(counts, "float32"));
    return { loss, metrics };
  };
}
