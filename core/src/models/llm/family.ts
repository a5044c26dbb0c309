/** Families of models: which parts a decoder has, and how its checkpoints look in Hugging Face's layout. */
import { CheckpointError } from "../../checkpoint/errors.js";
import type { Activation } from "../../nn/mlp.js";
import { checkpointName } from "../../nn/module.js";
import type { RotaryScaling } from "../../nn/rotary.js";
import type { Json } from "../pretrained/folders.js";
import { jsonText, type Stored } from "../pretrained/weights.js";
import { type DecoderConfig, type ResolvedConfig, resolve } from "./config.js";

export type { Json, Stored };

/** What every family lets one choose. */
export type CommonConfig = Pick<
  DecoderConfig,
  | "vocabSize"
  | "hiddenSize"
  | "intermediateSize"
  | "layers"
  | "heads"
  | "keyValueHeads"
  | "headDim"
  | "normEpsilon"
  | "tieEmbeddings"
  | "initStd"
>;

/** What those with rotary embeddings let one choose too. */
export type RotaryConfig = CommonConfig & Pick<DecoderConfig, "ropeTheta" | "ropeScaling">;

/** Fields of `config.json` by ours. */
export const commonFields = {
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
  activation: "hidden_act",
} as const satisfies Partial<Record<keyof DecoderConfig, string>>;

export interface Family {
  readonly name: string;
  readonly architecture: string;
  readonly modelType: string;
  /** The parts that make the family, given what was chosen. */
  traits(config: CommonConfig): Partial<DecoderConfig>;
  /** What transformers takes where `config.json` says nothing, if it is not our default. */
  readonly silent?: Partial<DecoderConfig>;
  readonly fields: Partial<Record<keyof DecoderConfig, string>>;
  /** Fields of which we compute only these values (`undefined`: absent). */
  readonly only?: Readonly<Record<string, readonly unknown[]>>;
  /** What else of our configuration follows from `config.json`. */
  read?(json: Json, refuse: Refuse): Partial<DecoderConfig>;
  /** What else of `config.json` follows from our configuration. */
  write?(config: ResolvedConfig): Json;
  /** The name of a parameter in a checkpoint, from that which Llama's would have. */
  rename?(name: string): string;
  /** Whether a checkpoint holds the parameter of this (checkpoint's) name as [inputs, outputs]. */
  transposed?(name: string): boolean;
  /** Names that checkpoints may have and the model does not need. */
  readonly ignored?: RegExp;
}

export type Refuse = (what: string, fix: string) => never;

const activationNames: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  relu: "relu",
  relu2: "relu2",
};

const layerKinds: Readonly<Record<string, "full" | "sliding">> = {
  full_attention: "full",
  sliding_attention: "sliding",
};

/** A `config.json` of the family as a configuration; what the model cannot compute is refused by name. */
export function readConfig(family: Family, json: Json, path: string): DecoderConfig {
  const refuse: Refuse = (what, fix) => {
    throw new CheckpointError(`${path}: ${what}`, fix);
  };
  for (const [field, allowed] of Object.entries(family.only ?? {})) {
    if (!allowed.includes(json[field])) {
      const could = allowed.filter((x) => x !== undefined).map((x) => JSON.stringify(x));
      refuse(`${field} is ${JSON.stringify(json[field])}`, `only ${could.join(" and ")} can be computed yet`);
    }
  }
  const quantized = json.quantization_config as Json | null | undefined;
  if (quantized !== undefined && quantized !== null)
    refuse(
      `the weights are quantized (${String(quantized.quant_method)})`,
      "open the checkpoint that it was made from",
    );
  const config: Record<string, unknown> = { ...family.silent };
  for (const [ours, theirs] of Object.entries(family.fields)) {
    const value = json[theirs];
    if (value === undefined) continue;
    // None is none, whatever would be taken if the file said nothing.
    config[ours] = value ?? undefined;
    if (value === null) continue;
    if (ours !== "activation") continue;
    config[ours] = activationNames[value as string];
    if (config[ours] === undefined)
      refuse(
        `${theirs} is ${JSON.stringify(value)}`,
        `one of ${Object.keys(activationNames).join(", ")} can be computed`,
      );
  }
  const kinds = json.layer_types as string[] | null | undefined;
  if (Array.isArray(kinds)) {
    config.layerTypes = kinds.map(
      (kind) =>
        layerKinds[kind] ??
        refuse(
          `a layer type is ${JSON.stringify(kind)}`,
          `one of ${Object.keys(layerKinds).join(", ")} can be computed`,
        ),
    );
  }
  const read = { ...config, ...family.read?.(json, refuse) } as Partial<DecoderConfig>;
  for (const needed of ["vocabSize", "hiddenSize", "intermediateSize", "layers", "heads"] as const) {
    if (read[needed] === undefined)
      refuse(`${family.fields[needed] ?? needed} is missing`, "check that the file is whole");
  }
  // Layers are named also where none has a window.
  if (read.layerTypes?.every((kind) => kind === "full")) delete read.window;
  return read as DecoderConfig;
}

/** A family's configuration with its parts and all defaults. */
export function resolved(family: Family, config: DecoderConfig): ResolvedConfig {
  return resolve({ ...family.traits(config), ...config }, family.name);
}

/** A model that was not opened from a file knows no tokens; transformers would take those of the family's first tokenizer. */
const noTokens: Json = { bos_token_id: null, eos_token_id: null, pad_token_id: null };

