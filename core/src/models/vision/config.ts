/** Configurations of vision models, and how `config.json` says them. */
import { CheckpointError } from "../../checkpoint/errors.js";
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknown } from "../../graph/spelling.js";
import { type Activation, activations } from "../../nn/mlp.js";
import type { Json } from "../pretrained/folders.js";

/** What every model for pictures has. */
export interface ImageConfig {
  /** Channels of a picture. Default 3. */
  channels?: number;
  /** Number of classes of the classifier. Default none: `forward` gives features. */
  classes?: number;
  /** Names of the classes, as many. Default "LABEL_0" and so on. */
  labels?: readonly string[];
}

/** Layers of a transformer. */
export interface TransformerConfig {
  hiddenSize: number;
  /** Default 4 hiddenSize. */
  intermediateSize?: number;
  layers: number;
  heads: number;
  activation?: Activation;
  normEpsilon?: number;
  /** Standard deviation of the initial weights. Default 0.02. */
  initStd?: number;
  /** Largest rate of stochastic depth; it rises linearly from 0 at the first layer. Default 0. */
  dropPath?: number;
}

/** A transformer over the patches of a picture. */
export interface PatchConfig extends TransformerConfig {
  /** Side of the pictures that the positions are for. */
  imageSize: number;
  patchSize: number;
}

const activationNames: Readonly<Record<string, Activation>> = {
  silu: "silu",
  gelu: "gelu",
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  quick_gelu: "quickGelu",
  relu: "relu",
};

/** Fields of `config.json` by ours, of all families that have them. */
export const transformerFields = {
  hiddenSize: "hidden_size",
  intermediateSize: "intermediate_size",
  layers: "num_hidden_layers",
  heads: "num_attention_heads",
  activation: "hidden_act",
  normEpsilon: "layer_norm_eps",
} as const;

export const patchFields = {
  ...transformerFields,
  imageSize: "image_size",
  patchSize: "patch_size",
  channels: "num_channels",
} as const;

export type Fields = Readonly<Record<string, string>>;

/**
 * What of a `config.json` our fields say.
 *
 * @param defaults - what transformers takes where the file says nothing, by our names
 * @param only - fields of which we compute only these values (`undefined`: absent)
 * @throws CheckpointError for a field that is missing, or has a value that cannot be computed, by name
 */
export function readFields<C extends object>(
  json: Json,
  path: string,
  { fields, defaults, only = {} }: { fields: Fields; defaults: C; only?: Record<string, readonly unknown[]> },
): C {
  for (const [field, allowed] of Object.entries(only)) {
    if (allowed.includes(json[field])) continue;
    const could = allowed.filter((x) => x !== undefined).map((x) => JSON.stringify(x));
    throw new CheckpointError(
      `${path}: ${field} is ${JSON.stringify(json[field])}`,
      `only ${could.join(" and ")} can be computed yet`,
    );
  }
  const config = { ...defaults } as Record<string, unknown>;
  for (const [ours, theirs] of Object.entries(fields)) {
    const value = json[theirs];
    if (value === undefined || value === null) continue;
    config[ours] = value;
    if (ours !== "activation") continue;
    config[ours] = activationNames[value as string];
    if (config[ours] === undefined)
      throw new CheckpointError(
        `${path}: ${theirs} is ${JSON.stringify(value)}`,
        `one of ${Object.keys(activationNames).join(", ")} can be computed`,
      );
  }
  return config as C;
}

/** The fields of `config.json` that a configuration says; what is not set is left out. */
export function writeFields(config: object, fields: Fields): Json {
  const json: Json = {};
  for (const [ours, theirs] of Object.entries(fields)) {
    const value = (config as Record<string, unknown>)[ours];
    if (value === undefined) continue;
    json[theirs] =
      ours === "activation"
        ? Object.entries(activationNames).findLast(([, activation]) => activation === value)?.[0]
        : value;
  }
  return json;
}

/** The classes that a `config.json` names; transformers has two where it says nothing. */
export function readClasses(json: Json): { classes: number; labels?: readonly string[] } {
  const names = json.id2label as Record<string, string> | undefined;
  if (names === undefined) return { classes: (json.num_labels as number | undefined) ?? 2 };
  const labels = Object.entries(names)
    .sort(([a], [b]) => Number(a) - Number(b))
    .map(([, label]) => label);
  const plain = labels.every((label, i) => label === `LABEL_${i}`);
  return { classes: labels.length, ...(!plain && { labels }) };
}

export function writeClasses({ classes, labels }: ImageConfig): Json {
  if (classes === undefined) return {};
  const names = Array.from({ length: classes }, (_, i) => labels?.[i] ?? `LABEL_${i}`);
  return {
    id2label: Object.fromEntries(names.map((name, i) => [String(i), name])),
    label2id: Object.fromEntries(names.map((name, i) => [name, i])),
  };
}

/** @throws ArgumentError for what no model can be made of, by field */
export function checkConfig(name: string, config: object, known: readonly string[]): void {
  if (typeof config !== "object" || config === null)
    throw new ArgumentError(
      `${name}: the configuration is ${String(config)}`,
      "give one of vision.configs, or fields",
    );
  refuseUnknown(`${name}: there is no field`, Object.keys(config), known);
  const c = config as ImageConfig & Partial<PatchConfig>;
  for (const field of [
    "channels",
    "classes",
    "hiddenSize",
    "intermediateSize",
    "layers",
    "heads",
    "imageSize",
    "patchSize",
  ] as const) {
    const value = c[field];
    if (value !== undefined && !(Number.isInteger(value) && value >= 1))
      throw new ArgumentError(`${name}: ${field} is ${value}`, "give a whole number from 1");
  }
  if (c.labels !== undefined && c.labels.length !== c.classes)
    throw new ArgumentError(
      `${name}: ${c.labels.length} labels for ${c.classes ?? "no"} classes`,
      "name every class, or none",
    );
  if (c.activation !== undefined && !Object.hasOwn(activations, c.activation))
    throw new ArgumentError(
      `${name}: the activation is ${JSON.stringify(c.activation)}`,
      `one of ${Object.keys(activations).join(", ")}`,
    );
  const { imageSize, patchSize, hiddenSize, heads } = c;
  if (imageSize !== undefined && patchSize !== undefined && imageSize < patchSize)
    throw new ArgumentError(
      `${name}: pictures of ${imageSize} pixels in patches of ${patchSize}`,
      "give an imageSize of at least a patch",
    );
  if (hiddenSize !== undefined && heads !== undefined && hiddenSize % heads !== 0)
    throw new ArgumentError(
      `${name}: ${hiddenSize} features in ${heads} heads`,
      "hiddenSize is a multiple of heads",
    );
}
