/** Loss, gradients, metrics and new buffers of a batch: whole, in parts one after another, or in parts whose rows meet in their embeddings. */
import { zeros, zerosLike } from "../array/broadcast.js";
import { iota, scalar } from "../array/creation.js";
import { add, cast, div, equal, maximum, mul, sqrt, square, where } from "../array/elementwise.js";
import { foldIn, type Key } from "../array/random.js";
import { mean } from "../array/reductions.js";
import { reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { combined, type Measure, quotient } from "../metrics/measures.js";
import { withKeys } from "../nn/dropout.js";
import type { Module } from "../nn/module.js";
import type { Leaves } from "../optim/groups.js";
import { withUpdates } from "../transform/buffers.js";
import { scan } from "../transform/scan.js";
import { map } from "../transform/tree.js";
import { valueAndGradWithAux, vjp } from "../transform/vjp.js";
import { type CoupledLoss, couplingOf, type LossContext, type LossResult, measured } from "./loss.js";
import { type DeviceFields, inPieces, type PlacedBatch } from "./placement.js";
import { observing } from "./statistics.js";

export type AnyLoss = (model: Module, batch: DeviceFields, context: LossContext) => LossResult;

/** What is differentiated, and by what. */
export interface Problem {
  readonly loss: AnyLoss;
  /** By which parameters. */
  readonly parameters: Leaves;
  readonly buffers: Leaves;
  /** Paths of those buffers that take their new values from the derivative. */
  readonly cotangents: readonly string[];
  /** The model as a loss computes with it, from parameters and buffers. */
  model(leaves: Leaves): Module;
  /** A model's leaves at paths. */
  leaves(paths: readonly string[], model: Module): Leaves;
  context(key: Key): LossContext;
  /** What the loss is multiplied by while it is differentiated. */
  readonly scale: Tensor | undefined;
  /** Whether what blocks return is measured. */
  readonly activations: boolean;
}

export interface Found {
  /** Of the batch, by its weights; float32 scalar. */
  readonly loss: Tensor;
  /** By path, of the parameters' types; multiplied by the scale. */
  readonly gradients: Leaves;
  readonly buffers: Leaves;
  readonly metrics: Readonly<Record<string, Measure>>;
  /** Sizes of activations by column. */
  readonly activations: Leaves;
}

/** What a part's loss function leaves beside its value. */
interface Beside {
  readonly weight: Tensor;
  readonly metrics: Readonly<Record<string, Measure>>;
  readonly buffers: Leaves;
  readonly activations: Leaves;
}

export function gradientsOf(problem: Problem, batch: PlacedBatch, key: Key): Found {
  const coupling = couplingOf(problem.loss);
  if (batch.parts === "1") return whole(problem, batch.fields, key);
  if (coupling === true) {
    throw new ArgumentError(
      `Trainer: accumulate is ${batch.parts}, and the loss couples the rows of a batch: of parts it would be another loss`,
      "leave accumulate out, or declare how the rows meet: coupled({ embed, loss })",
    );
  }
  return coupling === undefined
    ? inTurn(problem, batch, key)
    : cached(problem, coupling as CoupledLoss<Module, DeviceFields, unknown>, batch, key);
}

/** Runs `f` on the model with its buffers live, and keys for its dropout: its result, the buffers it left, and what blocks returned. */
function run<R>(
  { model, leaves, activations }: Problem,
  given: Leaves,
  key: Key,
  cotangents: readonly string[],
  buffers: Leaves,
  f: (model: Module) => R,
): { result: R; buffers: Leaves; activations: Leaves } {
  const forward = Object.keys(buffers).filter((path) => !cotangents.includes(path));
  const [[result, noted], after] = withUpdates(withKeys(model(given), key), (live): [R, Leaves] =>
    activations ? observing(live, f) : [f(live), {}],
  );
  return { result, buffers: leaves(forward, after), activations: noted };
}

interface Sources {
  readonly parameters: Leaves;
  readonly cotangents: Leaves;
}

function sourcesOf({ parameters, buffers, cotangents }: Problem, now: Leaves = buffers): Sources {
  return { parameters, cotangents: Object.fromEntries(cotangents.map((path) => [path, now[path]!])) };
}

/** The loss of one part as a function of what it is differentiated by. */
function lossOf(problem: Problem, buffers: Leaves) {
  return (sources: Sources, fields: DeviceFields, key: Key): [Tensor, Beside] => {
    const given = { ...buffers, ...sources.parameters, ...sources.cotangents };
    const { result, ...beside } = run(problem, given, key, problem.cotangents, buffers, (live) =>
      measured(problem.loss(live, fields, problem.context(key)), fields),
    );
    return [
      scaled(problem, result.value),
      { weight: result.loss.weight, metrics: result.metrics, ...beside },
    ];
  };
}

function scaled({ scale }: Problem, value: Tensor): Tensor {
  return scale === undefined ? value : mul(value, scale);
}

function unscaled({ scale }: Problem, value: Tensor): Tensor {
  return scale === undefined ? value : div(value, scale);
}

function whole(problem: Problem, fields: DeviceFields, key: Key): Found {
  const [value, slopes, beside] = valueAndGradWithAux(lossOf(problem, problem.buffers))(
    sourcesOf(problem),
    fields,
    key,
  );
  return {
    loss: unscaled(problem, value),
    gradients: slopes.parameters,
    buffers: { ...beside.buffers, ...newValues(problem, slopes.cotangents) },
    metrics: beside.metrics,
    activations: beside.activations,
  };
}

/** Cotangents of a scaled loss as new values of buffers. */
function newValues(problem: Problem, cotangents: Leaves): Leaves {
  return map((g) => cast(unscaled(problem, g), g.dtype), cotangents);
}

/**
 * One part after another in a scan, with the result of the whole batch: numerators and gradients are summed and divided once by the weight of
 * all parts. Buffers go from part to part.
 */
function inTurn(problem: Problem, batch: PlacedBatch, key: Key): Found {
  const count = Number(batch.parts);
  const { pieces, assemble } = inPieces(batch);
  const start = {
    total: scalar(0, "float32"),
    weight: scalar(0, "float32"),
    gradients: map((p) => zeros(p.shape), problem.parameters),
    buffers: problem.buffers,
    cotangents: map((b) => zerosLike(b), sourcesOf(problem).cotangents),
  };
  const [sums, noted] = scan(
    (
      now: typeof start,
      part: { piece: Readonly<Record<string, Tensor>>; index: Tensor },
    ): [typeof start, Pick<Beside, "metrics" | "activations">] => {
      const own = foldIn(key, part.index);
      const [value, slopes, beside] = valueAndGradWithAux(lossOf(problem, now.buffers))(
        sourcesOf(problem, now.buffers),
        assemble(part.piece),
        own,
      );
      const { weight, metrics, activations } = beside;
      // A part of no weight may have any value.
      const weigh = (to: Tensor, x: Tensor): Tensor =>
        add(to, where(equal(weight, 0), 0, mul(cast(x, "float32"), weight)));
      const next = {
        total: weigh(now.total, unscaled(problem, value)),
        weight: add(now.weight, weight),
        gradients: map((sum, g) => weigh(sum, g), now.gradients, slopes.parameters),
        buffers: { ...now.buffers, ...beside.buffers },
        cotangents: map((most, g) => maximum(most, g), now.cotangents, newValues(problem, slopes.cotangents)),
      };
      return [next, { metrics, activations }];
    },
    start,
    { piece: pieces, index: iota([count], 0, { dtype: "int32" }) },
  );
  const by = where(equal(sums.weight, 0), 1, sums.weight);
  return {
    loss: div(sums.total, by),
    gradients: map((sum, p) => cast(div(sum, by), p.dtype), sums.gradients, problem.parameters),
    buffers: { ...sums.buffers, ...sums.cotangents },
    metrics: combined(noted.metrics),
    activations: map((x) => sqrt(mean(square(x))), noted.activations),
  };
}

/** GradCache: all embeddings, the loss and its derivative by them, then part by part the derivative of the embeddings. */
function cached(
  problem: Problem,
  { embed, loss }: CoupledLoss<Module, DeviceFields, unknown>,
  batch: PlacedBatch,
  key: Key,
): Found {
  const count = Number(batch.parts);
  const { pieces, assemble } = inPieces(batch);
  if (problem.cotangents.length > 0) {
    throw new ArgumentError(
      "Trainer: a coupled loss in parts, of a model with buffers that take their values from the derivative",
      "leave accumulate out",
    );
  }
  const parts = { piece: pieces, index: iota([count], 0, { dtype: "int32" }) };
  const embedded = (
    parameters: Leaves,
    buffers: Leaves,
    piece: Readonly<Record<string, Tensor>>,
    index: Tensor,
  ) =>
    run(problem, { ...buffers, ...parameters }, foldIn(key, index), [], buffers, (live) =>
      embed(live, assemble(piece), problem.context(foldIn(key, index))),
    );
  // The first time for the values only; buffers are as the second time will find them.
  const [, stacked] = scan(
    (buffers: Leaves, { piece, index }: typeof parts): [Leaves, unknown] => {
      const found = embedded(problem.parameters, buffers, piece, index);
      return [{ ...buffers, ...found.buffers }, found.result];
    },
    problem.buffers,
    parts,
  );
  const joined = map((e) => reshape(e, [e.shape[0]! * e.shape[1]!, ...e.shape.slice(2)]), stacked);
  const [value, slopes, beside] = valueAndGradWithAux(
    (sources: { parameters: Leaves; joined: unknown }): [Tensor, Pick<Beside, "metrics">] => {
      const live = problem.model({ ...problem.buffers, ...sources.parameters });
      const figures = measured(
        loss(live, sources.joined, problem.context(foldIn(key, count))),
        sources.joined,
      );
      return [scaled(problem, figures.value), { metrics: figures.metrics }];
    },
  )({ parameters: problem.parameters, joined });
  const cotangents = map((g) => reshape(g, [count, g.shape[0]! / count, ...g.shape.slice(1)]), slopes.joined);
  const start = { gradients: map((g) => cast(g, "float32"), slopes.parameters), buffers: problem.buffers };
  const [sums, activations] = scan(
    (now: typeof start, { part, given }: { part: typeof parts; given: unknown }): [typeof start, Leaves] => {
      let left: Omit<ReturnType<typeof embedded>, "result"> | undefined;
      const [out, pull] = vjp((parameters: Leaves) => {
        const found = embedded(parameters, now.buffers, part.piece, part.index);
        left = found;
        return found.result;
      }, problem.parameters);
      // By path: a scan's results have their fields in another order than they were returned in.
      const [own] = pull(map((_, g) => g, out, given));
      const next = {
        gradients: map((sum, g) => add(sum, cast(g, "float32")), now.gradients, own),
        buffers: { ...now.buffers, ...left!.buffers },
      };
      return [next, left!.activations];
    },
    start,
    { part: parts, given: cotangents },
  );
  return {
    loss: unscaled(problem, value),
    gradients: map((sum, p) => cast(sum, p.dtype), sums.gradients, problem.parameters),
    buffers: sums.buffers,
    metrics: beside.metrics,
    activations: map((x) => sqrt(mean(square(x))), activations),
  };
}

/** A mean as the number that is reported: NaN where nothing was measured. */
export function reported(measure: Measure): Tensor {
  return measure.measure === "mean" ? quotient(measure) : measure.value;
}
