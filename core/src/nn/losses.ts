/** Losses. */

import { broadcastTo, ones, sum, zeros } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { iota } from "../array/creation.js";
import {
  add,
  cast,
  div,
  equal,
  exp,
  mul,
  neg,
  square,
  stopGradient,
  sub,
  tanh,
  where,
} from "../array/elementwise.js";
import { INTEGERS } from "../array/given.js";
import { limits } from "../array/hostdata.js";
import { slice, wide } from "../array/indexing.js";
import { argmax, logsumexp, mean } from "../array/reductions.js";
import { expandDims, moveAxis, pad, reshape } from "../array/shaping.js";
import { softplus } from "../array/smooth.js";
import { Tensor } from "../array/tensor.js";
import { isInteger } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { customVjp } from "../transform/custom.js";
import { remat } from "../transform/remat.js";
import { scan } from "../transform/scan.js";
import { Embedding, Linear } from "./layers.js";

export interface CrossEntropyOptions {
  /** [...], the share of each position; default 1 each. */
  weights?: Tensor;
  /** Positions whose target is this number do not count, whatever their weight. Default -100, as in PyTorch. */
  ignoreIndex?: number;
  /** The share of the target's probability that is spread evenly over all classes (Szegedy et al. 2016, section 7). Default 0. */
  labelSmoothing?: number;
}

/**
 * Mean negative log-likelihood, in nats, of integer `targets` [...] under `logits` [..., classes], in float32:
 * sum(weights · losses) / sum(weights). Where no position counts it is 0.
 *
 * The target's logit is picked by comparison, not by a gather, so that it and its gradient fuse with the reads of the logits.
 *
 * @param targets - from 0 to classes - 1, or `ignoreIndex`: others are not found out
 * @param options - or the weights alone
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor,
  options: Tensor | CrossEntropyOptions = {},
): Tensor {
  if (logits.ndim !== targets.ndim + 1 || targets.shape.some((d, i) => d !== logits.shape[i])) {
    throw new ShapeError(
      `crossEntropy: logits [${logits.shape.join(", ")}] and targets [${targets.shape.join(", ")}]`,
      "targets have the shape of the logits without the last axis",
    );
  }
  const { weights, ignoreIndex, labelSmoothing } = options instanceof Tensor ? { weights: options } : options;
  checkTargets("crossEntropy", targets);
  const smoothing = checkSmoothing("crossEntropy", labelSmoothing);
  const wide = cast(logits, "float32");
  const losses = surprises(wide, logsumexp(wide, -1), isTarget(wide, targets), smoothing);
  const { shares, total } = sharesOf(targets, weights, ignoreIndex);
  return div(sum(mul(losses, shares)), total);
}

/** [...]: minus the log-likelihood of the target, or of it and all classes by the share `smoothing`. */
function surprises(logits: Tensor, lse: Tensor, right: Tensor, smoothing: number): Tensor {
  const hit = sum(where(right, logits, 0), -1);
  if (smoothing === 0) return sub(lse, hit);
  return sub(lse, add(mul(hit, 1 - smoothing), mul(mean(logits, -1), smoothing)));
}

/** The shares of positions, 0 of those to ignore, and what their losses are divided by: the sum, or 1 where that is 0. */
function sharesOf(targets: Tensor, weights: Tensor | undefined, ignoreIndex = -100) {
  const given =
    weights === undefined ? ones(targets.shape) : broadcastTo(cast(weights, "float32"), targets.shape);
  const { min, max } = limits(targets.dtype);
  // A number that the targets' type does not have is none of them.
  const shares =
    ignoreIndex < min || ignoreIndex > max ? given : where(equal(targets, ignoreIndex), 0, given);
  const total = sum(shares);
  return { shares, total: where(equal(total, 0), 1, total) };
}

function checkSmoothing(loss: string, smoothing = 0): number {
  if (!(smoothing >= 0 && smoothing < 1))
    throw new ArgumentError(`${loss}: labelSmoothing is ${smoothing}`, "give a number from 0 to below 1");
  return smoothing;
}

