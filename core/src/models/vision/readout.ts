/** What a trained encoder knows, read out without training it: by neighbours, by texts, by a linear layer; and rates by depth. */

import { sum } from "../../array/broadcast.js";
import { matmul } from "../../array/contraction.js";
import { div, exp, mul, sub } from "../../array/elementwise.js";
import { take } from "../../array/indexing.js";
import { max, mean, oneHot } from "../../array/reductions.js";
import { expandDims, reshape, transpose } from "../../array/shaping.js";
import { topK } from "../../array/sorting.js";
import type { Tensor } from "../../array/tensor.js";
import { ArgumentError, ShapeError } from "../../graph/errors.js";
import type { Module } from "../../nn/module.js";
import { flatten } from "../../transform/tree.js";
import { unit } from "./dual.js";

/**
 * Votes of the k most alike of known features, each by exp(cosine / temperature) (Wu et al. 2018, "Unsupervised feature learning via
 * non-parametric instance discrimination", section 3.4).
 *
 * @param queries - [queries, features]
 * @param known - [known, features]
 * @param labels - integer [known]
 * @returns [queries, classes], of sum 1
 */
export function nearestNeighbours(
  queries: Tensor,
  known: Tensor,
  labels: Tensor,
  { k = 20, classes, temperature = 0.07 }: { k?: number; classes: number; temperature?: number },
): Tensor {
  const count = known.shape[0]!;
  if (
    queries.ndim !== 2 ||
    known.ndim !== 2 ||
    queries.shape[1] !== known.shape[1] ||
    labels.shape.join() !== `${count}`
  )
    throw new ShapeError(
      `nearestNeighbours: queries [${queries.shape.join(", ")}], known [${known.shape.join(", ")}], labels [${labels.shape.join(", ")}]`,
      "give [queries, features], [known, features] and [known]",
    );
  if (!(Number.isInteger(k) && k >= 1 && k <= count))
    throw new ArgumentError(`nearestNeighbours: k is ${k}`, `give 1 to ${count}, of so many known`);
  const [alike, places] = topK(matmul(unit(queries), transpose(unit(known))), k);
  const weights = exp(div(sub(alike, max(alike, -1, { keepDims: true })), temperature));
  const votes = oneHot(reshape(take(labels, reshape(places, [-1]), 0), places.shape), classes);
  const total = sum(mul(votes, expandDims(weights, -1)), 1);
  return div(total, sum(total, -1, { keepDims: true }));
}

/**
 * A classifier made of texts: the mean direction of each class's prompts (Radford et al. 2021, section 3.1.4).
 *
 * @param texts - [classes · prompts, features], the prompts of a class one after the other
 * @returns [classes, features], of length 1; `matmul(images, transpose(result))` are the scores
 */
export function zeroShot(texts: Tensor, prompts = 1): Tensor {
  const [rows, features] = texts.shape as [number, number];
  if (texts.ndim !== 2 || rows % prompts !== 0)
    throw new ShapeError(
      `zeroShot: texts [${texts.shape.join(", ")}] of ${prompts} prompts a class`,
      "give [classes · prompts, features]",
    );
  return unit(mean(reshape(unit(texts), [rows / prompts, prompts, features]), 1));
}

/**
 * Groups for an optimizer whose rates fall with the distance from the head, by `decay` a layer (Clark et al. 2020, "ELECTRA"; Bao et al. 2022, "BEiT"):
 * what comes before the layers is one below the first.
 *
 * @param model - with lists of layers named `layers`, `blocks` or `stages`
 */
export function layerwiseRates(
  model: Module,
  decay: number,
): { match: (path: string) => boolean; learningRateFactor: number }[] {
  if (!(decay > 0 && decay <= 1))
    throw new ArgumentError(`layerwiseRates: decay is ${decay}`, "give a number from 0 to 1, e.g. 0.75");
  const { paths } = flatten(model);
  const depthOf = depths(paths);
  const deepest = Math.max(...paths.map(depthOf));
  if (deepest < 2)
    throw new ArgumentError(
      `layerwiseRates: ${model.constructor.name} has no list of layers`,
      `paths are like ${paths.slice(0, 3).join(", ")}`,
    );
  return Array.from({ length: deepest + 1 }, (_, depth) => ({
    match: (path: string) => depthOf(path) === depth,
    learningRateFactor: decay ** (deepest - depth),
  })).filter(({ match }) => paths.some(match));
}

/** 0 before the layers, then their numbers from 1 over all stages, and one more behind them. */
function depths(paths: readonly string[]): (path: string) => number {
  const place = (path: string): string | undefined =>
    /(?:^|\.)(?:stages\.\d+\.layers|layers\.\d+\.blocks|layers|blocks|stages)\.\d+(?=\.)/.exec(path)?.[0];
  const order = [...new Set(paths.flatMap((path) => place(path) ?? []))];
  return (path) => {
    const own = place(path);
    if (own !== undefined) return order.indexOf(own) + 1;
    return /^(classifier|pooler|norm|tower\.norm|distillationClassifier)\b/.test(path) ? order.length + 1 : 0;
  };
}
