/** Checkpoints in Hugging Face's layout: `config.json` and safetensors, straight from the disk to the devices and back. */
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { materialize } from "../../array/evaluate.js";
import { stack } from "../../array/joining.js";
import { transpose } from "../../array/shaping.js";
import { loadTensors, saveTensors } from "../../array/storage.js";
import type { Tensor } from "../../array/tensor.js";
import { CheckpointError } from "../../checkpoint/errors.js";
import { listFiles } from "../../checkpoint/pieces.js";
import type { Tokenizer } from "../../data/text/tokenizer.js";
import { replaceFileSync } from "../../files/atomic.js";
import { type DType, itemSize } from "../../graph/dtype.js";
import { ArgumentError } from "../../graph/errors.js";
import { type Mesh, type Placement, placementKey } from "../../graph/mesh.js";
import { parameterLayout } from "../../nn/module.js";
import type { LayerOptions } from "../../nn/stack.js";
import type { Rules } from "../../sharding/rules.js";
import { jit } from "../../transform/jit.js";
import { scope } from "../../transform/scope.js";
import { flatten, named } from "../../transform/tree.js";
import { build } from "./build.js";
import { refuseChanged } from "./changes.js";
import { checkTokenizer } from "./check-tokenizer.js";
import { Decoder, fittedConfig } from "./decoder.js";
import {
  configText,
  type Family,
  type Json,
  readConfig,
  type Stored,
  storedAs,
  writeConfig,
} from "./family.js";
import { modelFolder, readJson, weightsIn } from "./folders.js";
import { gemma2Family, gemma3Family } from "./gemma.js";
import { gpt2Family } from "./gpt2.js";
import { llamaFamily } from "./llama.js";
import { mistralFamily, mixtralFamily } from "./mistral.js";
import { phi3Family } from "./phi3.js";
import { qwen2Family, qwen3Family, qwen3MoeFamily } from "./qwen.js";

/** Those that can be opened. */
export const families: readonly Family[] = [
  llamaFamily,
  mistralFamily,
  mixtralFamily,
  qwen2Family,
  qwen3Family,
  qwen3MoeFamily,
  gemma2Family,
  gemma3Family,
  phi3Family,
  gpt2Family,
];

export interface LoadOptions extends LayerOptions {
  /** Element type of the parameters. Default the file's own. */
  dtype?: "float32" | "bfloat16" | "float16";
  /** Devices to spread the parameters over: each reads its part. Default whole on the first device. */
  mesh?: Mesh;
  /** Which mesh axes split the logical axes of the parameters. Default `defaultRules`. */
  rules?: Rules;
  /** Refuses a model whose table is smaller than this: pass `tokenizer.vocabSize`. Default not checked. */
  vocabSize?: number;
}

/**
 * Opens a checkpoint folder with `config.json` and `model.safetensors`, or several files and their index; the architecture that
 * `config.json` names decides the family. The parameters go from the disk to the devices without passing through this process. Of a
 * training's checkpoint (`runs/name/checkpoints/step-000400`) it opens the model, of a run's folder the newest checkpoint's.
 *
 * @throws CheckpointError with the names that are missing, unexpected or have another shape
 */
export async function load(
  folder: string,
  { dtype, vocabSize, mesh, rules, ...options }: LoadOptions = {},
): Promise<Decoder> {
  if (dtype !== undefined && !["float32", "bfloat16", "float16"].includes(dtype))
    throw new ArgumentError(`load: dtype is ${String(dtype)}`, "give float32, bfloat16 or float16");
  const at = await modelFolder(folder);
  const path = join(at, "config.json");
  const { json } = readJson(path);
  const family = familyOf(json, path);
  const generation = generationText(at);
  const model = opened(family, json, path, { ...options, ...(generation !== undefined && { generation }) });
  const weights = weightsIn(at);
  if (vocabSize !== undefined && vocabSize > model.config.vocabSize) {
    throw new ArgumentError(
      `${folder}: the tokenizer has ${vocabSize} tokens, the model ${model.config.vocabSize}`,
      "load the tokenizer that belongs to the checkpoint",
    );
  }
  const tensors = await listFiles(weights);
  const flat = flatten(model);
  const stored = flat.paths.map((p, i) => storedAs(family, p, flat.leaves[i]!.shape));
  const unprefixed = withoutPrefix(stored, tensors);
  const layout = mesh && parameterLayout(model, mesh, rules);
  const parameters = flat.leaves.map((leaf, i) => ({
    leaf,
    stored: unprefixed[i]!,
    to: layout?.get(flat.paths[i]!),
  }));
  compare(at, family, model, parameters, tensors);
  const own = (name: string): DType => dtype ?? (tensors.get(name)!.dtype as DType);
  const plain = parameters.filter(({ stored: s }) => !s.stacked && !s.transposed);
  const requests = plain.map(({ leaf, stored: { names }, to }) => ({
    name: names[0]!,
    shape: leaf.shape,
    dtype: own(names[0]!),
    to,
  }));
  const found = new Map<Tensor, Tensor>();
  for (const [i, tensor] of (await loadTensors(weights, requests, "parameter")).entries())
    found.set(plain[i]!.leaf, tensor);
  // One by one: for a moment its parts lie beside the whole.
  for (const { leaf, stored: s, to } of parameters) {
    if (found.has(leaf)) continue;
    const part = to && { mesh: to.mesh, spec: partShape(to.spec, s) };
    const whole = await scope(async () => {
      const parts = s.names.map((name) => ({
        name,
        shape: partShape(leaf.shape, s),
        dtype: own(name),
        to: part,
      }));
      return assembler(to)(await loadTensors(weights, parts, "parameter"), s.transposed);
    });
    found.set(leaf, whole);
  }
  return flat.rebuild(flat.leaves.map((leaf) => found.get(leaf)!)) as Decoder;
}

