/** Adapters on the disk, as PEFT keeps them: `adapter_config.json` and `adapter_model.safetensors`. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { materialize } from "../array/evaluate.js";
import { transpose } from "../array/shaping.js";
import { loadTensors, saveTensors } from "../array/storage.js";
import { Tensor } from "../array/tensor.js";
import { CheckpointError } from "../checkpoint/errors.js";
import { listFiles } from "../checkpoint/pieces.js";
import { readObject } from "../checkpoint/read-object.js";
import { replaceFileSync } from "../files/atomic.js";
import { ArgumentError, AronnaxError } from "../graph/errors.js";
import { nearestName, refuseUnknownOptions } from "../graph/spelling.js";
import { Module } from "../nn/module.js";
import { jit } from "../transform/jit.js";
import { scope } from "../transform/scope.js";
import { flatten } from "../transform/tree.js";
import { bitfit } from "./bitfit.js";
import { houlsby } from "./bottleneck.js";
import { readBottleneck, readIa3, readLora, writeConfig } from "./config.js";
import { common, type Json } from "./fields.js";
import { ia3 } from "./ia3.js";
import { loraOf } from "./lora.js";
import { adaptedLayers, adapterNames, requireAdapter } from "./model.js";
import { readPrompt } from "./prompt-config.js";
import type { NamedModel } from "./targets.js";
import { type Entry, entriesOf, trainedBiases } from "./tensors.js";

export const configFile = "adapter_config.json";
export const weightsFile = "adapter_model.safetensors";

export interface AdapterSaveOptions {
  /** Which adapter. Default the only one, else "default". */
  name?: string;
  /** Folder or name of the base, by which PEFT opens it (`base_model_name_or_path`). Default what the base's configuration says. */
  base?: string;
}

/**
 * Writes an adapter as PEFT does: its configuration and its tensors, float32. What Hugging Face's PEFT has, it opens with the same results;
 * bottlenecks and BitFit, which it has not, are kept in the same form (docs/peft.md).
 *
 * @throws ArgumentError where the model has no adapter, or several and none of that name
 */
export async function save(model: Module, folder: string, options: AdapterSaveOptions = {}): Promise<void> {
  if (!(model instanceof Module) || typeof folder !== "string")
    throw new ArgumentError("save: the arguments are no model and folder", "call peft.save(model, folder)");
  refuseUnknownOptions("save", options, ["name", "base"]);
  const known = adapterNames(model);
  const { name = known.length === 1 ? known[0]! : "default", base } = options;
  const biases = known.length === 0 && trainedBiases(model).length > 0;
  if (!biases) requireAdapter("save", known, name);
  const json = biases ? { ...common("BITFIT", model) } : writeConfig(model, name);
  if (base !== undefined) json.base_model_name_or_path = base;
  const entries = entriesOf(model, name);
  const { leaves, paths } = flatten(model);
  const leafAt = new Map(paths.map((path, i) => [path, leaves[i]!]));
  mkdirSync(folder, { recursive: true });
  // The scope below would free the model's own leaves, were they computed in it.
  materialize(entries.map(({ path }) => leafAt.get(path)!));
  await scope(async () => {
    const tensors = new Map(
      entries.map(({ key, path, toFile, value }) => [key, value?.() ?? toFile(leafAt.get(path)!)]),
    );
    await saveTensors(join(folder, weightsFile), tensors, { metadata: { format: "pt" } });
  });
  replaceFileSync(join(folder, configFile), `${JSON.stringify(sorted(json), null, 2)}\n`);
}

/** PEFT's fields are in the order of their names. */
function sorted(json: Json): Json {
  return Object.fromEntries(Object.entries(json).sort(([a], [b]) => (a < b ? -1 : 1)));
}

export interface AdapterLoadOptions {
  /** What it is called in the model. Default "default". */
  name?: string;
}

type Attach = (model: Module, path: string, json: Json, name: string) => Module;

/** By PEFT's `peft_type`. */
const methods: Readonly<Record<string, Attach>> = {
  LORA: (model, path, json, name) => loraOf(model, readLora(path, json, name), { anyRank: true }),
  IA3: (model, path, json, name) => ia3(model, readIa3(path, json, name)),
  BOTTLENECK: (model, path, json, name) => houlsby(model, readBottleneck(path, json, name)),
  BITFIT: (model) => bitfit(model),
  PROMPT_TUNING: (model, path, json, name) => readPrompt(path, json, model, name),
  P_TUNING: (model, path, json, name) => readPrompt(path, json, model, name),
  PREFIX_TUNING: (model, path, json, name) => readPrompt(path, json, model, name),
};

/** Kinds of adapters that can be opened, as `peft_type` names them. */
export const adapterTypes = Object.keys(methods);

/**
 * The model with an adapter that PEFT or `save` wrote. It is active, and trained where the model is.
 *
 * @throws CheckpointError for what cannot be computed here, and with the names that are missing, unexpected or of another shape
 */
