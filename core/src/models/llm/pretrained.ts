/** Checkpoints in Hugging Face's layout: `config.json` and safetensors, straight from the disk to the devices and back. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { listTensors, loadTensors, saveTensors } from "../../array/storage.js";
import { CheckpointError } from "../../checkpoint/errors.js";
import { replaceFileSync } from "../../files/atomic.js";
import type { DType } from "../../graph/dtype.js";
import { checkpointName } from "../../nn/module.js";
import type { RotaryScaling } from "../../nn/rotary.js";
import { flatten, named } from "../../transform/tree.js";
import { Llama, type LlamaConfig } from "./llama.js";

type Json = Record<string, unknown>;

/** Fields of `config.json` by ours. */
const fields = {
  vocabSize: "vocab_size",
  hiddenSize: "hidden_size",
  intermediateSize: "intermediate_size",
  layers: "num_hidden_layers",
  heads: "num_attention_heads",
  keyValueHeads: "num_key_value_heads",
  headDim: "head_dim",
  normEpsilon: "rms_norm_eps",
  tieEmbeddings: "tie_word_embeddings",
  initStd: "initializer_range",
} as const satisfies Partial<Record<keyof LlamaConfig, string>>;

const architectures = ["LlamaForCausalLM", "MistralForCausalLM"];

/** A `config.json` of the Llama family as a configuration; what the model cannot compute is refused by name. */
export function readLlamaConfig(json: Json, path = "config.json"): LlamaConfig {
  const refuse = (what: string, fix: string): never => {
    throw new CheckpointError(`${path}: ${what}`, fix);
  };
  const [architecture] = (json.architectures as string[] | undefined) ?? [];
  if (architecture === undefined || !architectures.includes(architecture)) {
    refuse(
      `the architecture is ${architecture ?? "not named"}`,
      `those that can be opened: ${architectures.join(", ")}`,
    );
  }
  const only: [string, unknown[]][] = [
    ["hidden_act", ["silu", undefined]],
    ["attention_bias", [false, undefined]],
    ["mlp_bias", [false, undefined]],
    ["sliding_window", [null, undefined]],
  ];
  for (const [field, allowed] of only) {
    if (!allowed.includes(json[field])) {
      refuse(
        `${field} is ${JSON.stringify(json[field])}`,
        `only ${JSON.stringify(allowed[0])} can be computed yet`,
      );
    }
  }
  const config: Record<string, unknown> = {};
  for (const [ours, theirs] of Object.entries(fields)) {
    if (json[theirs] !== undefined && json[theirs] !== null) config[ours] = json[theirs];
  }
  // transformers 5 keeps both in `rope_parameters`, earlier ones apart.
  const rope = (json.rope_parameters ?? json.rope_scaling ?? {}) as Json;
  const theta = json.rope_theta ?? rope.rope_theta;
  if (theta !== undefined) config.ropeTheta = theta;
  const ropeScaling = readScaling(rope, refuse);
  if (ropeScaling !== undefined) config.ropeScaling = ropeScaling;
  return config as unknown as LlamaConfig;
}

function readScaling(rope: Json, refuse: (what: string, fix: string) => never): RotaryScaling | undefined {
  const type = (rope.rope_type ?? rope.type ?? "default") as string;
  if (type === "default") return undefined;
  if (type === "linear") return { type, factor: rope.factor as number };
  if (type !== "llama3")
    return refuse(`rope type "${type}"`, 'only "default", "linear" and "llama3" can be computed yet');
  return {
    type,
    factor: rope.factor as number,
    lowFrequencyFactor: rope.low_freq_factor as number,
    highFrequencyFactor: rope.high_freq_factor as number,
    originalContext: rope.original_max_position_embeddings as number,
  };
}

/** A configuration as `config.json`, as transformers 5 writes it. */
export function writeLlamaConfig(config: Llama["config"], dtype: DType): Json {
  const json: Json = { architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu" };
  for (const [ours, theirs] of Object.entries(fields)) json[theirs] = config[ours as keyof typeof fields];
  const scaling = config.ropeScaling;
  json.rope_parameters = {
    rope_theta: config.ropeTheta,
    rope_type: scaling?.type ?? "default",
    ...(scaling !== undefined && { factor: scaling.factor }),
    ...(scaling?.type === "llama3" && {
      low_freq_factor: scaling.lowFrequencyFactor,
      high_freq_factor: scaling.highFrequencyFactor,
      original_max_position_embeddings: scaling.originalContext,
    }),
  };
  return { ...json, attention_bias: false, mlp_bias: false, dtype };
}

export interface LoadOptions {
  /** Element type of the parameters. Default the file's own. */
  dtype?: "float32" | "bfloat16" | "float16";
}

/**
 * Opens a checkpoint folder with `config.json` and `model.safetensors`, or several files and their index. The parameters go from the
 * disk to the devices without passing through this process.
 *
 * @throws CheckpointError with the names that are missing or have another shape
 */
export async function load(folder: string, { dtype }: LoadOptions = {}): Promise<Llama> {
  const path = join(folder, "config.json");
  let json: Json;
  try {
    json = JSON.parse(readFileSync(path, "utf8")) as Json;
  } catch (error) {
    throw new CheckpointError(
      `${path} cannot be read: ${(error as Error).message}`,
      "give the folder of a checkpoint",
      {
        cause: error,
      },
    );
  }
  const model = new Llama(readLlamaConfig(json, path));
  const tensors = await listTensors(folder);
  const flat = flatten(model);
  const names = flat.paths.map(checkpointName);
  const problems: string[] = [];
  for (const [i, name] of names.entries()) {
    const found = tensors.get(name);
    const wanted = flat.leaves[i]!.shape;
    if (found === undefined) problems.push(`${name} is missing`);
    else if (found.shape.join() !== wanted.join()) {
      problems.push(`${name} is [${found.shape.join(", ")}], the configuration says [${wanted.join(", ")}]`);
    }
  }
  if (problems.length > 0) {
    const shown = problems.slice(0, 5).join("; ");
    throw new CheckpointError(
      `${folder} does not fit its config.json: ${shown}${problems.length > 5 ? `; and ${problems.length - 5} more` : ""}`,
      "check that all files of the checkpoint are there and belong together",
    );
  }
  const wanted = names.map((name, i) => ({
    name,
    shape: flat.leaves[i]!.shape,
    dtype: dtype ?? (tensors.get(name)!.dtype as DType),
  }));
  return flat.rebuild(await loadTensors(folder, wanted, "parameter")) as Llama;
}

/** Writes a model as `config.json` and safetensors files that transformers opens too. */
export async function save(model: Llama, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const tensors = new Map([...named(model)].map(([path, tensor]) => [checkpointName(path), tensor]));
  await saveTensors(join(folder, "model.safetensors"), tensors, { format: "pt" });
  const dtype = model.model.embedTokens.weight.dtype;
  replaceFileSync(
    join(folder, "config.json"),
    `${JSON.stringify(writeLlamaConfig(model.config, dtype), null, 2)}\n`,
  );
}
