/** What may be trained beside the adapters of a method: whole modules, biases, rows of a table. */
import { tensor } from "../array/creation.js";
import { cast, equal, where } from "../array/elementwise.js";
import { take } from "../array/indexing.js";
import { any, argmax } from "../array/reductions.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { Embedding } from "../nn/layers.js";
import { isUndrawn, Module, redeclare } from "../nn/module.js";
import { QuantizedWeight } from "../quantize/weight.js";
import { flatten } from "../transform/tree.js";
import { Adapter, copyModule, isAdapted, marked, withAdapter } from "./adapter.js";
import { placeAdapters } from "./model.js";
import { isNamed, modulesOf, noMatch, type Target } from "./targets.js";

export interface AuxiliaryOptions {
  /** Names of modules that are trained whole, and saved with the adapter: a new head, say. */
  modulesToSave?: readonly string[];
  /**
   * Rows of the token table that are trained, while the rest of it is not (Hugging Face PEFT's trainable tokens); or rows by names of tables. They are the rows of a
   * shared output layer too.
   */
  trainableTokenIndices?: readonly number[] | Readonly<Record<string, readonly number[]>>;
  /** Biases that are trained too: "all" of the model, or those of layers with adapters ("lora_only"). Default "none". */
  bias?: "none" | "all" | "lora_only";
}

export const auxiliaryNames: readonly (keyof AuxiliaryOptions)[] = [
  "modulesToSave",
  "trainableTokenIndices",
  "bias",
];

/** A module that is trained whole, in the place of another. */
export class WholeModule extends Adapter {
  readonly method = "AUXILIARY";
  module: Module & { forward?: (...args: unknown[]) => unknown };

  constructor(module: Module) {
    super();
    this.module = marked(module, "parameter");
  }

  override instead(args: readonly unknown[]): unknown {
    return this.module.forward!(...args);
  }
}

/** Rows of a table in the place of its own. */
export class TokenRows extends Adapter {
  readonly method = "AUXILIARY";
  readonly indices: readonly number[];
  readonly count: number;
  /** [rows, features]. */
  rows: Tensor;

  constructor(table: Embedding, indices: readonly number[]) {
    super();
    this.indices = [...indices];
    const [count, features] = table.weight.shape as [number, number];
    this.count = count;
    const begin = take(table.weight, tensor(Int32Array.from(indices), { shape: [indices.length] }), 0);
    this.rows = this.parameter("rows", [indices.length, features], { init: () => cast(begin, "float32") });
    this.rows = cast(begin, "float32");
  }

  override after(given: unknown, ids: Tensor): Tensor {
    const y = given as Tensor;
    const same = equal(
      expandDims(ids, -1),
      tensor(Int32Array.from(this.indices), { shape: [this.indices.length] }),
    );
    const own = take(cast(this.rows, y.dtype), argmax(cast(same, "int32"), -1), 0);
    return where(expandDims(any(same, -1), -1), own, y);
  }

  /** The logits of a shared output layer: columns in place of others. */
  override attended(y: Tensor, states: Tensor): Tensor {
    const place = new Int32Array(this.count).fill(-1);
    for (const [i, index] of this.indices.entries()) place[index] = i;
    const own = cast(states.matmul(cast(this.rows, states.dtype).transpose()), y.dtype);
    const from = tensor(
      place.map((i) => Math.max(i, 0)),
      { shape: [this.count] },
    );
    const isOwn = tensor(
      place.map((i) => (i < 0 ? 0 : 1)),
      { shape: [this.count] },
    );
    return where(equal(isOwn, 1), take(own, from, -1), y);
  }
}