function checkTargets(loss: string, targets: Tensor): void {
  if (!isInteger(targets.dtype))
    throw new DTypeError(`${loss}: targets are ${targets.dtype}`, `give classes, integers: ${INTEGERS}`);
}

/** [..., classes]: whether the class is the target. */
function isTarget(logits: Tensor, targets: Tensor): Tensor {
  // Classes may be more than a narrow type can count.
  const ids = wide(targets);
  return equal(iota(logits.shape, logits.ndim - 1, { dtype: ids.dtype }), expandDims(ids, -1));
}

export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** Positions along the last axis of `targets` whose logits exist at a time; default as many as fit `logitBytes`. */
  chunk?: number;
  /** Bounds the logits: softCap · tanh(logits / softCap) (Gemma 2). */
  softCap?: number;
  /** Memory for the logits of a chunk. Default 512 MiB. */
  logitBytes?: number;
}

/**
 * `crossEntropy(hidden · weightᵀ, targets, options)` whose logits exist for one chunk of positions at a time, in float32. Each chunk's
 * gradient is computed beside its loss, so that its logits are computed once (as in Hsu et al. 2024, "Liger Kernel", section 3.2).
 *
 * @param hidden - [..., time, features]
 * @param output - the weight, [classes, features], or the layer that makes logits of states
 * @param targets - integer [..., time]
 */