export async function load<M extends Module>(
  model: M,
  folder: string,
  options: AdapterLoadOptions = {},
): Promise<M> {
  if (!(model instanceof Module) || typeof folder !== "string")
    throw new ArgumentError("load: the arguments are no model and folder", "call peft.load(model, folder)");
  refuseUnknownOptions("load", options, ["name"]);
  const { name = "default" } = options;
  const path = join(folder, configFile);
  const json = readObject(path, "give a folder that PEFT's save_pretrained or peft.save wrote");
  const attach = typeof json.peft_type === "string" ? methods[json.peft_type] : undefined;
  if (attach === undefined)
    throw new CheckpointError(
      `${path}: the adapter is ${String(json.peft_type ?? "not named")}`,
      `those that can be opened: ${adapterTypes.join(", ")}`,
    );
  const made = attaching(folder, json, () => attach(model, path, json, name));
  const entries = entriesOf(made, name);
  const weights = join(folder, weightsFile);
  const stored = await listFiles(weights);
  const present = compare(folder, json, made, entries, stored);
  const flat = flatten(made);
  const leafAt = new Map(flat.paths.map((each, i) => [each, flat.leaves[i]!]));
  const requests = present.map(({ key, path: at }) => ({
    name: key,
    shape: stored.get(key)!.shape,
    dtype: leafAt.get(at)!.dtype,
  }));
  const values = await scope(async () => {
    const loaded = await loadTensors(weights, requests, "parameter");
    return placed(loaded, present);
  });
  const found = new Map(present.map(({ path: at }, i) => [at, values[i]!]));
  return flat.rebuild(flat.leaves.map((leaf, i) => found.get(flat.paths[i]!) ?? leaf)) as M;
}

/** The tensors as the model has them. */
function placed(loaded: readonly Tensor[], entries: readonly Entry[]): Tensor[] {
  return jit((tensors: readonly Tensor[]): Tensor[] => tensors.map((x, i) => entries[i]!.fromFile(x)), {
    name: "place_adapter",
    tag: () => "parameter",
  })(loaded);
}

/** An adapter that does not fit is of another base, most often. */
function attaching(folder: string, json: Json, attach: () => Module): Module {
  try {
    return attach();
  } catch (error) {
    if (!(error instanceof AronnaxError) || error instanceof CheckpointError) throw error;
    throw new CheckpointError(`${folder} does not fit the model: ${error.message}`, baseHint(json), {
      cause: error,
    });
  }
}

function baseHint({ base_model_name_or_path: base }: Json): string {
  const named = typeof base === "string" && base !== "" ? `: ${base}` : "";
  return `load it over the base that it was trained on${named}`;
}

/** What of the file is loaded where. */
function compare(
  folder: string,
  json: Json,
  model: Module,
  entries: readonly Entry[],
  stored: ReadonlyMap<string, { shape: readonly number[] }>,
): Entry[] {
  const tables = tableEntries(model).filter(({ key }) => stored.has(key));
  const all = [...entries, ...tables];
  const known = new Map(all.map((entry) => [entry.key, entry]));
  const missing = entries.map(({ key }) => key).filter((key) => !stored.has(key));
  const unexpected = [...stored.keys()].filter((key) => !known.has(key));
  const misshapen = all.flatMap(({ key, shape }) => {
    const found = stored.get(key);
    return found === undefined || found.shape.join() === shape.join()
      ? []
      : [`${key} is [${found.shape.join(", ")}], the model and ${configFile} say [${shape.join(", ")}]`];
  });
  const list = (what: string, names: readonly string[]): string[] =>
    names.length === 0
      ? []
      : [`${what}${names.slice(0, 5).join(", ")}${names.length > 5 ? ` and ${names.length - 5} more` : ""}`];
  const problems = [
    ...list("missing: ", missing),
    ...list("unexpected: ", unexpected),
    ...list("", misshapen),
  ];
  if (problems.length === 0) return all;
  const near = unexpected[0] && nearestName(unexpected[0], missing);
  throw new CheckpointError(
    `${folder} does not fit the model: ${problems.join("; ")}`,
    `${baseHint(json)}${near === undefined ? "" : ` (is ${unexpected[0]} meant to be ${near}?)`}`,
  );
}

/** Weights of tables and output layers, which PEFT saves whole beside the products that stand at them. */
function tableEntries(model: Module): Entry[] {
  return adaptedLayers(model).flatMap(({ module, path, name }): Entry[] => {
    const { weight } = module as { weight?: unknown };
    if (!(weight instanceof Tensor) || !Object.hasOwn(module, "weight")) return [];
    const at = path === "" ? "weight" : `${path}.weight`;
    const turned = (model as NamedModel).storedAs?.(at, weight.shape).transposed === true;
    const turn = (x: Tensor): Tensor => (turned ? transpose(x) : x);
    const key = `base_model.model.${name}.base_layer.weight`;
    return [{ key, parameter: key, path: at, shape: turn(weight).shape, toFile: turn, fromFile: turn }];
  });
}