/** The model with what is trained beside an adapter. */
export function auxiliary<M extends Module>(
  operation: string,
  model: M,
  name: string,
  { modulesToSave = [], trainableTokenIndices, bias = "none" }: AuxiliaryOptions,
): M {
  if (!["none", "all", "lora_only"].includes(bias))
    throw new ArgumentError(
      `${operation}: bias is ${JSON.stringify(bias)}`,
      'give "none", "all" or "lora_only"',
    );
  const modules = modulesOf(model);
  const made = new Map<string, (layer: Module) => Module>();
  const place = (target: Target, make: (layer: Module) => Adapter): void => {
    const taken = made.has(target.path) || (isAdapted(target.module) && name in target.module.adapters);
    if (taken)
      throw new ArgumentError(
        `${operation}: "${target.name}" would be changed in two ways`,
        "leave it out of targetModules, modulesToSave or trainableTokenIndices",
      );
    made.set(target.path, (layer) => withAdapter(layer, name, make(layer)));
  };
  for (const wanted of modulesToSave) {
    const found = modules.filter((target) => target.path !== "" && isNamed([wanted], target));
    if (found.length === 0) throw noMatch(operation, "modulesToSave", wanted, modules);
    for (const target of found) {
      place(target, (layer) => {
        refuseUntrainable(operation, layer, target.name);
        return new WholeModule(layer);
      });
    }
  }
  for (const [table, indices] of tablesOf(operation, modules, trainableTokenIndices)) {
    const found = modules.filter((target) => isNamed([table], target) && target.module instanceof Embedding);
    if (found.length === 0) throw noMatch(operation, "trainableTokenIndices", table, modules);
    for (const target of found) {
      place(target, (layer) => {
        refuseUntrainable(operation, layer, target.name);
        checkRows(operation, layer as Embedding, target.name, indices);
        return new TokenRows(layer as Embedding, indices);
      });
    }
  }
  const placed = placeAdapters(model, made);
  return bias === "none" ? placed : withBiases(operation, placed, bias === "all");
}

/** The tables by name. */
function tablesOf(
  operation: string,
  modules: readonly Target[],
  indices: AuxiliaryOptions["trainableTokenIndices"],
): [string, readonly number[]][] {
  if (indices === undefined) return [];
  if (!Array.isArray(indices)) return Object.entries(indices as Readonly<Record<string, readonly number[]>>);
  const tables = modules.filter(({ module }) => module instanceof Embedding);
  const first = tables.find(({ path }) => /embedTokens$/.test(path)) ?? tables[0];
  if (first === undefined)
    throw new ArgumentError(
      `${operation}: trainableTokenIndices of a model without an Embedding`,
      "leave them out",
    );
  return [[first.name, indices as readonly number[]]];
}

function checkRows(operation: string, table: Embedding, name: string, indices: readonly number[]): void {
  const [count] = table.weight.shape as [number];
  const wrong = indices.find((index) => !(Number.isInteger(index) && index >= 0 && index < count));
  if (wrong !== undefined || indices.length === 0)
    throw new ArgumentError(
      `${operation}: trainableTokenIndices has ${indices.length === 0 ? "no index" : wrong} for "${name}"`,
      `give integers from 0 to ${count - 1}`,
    );
  if (new Set(indices).size < indices.length)
    throw new ArgumentError(`${operation}: trainableTokenIndices has an index twice`, "give each once");
}

/** What is trained begins with the values of what it takes the place of. */
function refuseUntrainable(operation: string, layer: Module, name: string): void {
  if (holdsQuantized(layer))
    throw new ArgumentError(
      `${operation}: "${name}" has quantized weights, which cannot be trained whole`,
      "keep it out of the quantization: quantize.linears(model, { layers: (path) => ... })",
    );
  const { leaves } = flatten(layer);
  if (leaves.some(isUndrawn))
    throw new ArgumentError(
      `${operation}: "${name}" has no values yet, with which it would begin`,
      "draw them first: nn.initialize(model, seed), or load a checkpoint",
    );
}

function holdsQuantized(value: unknown): boolean {
  if (value instanceof QuantizedWeight) return true;
  if (!(value instanceof Module || Array.isArray(value))) return false;
  return Object.values(value).some(holdsQuantized);
}

/** The model with biases trained: all, or those of layers with adapters. */
function withBiases<M extends Module>(operation: string, model: M, all: boolean): M {
  const isOwn = (module: Module): boolean => {
    const spec = module.ownParameters.bias;
    return spec?.kind === "frozen" && (module as { bias?: unknown }).bias !== null;
  };
  const found = modulesOf(model).filter(({ module }) => isOwn(module) && (all || isAdapted(module)));
  if (found.length === 0)
    throw new ArgumentError(
      `${operation}: bias is ${all ? '"all"' : '"lora_only"'}, and ${all ? "the model has" : "the layers have"} no biases`,
      'leave it at "none"',
    );
  const train = (layer: Module): Module => {
    const copy = copyModule(layer);
    redeclare(copy, { bias: "parameter" });
    return copy;
  };
  return placeAdapters(model, new Map(found.map(({ path }) => [path, train])));
}
