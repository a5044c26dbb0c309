/** Sentence embeddings, trained by contrast. */

import { dotGeneral } from "../array/contraction.js";
import { iota } from "../array/creation.js";
import { cast, div, equal } from "../array/elementwise.js";
import { concatenate } from "../array/joining.js";
import { argmax } from "../array/reductions.js";
import { expandDims, reshape, squeeze } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { PairFields } from "../data/conversations/pairs.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { mean } from "../metrics/measures.js";
import { type Pooling, textVectors } from "../models/llm/embed.js";
import type { LanguageModel } from "../models/llm/model.js";
import { crossEntropy } from "../nn/losses.js";
import type { Module } from "../nn/module.js";
import { coupled, type Loss, type OnDevice } from "../train/index.js";

export interface ContrastiveOptions {
  /** Cosines are divided by it. Default 0.02. */
  temperature?: number;
  /**
   * Whether the texts of other pairs are negatives too: their positives and their hard negatives, over all devices and parts of a batch. Default true;
   * without, each query has its own hard negatives only.
   */
  inBatch?: boolean;
  /** Default `"mean"`. */
  pooling?: Pooling;
}

interface Embedded {
  /** [rows, features], of length 1. */
  readonly query: Tensor;
  readonly positive: Tensor;
  /** [rows, negatives, features] */
  readonly negatives: Tensor | null;
}

/**
 * InfoNCE (van den Oord et al. 2018, "Representation learning with contrastive predictive coding", equation 4): of each query, the cross-entropy of its positive among all candidates by
 * cosine / temperature. For a Trainer with the batches of `text.pairs`; with `accumulate` the whole batch's vectors are computed first, so that the number of
 * negatives stays that of the batch. With the metric `accuracy`.
 */
export function contrastive<M extends Module>(
  options: ContrastiveOptions = {},
): Loss<M, OnDevice<PairFields>> {
  refuseUnknownOptions("llm.contrastive", options, ["temperature", "inBatch", "pooling"]);
  const { temperature = 0.02, inBatch = true, pooling = "mean" } = options;
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new ArgumentError(`llm.contrastive: temperature is ${temperature}`, "give a positive number");
  if (pooling !== "mean" && pooling !== "last")
    throw new ArgumentError(`llm.contrastive: pooling is ${JSON.stringify(pooling)}`, 'use "mean" or "last"');
  return coupled<M, OnDevice<PairFields>, Embedded>({
    embed(model, batch) {
      const texts = (tokens: Tensor, lengths: Tensor): Tensor =>
        textVectors(model as unknown as LanguageModel, tokens, lengths, pooling);
      const { negatives, negativesLengths } = batch;
      if (negatives === undefined && !inBatch)
        throw new ArgumentError(
          "llm.contrastive: there are no negatives",
          "give hard negatives with text.pairs(source, { negatives: 1, ... }), or inBatch: true",
        );
      const flat = negatives === undefined ? null : reshape(negatives, [-1, negatives.shape.at(-1)!]);
      return {
        query: texts(batch.query, batch.queryLengths),
        positive: texts(batch.positive, batch.positiveLengths),
        negatives:
          flat === null
            ? null
            : reshape(texts(flat, reshape(negativesLengths!, [-1])), [...negatives!.shape.slice(0, 2), -1]),
      };
    },
    loss(_, { query, positive, negatives }) {
      const rows = query.shape[0]!;
      const features = query.shape[1]!;
      const across = { contract: [[1], [1]], batch: [[], []] } as const;
      const own = { contract: [[1], [2]], batch: [[0], [0]] } as const;
      const candidates: Tensor[] = [];
      if (inBatch) {
        candidates.push(dotGeneral(query, positive, across));
        if (negatives !== null)
          candidates.push(dotGeneral(query, reshape(negatives, [-1, features]), across));
      } else {
        candidates.push(dotGeneral(query, expandDims(positive, 1), own), dotGeneral(query, negatives!, own));
      }
      const logits = div(candidates.length === 1 ? candidates[0]! : concatenate(candidates, 1), temperature);
      const right = inBatch ? iota([rows], 0) : squeeze(iota([rows, 1], 1), 1);
      const hits = cast(equal(argmax(logits, -1), right), "float32");
      return { loss: crossEntropy(logits, right), metrics: { accuracy: mean(hits) } };
    },
  }) as Loss<M, OnDevice<PairFields>>;
}