/** The model that `config.json` describes. */
function opened(
  family: Family,
  json: Json,
  path: string,
  options: LayerOptions & { generation?: string },
): Decoder {
  const config = readConfig(family, json, path);
  try {
    return build(family, config, { ...options, source: json });
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    throw new CheckpointError(`${path}: ${error.message}`, error.fix ?? "correct the file", { cause: error });
  }
}

/** Puts the parts of a parameter together, where it shall lie. */
function assembler(to: Placement | undefined): (parts: Tensor[], transposed: boolean) => Tensor {
  const key = to === undefined ? "" : placementKey(to);
  const known = assemblers.get(key);
  if (known !== undefined) return known;
  const made = jit(
    (parts: Tensor[], transposed: boolean): Tensor => (transposed ? transpose(parts[0]!) : stack(parts)),
    { name: "assemble_parameter", tag: () => "parameter", place: () => to, manyTraces: true },
  );
  assemblers.set(key, made);
  return made;
}

const assemblers = new Map<string, (parts: Tensor[], transposed: boolean) => Tensor>();

const generationFile = "generation_config.json";

function generationText(folder: string): string | undefined {
  const path = join(folder, generationFile);
  return existsSync(path) ? readJson(path).text : undefined;
}

function familyOf(json: Json, path: string): Family {
  const named = json.architectures;
  const architecture = Array.isArray(named) && named.length > 0 ? String(named[0]) : undefined;
  const family = families.find((f) =>
    architecture === undefined ? f.modelType === json.model_type : f.architecture === architecture,
  );
  if (family !== undefined) return family;
  throw new CheckpointError(
    `${path}: the architecture is ${architecture ?? json.model_type ?? "not named"}`,
    `those that can be opened: ${families.map((f) => f.architecture).join(", ")}`,
  );
}

/** The first GPT-2 files name their tensors without the "transformer." before them. */
function withoutPrefix(stored: readonly Stored[], tensors: ReadonlyMap<string, unknown>): readonly Stored[] {
  const prefix = /^transformer\./;
  const names = stored.flatMap((s) => s.names);
  if (!names.some((name) => prefix.test(name)) || names.some((name) => tensors.has(name))) return stored;
  return stored.map((s) => ({ ...s, names: s.names.map((name) => name.replace(prefix, "")) }));
}

/** What each tensor in the file has for its axes, from what the parameter has. */
function partShape<T>(axes: readonly T[], { stacked, transposed }: Stored): readonly T[] {
  if (stacked) return axes.slice(1);
  return transposed ? [...axes].reverse() : axes;
}

