/** Losses of pairs: which picture belongs to which text. Of a batch that is spread over devices all features meet, with their gradients. */
import { sum } from "../array/broadcast.js";
import { iota } from "../array/creation.js";
import { add, div, equal, mul, neg, where } from "../array/elementwise.js";
import { transpose } from "../array/shaping.js";
import { logSigmoid } from "../array/smooth.js";
import type { Tensor } from "../array/tensor.js";
import { ShapeError } from "../graph/errors.js";
import { crossEntropy } from "./losses.js";

function checkPairs(name: string, { shape }: Tensor): number {
  if (shape.length === 2 && shape[0] === shape[1]) return shape[0]!;
  throw new ShapeError(
    `${name}: the logits have shape [${shape.join(", ")}]`,
    "give [n, n]: a row a picture, a column a text, pairs on the diagonal",
  );
}

/**
 * The mean of the cross-entropies of the right text for each picture and of the right picture for each text (Radford et al. 2021, figure 3).
 *
 * @param logits - [n, n], scaled; pairs on the diagonal
 */
export function clipLoss(logits: Tensor): Tensor {
  const own = iota([checkPairs("clipLoss", logits)], 0);
  return mul(add(crossEntropy(logits, own), crossEntropy(transpose(logits), own)), 0.5);
}

/**
 * Each pair by itself, right or not: -1/n Σᵢⱼ log σ(±logits) (Zhai et al. 2023, "Sigmoid loss for language image pre-training", equation 1).
 *
 * @param logits - [n, n], scaled and shifted; pairs on the diagonal
 */
export function sigmoidPairLoss(logits: Tensor): Tensor {
  const n = checkPairs("sigmoidPairLoss", logits);
  const own = equal(iota([n, n], 0), iota([n, n], 1));
  return div(neg(sum(logSigmoid(where(own, logits, neg(logits))))), n);
}
