/** Distillation: a model learns what another, frozen one holds likely. */
import { sum, zeros } from "../array/broadcast.js";
import {
  add,
  cast,
  clip,
  div,
  equal,
  exp,
  log1p,
  mul,
  neg,
  notEqual,
  stopGradient,
  sub,
  where,
} from "../array/elementwise.js";
import { takeAlongAxis } from "../array/indexing.js";
import { concatenate } from "../array/joining.js";
import { logSoftmax, logsumexp } from "../array/reductions.js";
import { expandDims, moveAxis, pad, reshape } from "../array/shaping.js";
import { logaddexp } from "../array/smooth.js";
import { topK as likeliest } from "../array/sorting.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { type Mean, ratio } from "../metrics/measures.js";
import type { Decoder } from "../models/llm/decoder.js";
import type { LanguageModel, TokenBatch } from "../models/llm/model.js";
import { supervisedPositions } from "../models/llm/supervised.js";
import type { Module } from "../nn/module.js";
import type { LossContext } from "../train/index.js";
import { remat } from "../transform/remat.js";
import { scan } from "../transform/scan.js";

export interface DistillationOptions {
  /** The name of the teacher among the Trainer's `references`. Default `"teacher"`. */
  teacher?: string;
  /**
   * `"forward"` is KL(teacher ‖ student), which covers all that the teacher holds likely; `"reverse"` is KL(student ‖ teacher), which keeps to some of it;
   * `"jensen-shannon"` lies between (Agarwal et al. 2024, "On-policy distillation of language models", equation 1). Default `"forward"`.
   */
  divergence?: "forward" | "reverse" | "jensen-shannon";
  /** Of `"jensen-shannon"`: the teacher's share of the mixture, above 0 and below 1. Default 0.5. */
  beta?: number;
  /** Both models' logits are divided by it, and the divergence multiplied by its square (Hinton et al. 2015, section 2). Default 1. */
  temperature?: number;
  /** Share of the divergence in the loss; the rest is the cross-entropy of the targets. Default 1. */
  weight?: number;
  /** Compares the teacher's likeliest tokens only, and all others together as one. Default all. */
  topK?: number;
  /** Memory for the logits of a chunk of positions, of both models together. Default 512 MiB. */
  logitBytes?: number;
}

/** Log-likelihoods of the same outcomes [..., outcomes], float32. */
interface Likelihoods {
  readonly teacher: Tensor;
  readonly student: Tensor;
}

/** Divergence [...] of distributions, in nats: the sum over their outcomes. */
export function divergenceOf(
  { teacher, student }: Likelihoods,
  kind: NonNullable<DistillationOptions["divergence"]>,
  beta: number,
): Tensor {
  const kl = (p: Tensor, q: Tensor): Tensor => {
    const share = exp(p);
    // What has no share in p adds nothing, whatever q says.
    return sum(where(equal(share, 0), 0, mul(share, sub(p, q))), -1);
  };
  if (kind === "forward") return kl(teacher, student);
  if (kind === "reverse") return kl(student, teacher);
  const mixture = logaddexp(add(teacher, Math.log(beta)), add(student, Math.log1p(-beta)));
  return add(mul(kl(teacher, mixture), beta), mul(kl(student, mixture), 1 - beta));
}

/** The likelihoods of the teacher's likeliest tokens, and of all others together. */
function coarse(teacher: Tensor, student: Tensor, count: number): Likelihoods {
  const [top, ids] = likeliest(teacher, count);
  const withRest = (found: Tensor): Tensor => {
    const together = exp(logsumexp(found, -1, { keepDims: true }));
    return concatenate([found, log1p(neg(clip(together, 0, 1 - 2 ** -23)))], -1);
  };
  return {
    teacher: withRest(top),
    student: withRest(takeAlongAxis(student, ids, -1)),
  };
}

/**
 * A loss for a Trainer whose model learns from a teacher, over the targets that count: `references: { teacher }`. The teacher reads its parameters where they
 * lie; the logits of both exist for a chunk of positions at a time. With the metrics `divergence` and `cross_entropy`.
 *
 * @throws ArgumentError for options of no sense, and where the teacher is missing or has another vocabulary
 */
