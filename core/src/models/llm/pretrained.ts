/** Checkpoints in Hugging Face's layout: `config.json` and safetensors, straight from the disk to the devices and back. */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError } from "../../checkpoint/errors.js";
import { listFiles } from "../../checkpoint/pieces.js";
import type { Tokenizer } from "../../data/text/tokenizer.js";
import { replaceFileSync } from "../../files/atomic.js";
import { ArgumentError } from "../../graph/errors.js";
import type { Mesh } from "../../graph/mesh.js";
import type { LayerOptions } from "../../nn/stack.js";
import type { Rules } from "../../sharding/rules.js";
import { flatten } from "../../transform/tree.js";
import { modelFolder, readJson, weightsIn } from "../pretrained/folders.js";
import { loadWeights, saveWeights } from "../pretrained/weights.js";
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
  return loadWeights(model, weights, withoutPrefix(stored, tensors), {
    folder: at,
    tensors,
    dtype,
    mesh,
    rules,
    ignores: (name) =>
      (model.lmHead === null && name === "lm_head.weight") || family.ignored?.test(name) === true,
  });
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
  await saveWeights(model, folder, (path, shape) => storedAs(family, path, shape), { maxFileBytes });
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
