/** What gradient methods share: the schedule, clipping, decoupled weight decay, groups of parameters, and the step itself. */
import { add, cast, mul, sub } from "../array/elementwise.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { castTree } from "../nn/module.js";
import { flatten } from "../transform/tree.js";
import { checkGroups, groupOf, type Leaves, type ParameterGroup, withGroups } from "./groups.js";
import { clipByNorm, clipByValue, globalNorm, type Optimizer } from "./optimizer.js";
import { constant, type Schedule } from "./schedules.js";

export interface DescentOptions {
  learningRate: number | Schedule;
  /** Share of a parameter that goes with each update, times the learning rate (Loshchilov & Hutter 2019). Default 0. */
  weightDecay?: number;
  /** Whether a parameter decays. Default those of two or more dimensions: not norms and biases. */
  decays?: (path: string, parameter: Tensor) => boolean;
  /** Limit of each element of the gradients. Default none. */
  clipValue?: number;
  /** Limit of the gradients' norm, after `clipValue`. Default none. */
  clipNorm?: number;
  /** Parameters that are treated otherwise; the first group that matches counts. */
  groups?: readonly ParameterGroup[];
  /**
   * Element type of the states between updates, which are computed in float32. `bfloat16` halves their memory and rounds to nearest:
   * a running mean then stands still once an update changes it by less than one part in 256, so keep decays at 0.99 or below with it.
   * Default float32.
   */
  stateDType?: "float32" | "bfloat16";
}

const sharedFields = [
  "learningRate",
  "weightDecay",
  "decays",
  "clipValue",
  "clipNorm",
  "groups",
  "stateDType",
];

/** What a method sees beside gradients and state. */
export interface DirectionContext {
  /** This update's number, from 1, float32 scalar. */
  readonly count: Tensor;
  /** Before the update. */
  readonly parameters: Leaves;
}

/**
 * A method: from gradients to directions, which are subtracted times the learning rate. Gradients and directions are float32 Tensors by
 * path, of the trained parameters only; the state is a tree.
 */
export interface Method<S> {
  readonly name: string;
  init(parameters: Leaves): S;
  direction(gradients: Leaves, state: S, context: DirectionContext): [directions: Leaves, state: S];
}

export function descent<S>(options: DescentOptions, method: Method<S>): Optimizer {
  const { name } = method;
  const optimizer = plainDescent(options, method);
  return withGroups(name, options.groups ?? [], [{ name, owns: () => true, optimizer }]);
}

/** `descent` that does not look at the groups' own optimizers, nor whether every group has parameters. */
export function plainDescent<S>(options: DescentOptions, method: Method<S>): Optimizer {
  checkOptions(options, method.name);
  const { learningRate, weightDecay = 0, clipNorm, clipValue, groups = [], stateDType = "float32" } = options;
  const { decays = (_path, parameter) => parameter.ndim >= 2 } = options;
  const schedule = typeof learningRate === "number" ? constant(learningRate) : learningRate;
  const trains = (path: string, p: Tensor): boolean => groupOf(groups, path, p)?.frozen !== true;
  const trained = (paths: readonly string[], of: readonly Tensor[], as: readonly Tensor[]): Leaves =>
    Object.fromEntries(
      paths.flatMap((path, i) => (trains(path, of[i]!) ? [[path, cast(as[i]!, "float32")]] : [])),
    );
  return {
    trains,
    init(parameters) {
      const { paths, leaves } = flatten(parameters);
      return castTree(method.init(trained(paths, leaves, leaves)), stateDType);
    },
    update(gradients, state, parameters, context) {
      const flat = flatten(parameters);
      const given = trained(flat.paths, flat.leaves, flatten(gradients).leaves);
      const gradientNorm = context.gradientNorm ?? globalNorm(given);
      const limited = clipValue === undefined ? given : clipByValue(given, clipValue);
      // Elements that were limited have another norm than the whole was reported with.
      const norm = clipValue === undefined ? gradientNorm : globalNorm(limited);
      const clipped = clipNorm === undefined ? limited : clipByNorm(limited, norm, clipNorm);
      const rate = schedule(context.step, context.totalSteps);
      const [directions, next] = method.direction(clipped, castTree(state as S, "float32"), {
        count: cast(add(context.step, 1), "float32"),
        parameters: trained(flat.paths, flat.leaves, flat.leaves),
      });
      const updated = flat.leaves.map((p, i) => {
        const path = flat.paths[i]!;
        const direction = directions[path];
        if (direction === undefined) return p;
        const group = groupOf(groups, path, p);
        const decay = group?.weightDecay ?? (decays(path, p) ? weightDecay : 0);
        const wide = cast(p, "float32");
        const step = decay > 0 ? add(direction, mul(wide, decay)) : direction;
        const factor = group?.learningRateFactor ?? 1;
        return cast(sub(wide, mul(step, factor === 1 ? rate : mul(rate, factor))), p.dtype);
      });
      return [
        flat.rebuild(updated) as typeof parameters,
        castTree(next, stateDType),
        { learningRate: rate, gradientNorm },
      ];
    },
  };
}

/** @throws ArgumentError that names the optimizer, the field and its value */
export function checkOptions(options: DescentOptions, name: string): void {
  const refuse = (field: keyof DescentOptions, fix: string): never => {
    throw new ArgumentError(`${name}: ${field} is ${String(options[field])}`, fix);
  };
  const { learningRate, weightDecay = 0, clipNorm = 1, clipValue = 1, groups = [], decays } = options;
  const number = (x: unknown): x is number => typeof x === "number";
  if (typeof learningRate !== "number" && typeof learningRate !== "function")
    refuse("learningRate", "give a number or a schedule, e.g. cosine({ peak: 3e-4, warmup: 100 })");
  if (!(number(weightDecay) && weightDecay >= 0)) refuse("weightDecay", "give a number of at least 0");
  if (!(number(clipNorm) && clipNorm > 0)) refuse("clipNorm", "give a positive number");
  if (!(number(clipValue) && clipValue > 0)) refuse("clipValue", "give a positive number");
  if (decays !== undefined && typeof decays !== "function")
    refuse("decays", "give a function of a path and a parameter");
  if (!["float32", "bfloat16"].includes(options.stateDType ?? "float32"))
    refuse("stateDType", 'use "float32" or "bfloat16"');
  if (!Array.isArray(groups)) refuse("groups", "give an array of groups");
  checkGroups(name, groups);
}

/** Refuses options that an optimizer does not have, with the nearest that it has. */
export function checkNames(name: string, options: object, own: readonly string[]): void {
  refuseUnknownOptions(name, options, [...sharedFields, ...own], `call ${name}({ learningRate: ... })`);
}

/** Checks that decay factors lie in [0, 1). */
export function checkDecays(name: string, factors: Readonly<Record<string, number>>): void {
  for (const [field, value] of Object.entries(factors)) {
    if (!(typeof value === "number" && value >= 0 && value < 1))
      throw new ArgumentError(`${name}: ${field} is ${value}`, "give a number in [0, 1)");
  }
}

/** Checks that numbers are positive and finite. */
export function checkPositive(name: string, values: Readonly<Record<string, number>>): void {
  for (const [field, value] of Object.entries(values)) {
    if (!(Number.isFinite(value) && value > 0))
      throw new ArgumentError(`${name}: ${field} is ${value}`, "give a positive number");
  }
}