/** The text of a `config.json`. */
export function configText(json: Json): string {
  return jsonText(json, floats);
}

const floats = [
  "attn_logit_softcapping",
  "final_logit_softcapping",
  "initializer_range",
  "layer_norm_epsilon",
  "rms_norm_eps",
  "router_aux_loss_coef",
  "router_jitter_noise",
];

/** A configuration as `config.json`, as transformers 5 writes it; what `source` says already stays as it says it. */
export function writeConfig(
  family: Family,
  config: ResolvedConfig,
  dtype: string,
  source: Json | null,
): Json {
  const json: Json = {
    ...(source ?? noTokens),
    architectures: [family.architecture],
    model_type: family.modelType,
  };
  const before = source === null ? undefined : resolved(family, readConfig(family, source, "config.json"));
  for (const [ours, theirs] of Object.entries(family.fields) as [keyof ResolvedConfig, string][]) {
    const value = config[ours];
    if (before !== undefined && value === before[ours]) continue;
    json[theirs] =
      ours === "activation" ? (value === "geluTanh" ? "gelu_pytorch_tanh" : value) : (value ?? null);
  }
  delete json.torch_dtype;
  // Its frequencies are stretched from the model's context on.
  if (config.ropeScaling?.type === "dynamic")
    json.max_position_embeddings = config.ropeScaling.originalContext;
  return { ...json, ...family.write?.(config), dtype };
}

/** The layers' kinds as `config.json` names them. */
export function writeLayerTypes({ layerTypes }: ResolvedConfig): Json {
  return { layer_types: layerTypes.map((kind) => `${kind}_attention`) };
}

// Rotary embeddings: transformers 5 keeps all in `rope_parameters`, earlier ones in `rope_scaling` and fields beside it.

/** Base and scaling of the rotary frequencies; `theta` is the base where the file names none. */
export function readRotary(json: Json, refuse: Refuse, theta = 10_000): Partial<DecoderConfig> {
  const rope = (json.rope_parameters ?? json.rope_scaling ?? {}) as Json;
  const base = (rope.rope_theta ?? json.rope_theta ?? theta) as number;
  const ropeScaling = readScaling(rope, json, refuse);
  return { ropeTheta: base, ...(ropeScaling !== undefined && { ropeScaling }) };
}

export function readScaling(rope: Json, json: Json, refuse: Refuse): RotaryScaling | undefined {
  const type = (rope.rope_type ?? rope.type ?? "default") as string;
  const present = json.max_position_embeddings as number;
  const originalContext = (rope.original_max_position_embeddings ??
    json.original_max_position_embeddings ??
    present) as number;
  const given = <T extends object>(fields: T): T =>
    Object.fromEntries(
      Object.entries(fields).filter(([, value]) => value !== undefined && value !== null),
    ) as T;
  const factor = rope.factor as number;
  switch (type) {
    case "default":
      return undefined;
    case "linear":
      return { type, factor };
    case "dynamic":
      return { type, factor, originalContext: present };
    case "llama3":
      return {
        type,
        factor,
        lowFrequencyFactor: rope.low_freq_factor as number,
        highFrequencyFactor: rope.high_freq_factor as number,
        originalContext,
      };
    case "yarn":
      return given({
        type,
        factor: factor ?? present / originalContext,
        originalContext,
        betaFast: rope.beta_fast as number,
        betaSlow: rope.beta_slow as number,
        attentionFactor: rope.attention_factor as number,
        mscale: rope.mscale as number,
        mscaleAllDim: rope.mscale_all_dim as number,
        truncate: rope.truncate as boolean,
      });
    case "longrope":
    case "su":
      return given({
        type: "longrope" as const,
        factor: factor ?? present / originalContext,
        originalContext,
        shortFactor: rope.short_factor as number[],
        longFactor: rope.long_factor as number[],
        attentionFactor: rope.attention_factor as number,
      });
    default:
      return refuse(
        `rope type "${type}"`,
        'only "default", "linear", "dynamic", "yarn", "longrope" and "llama3" can be computed',
      );
  }
}

/** `rope_parameters` of a base and a scaling. */
export function writeRotary(theta: number, scaling: RotaryScaling | undefined): Json {
  const fields: Json = { rope_theta: theta, rope_type: scaling?.type ?? "default" };
  const names: Record<string, string> = {
    lowFrequencyFactor: "low_freq_factor",
    highFrequencyFactor: "high_freq_factor",
    originalContext: "original_max_position_embeddings",
    mscaleAllDim: "mscale_all_dim",
  };
  for (const [name, value] of Object.entries(scaling ?? {})) {
    if (name !== "type") fields[names[name] ?? checkpointName(name)] = value;
  }
  // Its original context is the model's context.
  if (scaling?.type === "dynamic") delete fields.original_max_position_embeddings;
  return fields;
}

/** Where the parameter at `path` lies in the family's checkpoints. */
export function storedAs(family: Family, path: string, shape: readonly number[]): Stored {
  const rename = family.rename ?? ((name: string): string => name);
  const expert = /^(.*\.experts)\.(gate|up|down)Proj$/.exec(path);
  if (expert !== null) {
    const names = Array.from({ length: shape[0]! }, (_, i) =>
      rename(checkpointName(`${expert[1]}.${i}.${expert[2]}Proj.weight`)),
    );
    return { names, stacked: true, transposed: false };
  }
  const name = rename(checkpointName(path));
  return { names: [name], stacked: false, transposed: family.transposed?.(name) ?? false };
}
