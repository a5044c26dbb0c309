/** Parameters in groups: another rate or decay, another optimizer, or none at all. */
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknown } from "../graph/spelling.js";
import { matches, type Pattern } from "../nn/selection.js";
import { flatten } from "../transform/tree.js";
import { globalNorm, type Optimizer } from "./optimizer.js";

/** Tensors by path. */
export type Leaves = Readonly<Record<string, Tensor>>;

export interface ParameterGroup {
  /** Which parameters. */
  match: Pattern;
  /** Multiplies the learning rate. Default 1. */
  learningRateFactor?: number;
  /** In place of the optimizer's own, for all parameters of the group. */
  weightDecay?: number;
  /** These parameters stay as they are: no gradient is computed and no state is kept for them. Default false. */
  frozen?: boolean;
  /** Another optimizer, with a schedule of its own, for these parameters. */
  optimizer?: Optimizer;
}

/** The group of a parameter: the first that matches. */
export function groupOf(
  groups: readonly ParameterGroup[],
  path: string,
  parameter: Tensor,
): ParameterGroup | undefined {
  return groups.find(({ match }) => matches(match, path, parameter));
}

const groupFields = ["match", "learningRateFactor", "weightDecay", "frozen", "optimizer"];

/** @throws ArgumentError that names the group and the field */
export function checkGroups(name: string, groups: readonly ParameterGroup[]): void {
  for (const [i, group] of groups.entries()) {
    refuseUnknown(`${name}: groups[${i}] has no field`, Object.keys(group), groupFields);
    const refuse = (field: keyof ParameterGroup, fix: string): never => {
      throw new ArgumentError(`${name}: groups[${i}].${field} is ${String(group[field])}`, fix);
    };
    const { match, learningRateFactor = 1, weightDecay = 0, frozen = false, optimizer } = group;
    if (!(typeof match === "string" || typeof match === "function" || match instanceof RegExp))
      refuse("match", "give a path, a regular expression or a function of the path");
    if (!(learningRateFactor >= 0 && Number.isFinite(learningRateFactor)))
      refuse("learningRateFactor", "give a number of at least 0");
    if (!(typeof weightDecay === "number" && weightDecay >= 0))
      refuse("weightDecay", "give a number of at least 0");
    if (typeof frozen !== "boolean") refuse("frozen", "give true or false");
    if (optimizer !== undefined && typeof optimizer.update !== "function")
      refuse("optimizer", "give an optimizer, e.g. sgd({ learningRate: 0.1 })");
    if (optimizer !== undefined && group.learningRateFactor !== undefined)
      refuse("learningRateFactor", "an optimizer of the group's own has its own learning rate");
  }
}

/** @throws ArgumentError for a group that no parameter belongs to: its pattern is probably misspelt */
export function checkMatches(
  name: string,
  groups: readonly ParameterGroup[],
  parameters: unknown,
  concerns: (group: ParameterGroup) => boolean = () => true,
): void {
  const flat = flatten(parameters);
  const used = new Set(flat.leaves.map((leaf, i) => groupOf(groups, flat.paths[i]!, leaf)));
  for (const [i, group] of groups.entries()) {
    if (used.has(group) || !concerns(group)) continue;
    throw new ArgumentError(
      `${name}: groups[${i}] (match ${String(group.match)}) has no parameters`,
      `paths are like ${flat.paths.slice(0, 3).join(", ")}; the first group that matches takes a parameter`,
    );
  }
}

export interface Part {
  /** Names the part's state. */
  readonly name: string;
  readonly owns: (path: string, parameter: Tensor) => boolean;
  readonly optimizer: Optimizer;
}

/** Several optimizers, each with the parameters that it owns; the first that owns one takes it. The first's learning rate is reported. */
export function partitioned(parts: readonly Part[]): Optimizer {
  const ownerOf = (path: string, p: Tensor): Part => {
    const owner = parts.find(({ owns }) => owns(path, p));
    if (owner === undefined) throw new ArgumentError(`no optimizer owns the parameter ${path}`);
    return owner;
  };
  const share = (part: Part, owners: readonly Part[], paths: readonly string[], leaves: readonly Tensor[]) =>
    Object.fromEntries(paths.flatMap((path, i) => (owners[i] === part ? [[path, leaves[i]!]] : [])));
  const trains = (path: string, p: Tensor): boolean => {
    const { optimizer } = ownerOf(path, p);
    return optimizer.trains?.(path, p) ?? true;
  };
  return {
    trains,
    init(parameters) {
      const { paths, leaves } = flatten(parameters);
      const owners = paths.map((path, i) => ownerOf(path, leaves[i]!));
      return Object.fromEntries(
        parts.map((part) => [part.name, part.optimizer.init(share(part, owners, paths, leaves))]),
      );
    },
    update(gradients, given, parameters, context) {
      const state = given as Readonly<Record<string, unknown>>;
      const flat = flatten(parameters);
      const slopes = flatten(gradients).leaves;
      const owners = flat.paths.map((path, i) => ownerOf(path, flat.leaves[i]!));
      const trained = slopes.filter((_, i) => trains(flat.paths[i]!, flat.leaves[i]!));
      const gradientNorm = context.gradientNorm ?? globalNorm(trained);
      const updated: Record<string, Tensor> = {};
      const states: Record<string, unknown> = {};
      let learningRate: Tensor | undefined;
      for (const part of parts) {
        const own = share(part, owners, flat.paths, flat.leaves);
        if (Object.keys(own).length === 0) {
          states[part.name] = state[part.name];
          continue;
        }
        const [next, nextState, report] = part.optimizer.update(
          share(part, owners, flat.paths, slopes),
          state[part.name],
          own,
          { ...context, gradientNorm },
        );
        Object.assign(updated, next);
        states[part.name] = nextState;
        learningRate ??= report.learningRate;
      }
      const next = flat.rebuild(flat.paths.map((path) => updated[path]!)) as typeof parameters;
      return [next, states, { learningRate: learningRate!, gradientNorm }];
    },
  };
}

/**
 * Optimizers of their own parts, with the groups' own optimizers taken out of them; `init` also checks that every group has parameters.
 * The first part's learning rate is reported.
 */
export function withGroups(name: string, groups: readonly ParameterGroup[], own: readonly Part[]): Optimizer {
  const others: Part[] = groups.flatMap((group, i) =>
    group.optimizer === undefined || group.frozen === true
      ? []
      : [
          {
            name: `group${i}`,
            owns: (path, p) => groupOf(groups, path, p) === group,
            optimizer: group.optimizer,
          },
        ],
  );
  const taken = (path: string, p: Tensor): boolean => others.some(({ owns }) => owns(path, p));
  const parts = own.map(
    (part): Part => ({
      ...part,
      owns: (path, p) => !taken(path, p) && part.owns(path, p),
    }),
  );
  const single = parts.length === 1 && others.length === 0;
  const whole: Optimizer = single ? parts[0]!.optimizer : partitioned([...parts, ...others]);
  return {
    ...whole,
    check(parameters) {
      checkMatches(name, groups, parameters);
    },
    init(parameters) {
      // Frozen parameters may have been left out.
      checkMatches(name, groups, parameters, (group) => group.frozen !== true);
      return whole.init(parameters);
    },
  };
}