export function distillation<M extends Module>(
  options: DistillationOptions = {},
): (model: M, batch: TokenBatch, context: LossContext) => { loss: Mean; metrics: Record<string, Mean> } {
  refuseUnknownOptions("llm.distillation", options, [
    "teacher",
    "divergence",
    "beta",
    "temperature",
    "weight",
    "topK",
    "logitBytes",
  ]);
  const {
    teacher: name = "teacher",
    divergence = "forward",
    beta = 0.5,
    temperature = 1,
    weight = 1,
  } = options;
  const { topK, logitBytes = 2 ** 29 } = options;
  const refuse = (field: string, value: unknown, fix: string): never => {
    throw new ArgumentError(`llm.distillation: ${field} is ${JSON.stringify(value)}`, fix);
  };
  if (!["forward", "reverse", "jensen-shannon"].includes(divergence))
    refuse("divergence", divergence, 'use "forward", "reverse" or "jensen-shannon"');
  if (!(beta > 0 && beta < 1)) refuse("beta", beta, "give a share above 0 and below 1");
  if (!(temperature > 0 && Number.isFinite(temperature)))
    refuse("temperature", temperature, "give a positive number");
  if (!(weight >= 0 && weight <= 1)) refuse("weight", weight, "give a share from 0 to 1");
  if (topK !== undefined && !(Number.isInteger(topK) && topK >= 1))
    refuse("topK", topK, "give a positive integer");
  return (model, batch, { references }) => {
    const student = model as unknown as Decoder;
    const teacher = references[name] as unknown as (LanguageModel & Module) | undefined;
    if (teacher === undefined)
      throw new ArgumentError(
        `llm.distillation: there is no reference "${name}"`,
        `give the Trainer one: references: { ${name}: model }`,
      );
    const [own, others] = [student.config.vocabSize, teacher.config.vocabSize];
    if (own !== others)
      throw new ArgumentError(
        `llm.distillation: the teacher has ${others} tokens, the model ${own}`,
        "both read with one tokenizer; llm.resizeVocabulary brings them to one size",
      );
    if (topK !== undefined && topK >= own) refuse("topK", topK, `give fewer than the ${own} tokens`);
    const { inputs, segments, positions } = batch;
    const learnt = supervisedPositions(student.hidden(inputs, { segments, positions }), batch);
    const taught = supervisedPositions(stopGradient(teacher.hidden(inputs, { segments, positions })), batch);
    const counts = cast(notEqual(learnt.targets, -100), "float32");
    const shares = learnt.weights === undefined ? counts : mul(counts, cast(learnt.weights, "float32"));
    const of = (m: LanguageModel, hidden: Tensor): Tensor => cast(m.logits(hidden), "float32");
    const figures = remat((hidden: Tensor, above: Tensor, targets: Tensor, share: Tensor) => {
      const logits = of(student, hidden);
      const wide = {
        student: logSoftmax(div(logits, temperature), -1),
        teacher: logSoftmax(div(stopGradient(of(teacher, above)), temperature), -1),
      };
      const compared = topK === undefined ? wide : coarse(wide.teacher, wide.student, topK);
      const apart = mul(divergenceOf(compared, divergence, beta), temperature ** 2);
      const plain = temperature === 1 ? wide.student : logSoftmax(logits, -1);
      const known = expandDims(where(equal(targets, -100), 0, targets), -1);
      const surprise = neg(takeAlongAxis(plain, known, -1));
      return [sum(mul(apart, share)), sum(mul(reshape(surprise, targets.shape), share))] as const;
    });
    const chunks = inChunks([learnt.hidden, taught.hidden, learnt.targets, shares], 2 * own, logitBytes);
    const [apart, surprise] = scan(
      ([a, b]: readonly [Tensor, Tensor], each: Chunks) => {
        const [more, mores] = figures(...each);
        return [[add(a, more), add(b, mores)] as const, zeros([])] as const;
      },
      [zeros([]), zeros([])] as const,
      chunks,
    )[0] as unknown as [Tensor, Tensor];
    const total = sum(shares);
    const loss = add(mul(apart, weight), mul(surprise, 1 - weight));
    return {
      loss: ratio(loss, total),
      metrics: { divergence: ratio(apart, total), cross_entropy: ratio(surprise, total) },
    };
  };
}

type Chunks = readonly [hidden: Tensor, above: Tensor, targets: Tensor, shares: Tensor];

/** Positions [batch, places, ...] as [chunks, batch, size, ...]: as many at a time as their logits, `width` numbers each, fit. */
function inChunks(arrays: Chunks, width: number, bytes: number): Chunks {
  const [batch, places] = arrays[2].shape as [number, number];
  const wanted = Math.max(1, Math.floor(bytes / (4 * width * batch)));
  const count = Math.ceil(places / wanted);
  const size = Math.ceil(places / count);
  return arrays.map((x, i) => {
    const tail = x.shape.slice(2);
    const missing = count * size - places;
    const low = tail.map(() => [0, 0] as const);
    // Filled up with places that do not count.
    const whole = missing === 0 ? x : pad(x, [[0, 0], [0, missing], ...low], i === 2 ? -100 : 0);
    return moveAxis(reshape(whole, [batch, count, size, ...tail]), 1, 0);
  }) as unknown as Chunks;
}
