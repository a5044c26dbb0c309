/** What an adapter's file holds: the tensors of a model's adapter by the names that PEFT has for them. */
import { reshape, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { checkpointName, type Module } from "../nn/module.js";
import { flatten } from "../transform/tree.js";
import { TokenRows, WholeModule } from "./auxiliary.js";
import { Bottleneck } from "./bottleneck.js";
import { Scaling } from "./ia3.js";
import { LowRank } from "./low-rank.js";
import { adaptedLayers } from "./model.js";
import { LowRankParameters } from "./parameters.js";
import { Prompt } from "./prompt-tuning.js";
import { PromptAdapter } from "./prompts.js";
import { moduleName, modulesOf, type NamedModel, type Target } from "./targets.js";

/** A tensor of a file and where it is in the model. */
export interface Entry {
  readonly key: string;
  /** What the parameter is called in PEFT's model, where the adapter has its name "default". */
  readonly parameter: string;
  /** Path of the leaf. */
  readonly path: string;
  /** In the file. */
  readonly shape: readonly number[];
  /** The leaf as the file has it, and back. */
  toFile(leaf: Tensor): Tensor;
  fromFile(stored: Tensor): Tensor;
  /** What is saved, where it is not a leaf. */
  readonly value?: () => Tensor;
}

const prefix = "base_model.model.";

function entry(
  key: string,
  path: string,
  leaf: Tensor,
  toFile: (x: Tensor) => Tensor = (x) => x,
  fromFile: (x: Tensor) => Tensor = (x) => reshape(x, leaf.shape),
): Entry {
  return { key, parameter: parameterName(key), path, shape: toFile(leaf).shape, toFile, fromFile };
}

function parameterName(key: string): string {
  return key
    .replace(/\.(lora_[AB])\.weight$/, ".$1.default.weight")
    .replace(/\.(lora_embedding_[AB]|ia3_l|trainable_tokens_delta)$/, ".$1.default")
    .replace(/\.lora_magnitude_vector$/, "$&.default.weight");
}

const join = (...names: string[]): string => names.filter((name) => name !== "").join(".");

/** All tensors of an adapter. */
export function entriesOf(model: Module, name: string): Entry[] {
  const found: Entry[] = [];
  for (const { module, path, name: own } of adaptedLayers(model)) {
    const adapter = module.adapters[name];
    const at = join(path, "adapters", name);
    const of = (suffix: string): string => prefix + join(own, suffix);
    if (adapter instanceof LowRank) found.push(...lowRankEntries(adapter, at, of));
    else if (adapter instanceof LowRankParameters)
      found.push(...parameterEntries(adapter, at, moduleName(model, join(path, adapter.within))));
    else if (adapter instanceof Scaling) found.push(scalingEntry(adapter, at, of));
    else if (adapter instanceof PromptAdapter) found.push(promptEntry(adapter, at));
    else if (adapter instanceof TokenRows)
      found.push(entry(of("token_adapter.trainable_tokens_delta"), `${at}.rows`, adapter.rows));
    else if (adapter instanceof WholeModule) found.push(...wholeEntries(model, adapter, at, path));
    else if (adapter instanceof Bottleneck) {
      for (const [field, as] of bottleneckNames)
        found.push(entry(of(`adapter_${as}`), `${at}.${field}`, adapter[field]));
    }
  }
  return [...found, ...biasEntries(model, name)];
}

const bottleneckNames = [
  ["down", "down.weight"],
  ["downBias", "down.bias"],
  ["up", "up.weight"],
  ["upBias", "up.bias"],
] as const;

function lowRankEntries(adapter: LowRank, at: string, of: (suffix: string) => string): Entry[] {
  const table = adapter.kind === "embedding";
  const { loraA, loraB, magnitude } = adapter;
  const found = [
    entry(of(table ? "lora_embedding_A" : "lora_A.weight"), `${at}.loraA`, loraA),
    entry(of(table ? "lora_embedding_B" : "lora_B.weight"), `${at}.loraB`, loraB),
  ];
  if (magnitude === null) return found;
  const space = loraA.ndim - 2;
  const shaped = (x: Tensor): Tensor =>
    space === 0 ? x : reshape(x, [1, -1, ...new Array<number>(space).fill(1)]);
  return [...found, entry(of("lora_magnitude_vector"), `${at}.magnitude`, magnitude, shaped)];
}

/** What is learnt by itself, or what an encoder makes: the encoder is not saved. */
function promptEntry(adapter: PromptAdapter, at: string): Entry {
  const field = adapter instanceof Prompt ? "embeddings" : "embedding";
  const leaf = (adapter as unknown as Record<string, Tensor>)[field]!;
  const found = entry("prompt_embeddings", `${at}.${field}`, leaf);
  const parameter = "prompt_encoder.default.embedding.weight";
  return { ...found, parameter, shape: adapter.value().shape, value: () => adapter.value() };
}

/** Each parameter's wrapper stands around those of the parameters before it. */
function parameterEntries({ products }: LowRankParameters, at: string, own: string): Entry[] {
  return products.flatMap(({ loraA, loraB }, i) => {
    const wrapped = new Array<string>(products.length - 1 - i).fill("base_layer");
    const key = prefix + join(own, ...wrapped);
    const experts = loraA.ndim === 3;
    const [count, , rank] = loraB.shape as [number, number, number];
    return [
      entry(`${key}.lora_A.weight`, `${at}.products.${i}.loraA`, loraA, (a) =>
        experts ? reshape(a, [-1, a.shape[2]!]) : a,
      ),
      entry(
        `${key}.lora_B.weight`,
        `${at}.products.${i}.loraB`,
        loraB,
        // The experts of a rank's column stand side by side.
        (b) => (experts ? reshape(transpose(b, [1, 2, 0]), [b.shape[1]!, -1]) : b),
        (b) => (experts ? transpose(reshape(b, [-1, rank, count]), [2, 0, 1]) : b),
      ),
    ];
  });
}

function scalingEntry(adapter: Scaling, at: string, of: (suffix: string) => string): Entry {
  const { feedforward, factors, space } = adapter;
  const ones = new Array<number>(space).fill(1);
  return entry(of("ia3_l"), `${at}.factors`, factors, (x) =>
    reshape(x, space > 0 || feedforward ? [1, x.size, ...ones] : [x.size, 1]),
  );
}

/** Where a parameter of the base lies in its checkpoints. */
function stored(
  model: Module,
  path: string,
  shape: readonly number[],
): { name: string; transposed: boolean } {
  const found = (model as NamedModel).storedAs?.(path, shape);
  const field = path.slice(path.lastIndexOf(".") + 1);
  const module = path.slice(0, Math.max(0, path.lastIndexOf(".")));
  return {
    name: join(moduleName(model, module), checkpointName(field)),
    transposed: found?.transposed === true,
  };
}

function wholeEntries(model: Module, { module }: WholeModule, at: string, path: string): Entry[] {
  const flat = flatten(module);
  return flat.leaves.map((leaf, i) => {
    const { name, transposed } = stored(model, join(path, flat.paths[i]!), leaf.shape);
    const turned = (x: Tensor): Tensor => (transposed ? transpose(x) : x);
    const found = entry(prefix + name, `${at}.module.${flat.paths[i]!}`, leaf, turned, turned);
    const within = prefix + moduleName(model, path);
    return {
      ...found,
      parameter: `${within}.modules_to_save.default${(prefix + name).slice(within.length)}`,
    };
  });
}

/** Biases of the base that are trained; those of layers with low-rank products lie inside of them. */
function biasEntries(model: Module, name: string): Entry[] {
  return trainedBiases(model).map(({ path, module, name: own }) => {
    const adapter = (module as { adapters?: Record<string, unknown> }).adapters?.[name];
    const inside = adapter instanceof LowRank ? "base_layer." : "";
    const { bias } = module as unknown as { bias: Tensor };
    return entry(`${prefix}${own}.${inside}bias`, join(path, "bias"), bias);
  });
}

/** Modules of the base whose biases are trained. */
export function trainedBiases(model: Module): Target[] {
  return modulesOf(model).filter(
    ({ module }) =>
      module.ownParameters.bias?.kind === "parameter" && (module as { bias?: unknown }).bias !== null,
  );
}