/** Throws where the file and the model do not fit. */
function compare(
  folder: string,
  family: Family,
  model: Decoder,
  parameters: readonly { leaf: Tensor; stored: Stored }[],
  tensors: ReadonlyMap<string, { shape: readonly number[]; dtype: string }>,
): void {
  const [missing, unexpected, misshapen]: [string[], string[], string[]] = [[], [], []];
  const known = new Set<string>();
  for (const { leaf, stored } of parameters) {
    const wanted = partShape(leaf.shape, stored);
    for (const name of stored.names) {
      known.add(name);
      const found = tensors.get(name);
      if (found === undefined) missing.push(name);
      else if (found.shape.join() !== wanted.join())
        misshapen.push(
          `${name} is [${found.shape.join(", ")}], the configuration says [${wanted.join(", ")}]`,
        );
    }
  }
  for (const name of tensors.keys()) {
    const tiedHead = model.lmHead === null && name === "lm_head.weight";
    if (!known.has(name) && !tiedHead && family.ignored?.test(name) !== true) unexpected.push(name);
  }
  const list = (what: string, names: readonly string[], separator = ", "): string[] => {
    if (names.length === 0) return [];
    const rest = names.length > 5 ? `${separator}and ${names.length - 5} more` : "";
    return [`${what}${names.slice(0, 5).join(separator)}${rest}`];
  };
  const problems = [
    ...list("missing: ", missing),
    ...list("unexpected: ", unexpected),
    ...list("", misshapen, "; "),
  ];
  if (problems.length === 0) return;
  throw new CheckpointError(
    `${folder} does not fit its config.json: ${problems.join("; ")}`,
    "check that all files of the checkpoint are there and belong together",
  );
}

export interface SaveOptions {
  /** Bytes of parameters above which they are divided into several files with an index. Default 5 GB. */
  maxFileBytes?: number;
  /** Saved beside the model. A model that was not opened from a checkpoint gets its tokens that begin, end and fill up texts. */
  tokenizer?: Tokenizer;
}

/**
 * Writes a model as `config.json` and safetensors files that transformers opens too. `config.json` says what the model is now: another
 * number of rows in both tables, layers taken off the end, an output layer of its own or a shared one.
 *
 * @throws CheckpointError with the fields in which it is no longer of its family: replaced layers, further Tensors
 */
export async function save(
  model: Decoder,
  folder: string,
  { maxFileBytes = 5e9, tokenizer }: SaveOptions = {},
): Promise<void> {
  if (!(model instanceof Decoder) || typeof folder !== "string")
    throw new ArgumentError("save: the arguments are no model and folder", "call save(model, folder)");
  if (!(maxFileBytes > 0))
    throw new ArgumentError(`save: maxFileBytes is ${maxFileBytes}`, "give a positive number of bytes");
  const { family } = model;
  if (family === null) {
    throw new ArgumentError(
      "save: the model is of no family",
      `make it with one of llm.${families.map((f) => f.name).join(", llm.")}`,
    );
  }
  const config = fittedConfig(model);
  refuseChanged(model, config);
  if (tokenizer !== undefined) checkTokenizer("save", { config }, tokenizer);
  mkdirSync(folder, { recursive: true });
  let bytes = 0;
  const tensors = new Map<string, Tensor>();
  // The scope below would free the model's own leaves, were they computed in it.
  materialize([...named(model).values()]);
  for (const [path, tensor] of named(model)) {
    bytes += tensor.size * itemSize(tensor.dtype);
    const { names, stacked, transposed } = storedAs(family, path, tensor.shape);
    for (const [i, name] of names.entries())
      tensors.set(name, stacked ? tensor.slice(i) : transposed ? transpose(tensor) : tensor);
  }
  const whole = bytes <= maxFileBytes;
  const indexed = indexedFiles(folder);
  await scope(async () => {
    await saveTensors(whole ? join(folder, "model.safetensors") : folder, tensors, {
      metadata: { format: "pt" },
      maxFileBytes,
    });
  });
  // What an earlier save in another number of files has left would be read too.
  for (const file of whole ? [...indexed, "model.safetensors.index.json"] : ["model.safetensors"])
    rmSync(join(folder, file), { force: true });
  const { dtype } = model.model.embedTokens.weight;
  const json = writeConfig(family, config, dtype, model.source);
  if (tokenizer !== undefined) {
    await tokenizer.save(folder);
    const { bosId = null, eosId = null, padId = null } = tokenizer;
    if (model.source === null)
      Object.assign(json, { bos_token_id: bosId, eos_token_id: eosId, pad_token_id: padId });
  }
  if (model.generation !== null) replaceFileSync(join(folder, generationFile), model.generation);
  replaceFileSync(join(folder, "config.json"), configText(json));
}

/** The files that the folder's index names. */
function indexedFiles(folder: string): string[] {
  const index = join(folder, "model.safetensors.index.json");
  if (!existsSync(index)) return [];
  const { weight_map: map } = readJson(index).json as { weight_map?: Record<string, string> };
  return [...new Set(Object.values(map ?? {}))].filter((file) => basename(file) === file);
}
