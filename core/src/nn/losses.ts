/** Losses. */

import { sum } from "../array/broadcast.js";
import { iota } from "../array/creation.js";
import { cast, div, equal, maximum, mul, sub, where } from "../array/elementwise.js";
import { logsumexp, mean } from "../array/reductions.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ShapeError } from "../graph/errors.js";

/**
 * Mean negative log-likelihood, in nats, of integer `targets` [...] under `logits` [..., classes], in float32.
 *
 * The target's logit is picked by comparison, not by a gather, so that it and its gradient fuse with the reads of the logits.
 *
 * @param weights - [...], the share of each position; default 1 each
 */
export function crossEntropy(logits: Tensor, targets: Tensor, weights?: Tensor): Tensor {
  if (logits.ndim !== targets.ndim + 1 || targets.shape.some((d, i) => d !== logits.shape[i])) {
    throw new ShapeError(
      `crossEntropy: logits [${logits.shape.join(", ")}] and targets [${targets.shape.join(", ")}]`,
      "targets have the shape of the logits without the last axis",
    );
  }
  const wide = cast(logits, "float32");
  const classes = iota(logits.shape, logits.ndim - 1, { dtype: targets.dtype });
  const picked = sum(where(equal(classes, expandDims(targets, -1)), wide, 0), -1);
  const losses = sub(logsumexp(wide, -1), picked);
  if (weights === undefined) return mean(losses);
  return div(sum(mul(losses, weights)), maximum(sum(weights), 1));
}