export function linearCrossEntropy(
  hidden: Tensor,
  output: Tensor | OutputLayer,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor {
  const { weights, chunk, softCap, logitBytes = 2 ** 29, ignoreIndex, labelSmoothing } = options;
  const weight = output instanceof Tensor ? output : output.weight;
  const [classes, features] = weight.shape as [number, number];
  const fits = hidden.ndim === targets.ndim + 1 && targets.shape.every((d, i) => d === hidden.shape[i]);
  if (!fits || targets.ndim === 0 || weight.ndim !== 2 || hidden.shape.at(-1) !== features) {
    throw new ShapeError(
      `linearCrossEntropy: hidden [${hidden.shape.join(", ")}], weight [${weight.shape.join(", ")}], targets [${targets.shape.join(", ")}]`,
      "hidden is [..., time, features], weight [classes, features], targets [..., time]",
    );
  }
  checkTargets("linearCrossEntropy", targets);
  const smoothing = checkSmoothing("linearCrossEntropy", labelSmoothing);
  if (chunk !== undefined && !(Number.isInteger(chunk) && chunk > 0))
    throw new ArgumentError(`linearCrossEntropy: chunk is ${chunk}`, "give a positive integer");
  const time = targets.shape.at(-1)!;
  const rows = targets.size / time;
  const wanted = chunk ?? Math.max(1, Math.floor(logitBytes / (4 * classes * rows)));
  const chunks = Math.ceil(time / wanted);
  const size = Math.ceil(time / chunks);
  // Chunks run along time, so that a batch that is split over devices stays split; [chunks, rows, size, ...].
  const cut = (x: Tensor, tail: readonly number[]): Tensor => {
    const flat = reshape(x, [rows, time, ...tail]);
    const whole =
      chunks * size === time
        ? flat
        : pad(flat, [[0, 0], [0, chunks * size - time], ...tail.map(() => [0, 0] as const)]);
    return moveAxis(reshape(whole, [rows, chunks, size, ...tail]), 1, 0);
  };
  const { shares, total } = sharesOf(targets, weights, ignoreIndex);
  const parts = { hidden: cut(hidden, [features]), targets: cut(targets, []), shares: cut(shares, []) };
  const summed = isPlain(output)
    ? summedLosses(softCap, smoothing)(weight, parts)
    : summedByLayer(output, softCap, smoothing)(parts);
  return div(summed, total);
}

/** A `Linear`, or an `Embedding` whose table is the output layer's too, and whatever computes in their place. */
export interface OutputLayer {
  readonly weight: Tensor;
  forward(x: Tensor): Tensor;
  /** Makes the logits, where there is such a function. */
  attend?(x: Tensor): Tensor;
}

/** Whether logits are products with the weight, and nothing else. */
function isPlain(output: Tensor | OutputLayer): boolean {
  if (output instanceof Tensor) return true;
  const prototype: unknown = Object.getPrototypeOf(output);
  return (
    (prototype === Linear.prototype && (output as Linear).bias === null) || prototype === Embedding.prototype
  );
}

/** The weighted sum of the losses of chunks, whose logits a layer makes, once more for the derivative. */
function summedByLayer(output: Tensor | OutputLayer, softCap: number | undefined, smoothing: number) {
  const layer = output as OutputLayer;
  const one = remat(({ hidden, targets, shares }: Chunk): Tensor => {
    const raw = cast(layer.attend?.(hidden) ?? layer.forward(hidden), "float32");
    const logits = softCap === undefined ? raw : mul(tanh(div(raw, softCap)), softCap);
    const losses = surprises(logits, logsumexp(logits, -1), isTarget(logits, targets), smoothing);
    return sum(mul(losses, shares));
  });
  return (chunks: Chunk): Tensor => {
    const step = (so: Tensor, x: Chunk) => [add(so, one(x)), null] as readonly [Tensor, null];
    return scan(step, zeros([]), chunks)[0];
  };
}

/**
 * The likeliest class at each position, of the logits that `output` makes of `hidden`, int32 [..., time]: as in `linearCrossEntropy` the logits exist for one chunk of positions
 * at a time. No gradient goes through it.
 *
 * @param hidden - [..., time, features]
 * @param output - the weight, [classes, features], or the layer that makes logits of states
 */
export function linearArgmax(
  hidden: Tensor,
  output: Tensor | OutputLayer,
  { chunk, logitBytes = 2 ** 29 }: Pick<LinearCrossEntropyOptions, "chunk" | "logitBytes"> = {},
): Tensor {
  const lead = hidden.shape.slice(0, -1);
  const weight = output instanceof Tensor ? output : output.weight;
  const [classes, features] = weight.shape as [number, number];
  if (lead.length === 0 || weight.ndim !== 2 || hidden.shape.at(-1) !== features) {
    throw new ShapeError(
      `linearArgmax: hidden [${hidden.shape.join(", ")}], weight [${weight.shape.join(", ")}]`,
      "hidden is [..., time, features], weight [classes, features]",
    );
  }
  const time = lead.at(-1)!;
  const rows = lead.slice(0, -1).reduce((n, d) => n * d, 1);
  const wanted = chunk ?? Math.max(1, Math.floor(logitBytes / (4 * classes * rows)));
  const chunks = Math.ceil(time / wanted);
  const size = Math.ceil(time / chunks);
  const flat = reshape(stopGradient(hidden), [rows, time, features]);
  const whole =
    chunks * size === time
      ? flat
      : pad(flat, [
          [0, 0],
          [0, chunks * size - time],
          [0, 0],
        ]);
  const along = { contract: [[2], [1]], batch: [[], []] } as const;
  const logitsOf = (x: Tensor): Tensor =>
    output instanceof Tensor || isPlain(output)
      ? dotGeneral(x, weight, along, { dtype: "float32" })
      : (output.attend?.(x) ?? output.forward(x));
  const [, likeliest] = scan(
    (done: Tensor, x: Tensor) => {
      return [done, argmax(stopGradient(logitsOf(x)), -1)] as const;
    },
    zeros([]),
    moveAxis(reshape(whole, [rows, chunks, size, features]), 1, 0),
  ) as unknown as [Tensor, Tensor];
  const joined = reshape(moveAxis(likeliest, 0, 1), [rows, chunks * size]);
  return reshape(chunks * size === time ? joined : slice(joined, null, [0, time]), lead);
}

type Chunk = { hidden: Tensor; targets: Tensor; shares: Tensor };

/** The losses of a chunk, and the gradients of their sum, weighted by the shares, with respect to `hidden` and (in float32) `weight`. */
function chunkLosses(
  weight: Tensor,
  { hidden, targets, shares }: Chunk,
  softCap: number | undefined,
  smoothing: number,
) {
  const features = { contract: [[hidden.ndim - 1], [1]], batch: [[], []] } as const;
  const raw = dotGeneral(hidden, weight, features, { dtype: "float32" });
  const bent = softCap === undefined ? undefined : tanh(div(raw, softCap));
  const logits = bent === undefined ? raw : mul(bent, softCap!);
  const [lse, right] = [logsumexp(logits, -1), isTarget(logits, targets)];
  const losses = surprises(logits, lse, right, smoothing);
  const likelihoods = exp(sub(logits, expandDims(lse, -1)));
  const others = smoothing === 0 ? likelihoods : sub(likelihoods, smoothing / weight.shape[0]!);
  const surprise = mul(where(right, sub(others, 1 - smoothing), others), expandDims(shares, -1));
  const g = cast(bent === undefined ? surprise : mul(surprise, sub(1, square(bent))), hidden.dtype);
  const positions = g.shape.slice(0, -1).map((_, i) => i);
  const [overClasses, overPositions] = [[[g.ndim - 1], [0]] as const, [positions, positions] as const];
  const dHidden = cast(dotGeneral(g, weight, { contract: overClasses, batch: [[], []] }), hidden.dtype);
  const dWeight = dotGeneral(g, hidden, { contract: overPositions, batch: [[], []] }, { dtype: "float32" });
  return { losses, dHidden, dWeight };
}

/** The weighted sum of the losses of chunks: hidden [chunks, rows, size, features], targets and shares [chunks, rows, size]. */
function summedLosses(softCap: number | undefined, smoothing: number) {
  // Where no gradient is asked for, the compiler leaves out of the loop what is for gradients alone.
  const forward = (weight: Tensor, chunks: Chunk) => {
    const [dWeight, { losses, dHidden }] = scan(
      (total: Tensor, x: Chunk) => {
        const { dWeight, ...rest } = chunkLosses(weight, x, softCap, smoothing);
        return [add(total, dWeight), rest] as const;
      },
      zeros(weight.shape),
      chunks,
    ) as unknown as [Tensor, { losses: Tensor; dHidden: Tensor }];
    const { targets, shares } = chunks;
    return [sum(mul(losses, shares)), { losses, dHidden, dWeight, weight, targets }] as const;
  };
  return customVjp(
    (weight: Tensor, chunks: Chunk) => forward(weight, chunks)[0],
    forward,
    ({ losses, dHidden, dWeight, weight, targets }, g) => [
      cast(mul(dWeight, g), weight.dtype),
      { hidden: cast(mul(dHidden, g), dHidden.dtype), targets, shares: mul(losses, g) },
    ],
  );
}

export interface BinaryCrossEntropyOptions {
  /** The share of each element, of a shape that broadcasts to that of the logits; default 1 each. */
  weights?: Tensor;
  /** Factor of the losses of positive examples, of a shape that broadcasts to that of the logits; default 1. */
  positiveWeight?: Tensor | number;
}

/**
 * Mean negative log-likelihood, in nats, of `targets` (probabilities, 0 and 1 mostly) under independent Bernoulli variables of the given
 * `logits`, in float32: sum(weights · losses) / sum(weights), 0 where the weights are. Exact for large logits too.
 */
export function binaryCrossEntropyWithLogits(
  logits: Tensor,
  targets: Tensor,
  { weights, positiveWeight = 1 }: BinaryCrossEntropyOptions = {},
): Tensor {
  if (logits.shape.join() !== targets.shape.join()) {
    throw new ShapeError(
      `binaryCrossEntropyWithLogits: logits [${logits.shape.join(", ")}] and targets [${targets.shape.join(", ")}]`,
      "both have one shape",
    );
  }
  const [x, z] = [cast(logits, "float32"), cast(targets, "float32")];
  const factor = add(mul(sub(positiveWeight, 1), z), 1);
  const losses = add(mul(sub(1, z), x), mul(factor, softplus(neg(x))));
  if (weights === undefined) return mean(losses);
  const shares = broadcastTo(cast(weights, "float32"), losses.shape);
  const total = sum(shares);
  return div(sum(mul(losses, shares)), where(equal(total, 0), 1, total));
}
