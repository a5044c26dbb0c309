/** The state before the first step, on the devices. */
import { scalar } from "../array/creation.js";
import { copyTo } from "../array/storage.js";
import type { Tensor } from "../array/tensor.js";
import { initialize, isUndrawn, type Module } from "../nn/module.js";
import type { Leaves } from "../optim/groups.js";
import { jit } from "../transform/jit.js";
import { flatten, map } from "../transform/tree.js";
import type { ParallelPlan } from "./parallel.js";
import { asKept, type ResolvedPrecision } from "./precision.js";
import type { Division, Held, TrainState } from "./state.js";
import { scaleAtStart } from "./step.js";

export interface StartOptions {
  readonly seed: number;
  readonly precision: ResolvedPrecision;
  /** Whether a running average of the parameters is kept. */
  readonly average: boolean;
  /** Whether the loss is watched for spikes. */
  readonly watch: boolean;
  /** How the training is spread over devices, if it is. */
  readonly plan: ParallelPlan | undefined;
}

/** What a step takes over, and what it only reads. */
export interface Start {
  readonly state: TrainState;
  readonly held: Held;
}

const copy = jit((leaves: Leaves) => leaves, { name: "copy", tag: () => "parameter" });
const copyAverage = jit((leaves: Leaves) => leaves, { name: "copy", tag: () => "optimizer" });

/** The model with some of its leaves drawn that have no values yet, and where they belong. */
export function drawn<M extends Module>(
  model: M,
  { seed, plan }: Pick<StartOptions, "seed" | "plan">,
  which: ReadonlySet<Tensor>,
): M {
  return initialize(model, seed, plan?.layout, (leaf) => which.has(leaf) && isUndrawn(leaf));
}

/** `drawn` of several models: a Tensor that stands in more than one place is drawn once, and shared as before. */
export function drawnTogether<T extends readonly Module[]>(
  models: T,
  options: Pick<StartOptions, "seed" | "plan">,
  which: ReadonlySet<Tensor>,
): T {
  const known = new Map<Tensor, Tensor>();
  return models.map((model) => {
    const given = flatten(model).leaves;
    const rest = new Set(given.filter((leaf) => which.has(leaf) && !known.has(leaf)));
    const found = flatten(drawn(model, options, rest)).leaves;
    for (const [i, leaf] of given.entries()) if (!known.has(leaf)) known.set(leaf, found[i]!);
    return map((leaf) => known.get(leaf)!, model);
  }) as unknown as T;
}

/** The state before the first update. Parameters are copies of the model's own, since a step takes them over. */
export function startingState<M extends Module>(division: Division<M>, options: StartOptions): TrainState {
  const { precision, plan } = options;
  const all = [...division.trained, ...division.buffers];
  const own = division.leaves(all);
  // What is drawn here is nobody else's, and is taken as it is.
  const fresh = division.leaves(all, drawn(division.source, options, new Set(Object.values(own))));
  const trained = new Set(division.trained);
  const taken: Record<string, Tensor> = {};
  const copied: Record<string, Tensor> = {};
  for (const [path, leaf] of Object.entries(fresh)) {
    const kept = trained.has(path) ? asKept(leaf, precision) : leaf;
    if (leaf !== own[path] && kept === leaf) taken[path] = leaf;
    else copied[path] = kept;
  }
  const others = Object.keys(copied).length === 0 ? copied : (plan?.distribute(copied) ?? copy(copied));
  const placed: Leaves = { ...taken, ...others };
  const part = (paths: readonly string[]): Leaves =>
    Object.fromEntries(paths.map((path) => [path, placed[path]!]));
  const parameters = part(division.trained);
  const optimizer = jit((leaves: Leaves) => optimizerState(division, leaves), {
    name: "init_optimizer",
    tag: () => "optimizer",
    place: plan?.place,
  })(parameters);
  return {
    ...stateLike(division, options),
    parameters,
    buffers: part(division.buffers),
    optimizer,
    ...(options.average && { average: copyAverage(placed) as Leaves }),
  };
}

/** The leaves that a step only reads, where it reads them. */
export function heldLeaves<M extends Module>(division: Division<M>, plan: ParallelPlan | undefined): Held {
  const held = division.held();
  if (plan === undefined) return held;
  const paths = division.heldPaths();
  return held.map((x, i) => copyTo(x, plan.place(paths[i]!, x)));
}

/** A state of the structure, shapes and dtypes of a training's, as expressions that are not computed. */
export function stateLike<M extends Module>(
  division: Division<M>,
  { precision, average, watch }: StartOptions,
): TrainState {
  const zero = (): Tensor => scalar(0, "float32");
  const parameters = map((x) => asKept(x, precision), division.leaves(division.trained));
  const buffers = division.leaves(division.buffers);
  return {
    parameters,
    buffers,
    optimizer: optimizerState(division, parameters),
    average: average ? { ...parameters, ...buffers } : null,
    watch: watch ? { mean: zero(), variance: zero(), count: zero() } : null,
    scale: precision.compute === "float16" ? scaleAtStart() : null,
    step: scalar(0, "int32"),
  };
}

function optimizerState<M extends Module>({ parts }: Division<M>, parameters: Leaves): unknown {
  const own = (paths: readonly string[]): Leaves =>
    Object.fromEntries(paths.map((path) => [path, parameters[path]!]));
  const [first] = parts;
  if (first!.name === "") return first!.optimizer.init(own(first!.paths));
  return Object.fromEntries(
    parts.map(({ name, optimizer, paths }) => [
      name,
      { state: optimizer.init(own(paths)), count: scalar(0, "int32") },
    ]),
  );
}
