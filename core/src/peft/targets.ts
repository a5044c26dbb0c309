/** Which modules of a model a method changes: names and patterns, as PEFT's configurations have them. */
import { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { nearestName } from "../graph/spelling.js";
import { Conv } from "../nn/convolutions.js";
import { ExpertMlp } from "../nn/experts.js";
import { Embedding, Linear } from "../nn/layers.js";
import { checkpointName, Module } from "../nn/module.js";
import { QuantizedLinear } from "../quantize/linear.js";
import { treeNode } from "../transform/tree.js";
import { Adapter } from "./adapter.js";

/**
 * Which modules: names of them, with as many of those above them as it takes (`q_proj`, `self_attn.q_proj`, `layers.*.mlp.up_proj`; `*` stands for
 * one), in the model's spelling or in that of its checkpoints; a regular expression on the whole name; a test of it; or "all-linear": every
 * `Linear` but the output layer and the routers of experts.
 */
export type Targets =
  | "all-linear"
  | string
  | readonly string[]
  | RegExp
  | ((name: string, module: Module) => boolean);

/** A module of a model. */
export interface Target {
  readonly path: string;
  /** As checkpoints name it. */
  readonly name: string;
  readonly module: Module;
  /** The one that holds it. */
  readonly parent: Module | null;
}

/** What a model may say of its checkpoints, so that adapters of it are named as in PEFT. */
export interface NamedModel {
  /** The name of the module at a path. */
  moduleName?(path: string): string;
  /** Where the parameter at a path lies. */
  storedAs?(
    path: string,
    shape: readonly number[],
  ): { readonly names: readonly string[]; readonly transposed: boolean; readonly stacked: boolean };
}

/** The name of the module at a path in checkpoints. */
export function moduleName(model: Module, path: string): string {
  return (model as NamedModel).moduleName?.(path) ?? checkpointName(path);
}

/** Every module of a model but those of adapters, the model itself with an empty path. */
export function modulesOf(model: Module): Target[] {
  const found: Target[] = [];
  const visit = (value: unknown, path: string, parent: Module | null): void => {
    if (typeof value !== "object" || value === null || value instanceof Tensor || ArrayBuffer.isView(value))
      return;
    if (value instanceof Adapter) return;
    const own = value instanceof Module;
    const plain = Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
    if (!own && !plain && !(treeNode in value)) return;
    if (own) found.push({ path, name: moduleName(model, path), module: value, parent });
    for (const [name, field] of Object.entries(value))
      visit(field, path === "" ? name : `${path}.${name}`, own ? value : parent);
  };
  visit(model, "", null);
  return found;
}

/** A matrix that multiplies: whatever computes `x · weightᵀ`. */
export function isLinear(module: Module): module is Linear | QuantizedLinear {
  return module instanceof Linear || module instanceof QuantizedLinear;
}

/** Layers that low-rank products can stand beside. */
export function isLayer(module: Module): module is Linear | QuantizedLinear | Embedding | Conv {
  return isLinear(module) || module instanceof Embedding || module instanceof Conv;
}

/** Whether a name ends with the parts of another. */
export function endsWith(name: string, wanted: string): boolean {
  const [parts, last] = [wanted.split("."), name.split(".")];
  const offset = last.length - parts.length;
  return offset >= 0 && parts.every((part, i) => part === "*" || part === last[offset + i]);
}

function isChosen(targets: Exclude<Targets, "all-linear">, { path, name, module }: Target): boolean {
  if (typeof targets === "function") return targets(name, module) || (path !== name && targets(path, module));
  const spelt = [...new Set([name, checkpointName(path), path])];
  if (targets instanceof RegExp) {
    // As PEFT's, it is of the whole name.
    const whole = new RegExp(`^(?:${targets.source})$`, targets.flags.replaceAll(/[gy]/g, ""));
    return spelt.some((each) => whole.test(each));
  }
  const list = typeof targets === "string" ? [targets] : targets;
  return list.some((wanted) => spelt.some((each) => endsWith(each, wanted)));
}

/** Whether names that PEFT's configuration lists are those of a module. */
export function isNamed(list: readonly string[], target: Target): boolean {
  return isChosen(list, target);
}

function isAnyLinear({ path, module, parent }: Target): boolean {
  const last = path.split(".").at(-1);
  return isLinear(module) && last !== "lmHead" && !(parent instanceof ExpertMlp && last === "gate");
}

export interface Choice {
  readonly targets: Targets;
  readonly exclude?: Exclude<Targets, "all-linear">;
  /** Indices of layers of a stack; default all. */
  readonly layers?: readonly number[] | number;
  /** Names of the stack; default any list of modules. */
  readonly layersPattern?: string | readonly string[];
}

/**
 * The modules that a choice takes.
 *
 * @throws ArgumentError for each name of a list that is no module's, and where nothing is left
 */
export function chosen(
  operation: string,
  model: Module,
  { targets, exclude, layers, layersPattern }: Choice,
): Target[] {
  checkTargets(operation, "targetModules", targets);
  if (exclude !== undefined) checkTargets(operation, "excludeModules", exclude);
  const all = modulesOf(model);
  const named = (list: Exclude<Targets, "all-linear">) => (target: Target) => isChosen(list, target);
  const isTarget = targets === "all-linear" ? isAnyLinear : named(targets);
  let found = all.filter(isTarget);
  const list = typeof targets === "string" ? [targets] : Array.isArray(targets) ? (targets as string[]) : [];
  if (targets !== "all-linear") {
    for (const each of list) {
      if (!all.some(named(each))) throw noMatch(operation, "targetModules", each, all);
    }
    if (found.length === 0) throw noMatch(operation, "targetModules", String(targets), all);
  }
  if (found.length === 0)
    throw new ArgumentError(
      `${operation}: the model has no Linear layers`,
      "name modules: targetModules: [...]",
    );
  if (exclude !== undefined) {
    const left = found.filter((target) => !isChosen(exclude, target));
    if (left.length === found.length) throw noMatch(operation, "excludeModules", String(exclude), found);
    if (left.length === 0)
      throw new ArgumentError(
        `${operation}: excludeModules (${String(exclude)}) leaves none of the target modules`,
        "exclude fewer",
      );
    found = left;
  }
  if (layers === undefined) return found;
  const wanted = typeof layers === "number" ? [layers] : layers;
  const stacks = layersPattern === undefined ? undefined : [layersPattern].flat();
  const within = found.filter((target) => {
    const index = layerIndex(target, stacks);
    return index !== undefined && wanted.includes(index);
  });
  const present = new Set(found.map((target) => layerIndex(target, stacks)));
  const missing = wanted.find((index) => !present.has(index));
  if (missing !== undefined)
    throw new ArgumentError(
      `${operation}: layersToTransform has ${missing}, and no target module lies in such a layer${stacks === undefined ? "" : ` of ${stacks.join(", ")}`}`,
      `there are ${[...present].filter((index) => index !== undefined).join(", ") || "none"}`,
    );
  return within;
}

/** The index in the innermost list of modules that a module lies in. */
export function layerIndex({ name }: Pick<Target, "name">, stacks?: readonly string[]): number | undefined {
  const parts = name.split(".");
  for (let i = parts.length - 2; i > 0; i--) {
    if (!/^\d+$/.test(parts[i]!)) continue;
    if (stacks === undefined || stacks.includes(parts[i - 1]!)) return Number(parts[i]);
  }
  return undefined;
}

function checkTargets(operation: string, option: string, targets: unknown): void {
  const list =
    Array.isArray(targets) && targets.length > 0 && targets.every((each) => typeof each === "string");
  const one = typeof targets === "string" && targets !== "";
  if (list || one || targets instanceof RegExp || typeof targets === "function") return;
  throw new ArgumentError(
    `${operation}: ${option} is ${JSON.stringify(targets)}`,
    'give names such as ["q_proj", "v_proj"], "all-linear", a regular expression or a function of the name',
  );
}

export function noMatch(
  operation: string,
  option: string,
  written: string,
  modules: readonly Pick<Target, "name" | "path">[],
): ArgumentError {
  const names = [
    ...new Set(modules.flatMap(({ name }) => name.split(".").filter((part) => !/^\d*$/.test(part)))),
  ];
  const near = nearestName(written.split(".").at(-1)!, names);
  const like = modules.map(({ name }) => name).filter((name) => name !== "");
  return new ArgumentError(
    `${operation}: ${option} (${written}) matches nothing`,
    near === undefined
      ? `modules are called ${like.slice(0, 3).join(", ") || "nothing"}`
      : `did you mean ${near}?`,
  );
}
