/** `adapter_config.json` of methods that change layers, as PEFT writes and reads it. */
import { CheckpointError } from "../checkpoint/errors.js";
import { ArgumentError } from "../graph/errors.js";
import type { Activation } from "../nn/mlp.js";
import type { Module } from "../nn/module.js";
import { TokenRows, WholeModule } from "./auxiliary.js";
import { Bottleneck, type BottleneckOptions } from "./bottleneck.js";
import { checkConfig, common, empty, everywhere, type Json, type Rule } from "./fields.js";
import { type Ia3Options, Scaling } from "./ia3.js";
import type { LoraOptions } from "./lora.js";
import { LowRank } from "./low-rank.js";
import { adaptedLayers } from "./model.js";
import { LowRankParameters } from "./parameters.js";
import { writePrompt } from "./prompt-config.js";
import { PromptAdapter, type PromptableModel } from "./prompts.js";
import { isNamed, moduleName, modulesOf, type NamedModel, type Target, type Targets } from "./targets.js";
import { trainedBiases } from "./tensors.js";

interface Changed<A> extends Target {
  readonly adapter: A;
}

function changedBy<A>(model: Module, name: string, kind: abstract new (...args: never[]) => A): Changed<A>[] {
  return adaptedLayers(model).flatMap(({ module, ...rest }) => {
    const adapter = module.adapters[name];
    return adapter instanceof kind ? [{ ...rest, module, adapter: adapter as A }] : [];
  });
}

/** The shortest names that are those of these modules and of no others. */
function shortest(model: Module, targets: readonly Target[]): string[] {
  const all = modulesOf(model);
  const paths = new Set(targets.map(({ path }) => path));
  for (const parts of [1, 2]) {
    const names = [...new Set(targets.map(({ name }) => name.split(".").slice(-parts).join(".")))];
    if (all.every((each) => isNamed(names, each) === paths.has(each.path))) return names.sort();
  }
  return targets.map(({ name }) => name);
}

/** What most have, and by name what the others have. */
function mostly(values: readonly (readonly [name: string, value: number])[]): [most: number, others: Json] {
  const counts = new Map<number, number>();
  for (const [, value] of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const most = [...counts].sort(([, a], [, b]) => b - a)[0]?.[0] ?? 8;
  return [most, Object.fromEntries(values.filter(([, value]) => value !== most))];
}

/** The configuration of an adapter. */
export function writeConfig(model: Module, name: string): Json {
  const [prompt] = changedBy(model, name, PromptAdapter);
  if (prompt !== undefined) return writePrompt(model as PromptableModel, prompt.adapter);
  const whole = changedBy(model, name, WholeModule);
  const modulesToSave = whole.length === 0 ? null : shortest(model, whole);
  const scalings = changedBy(model, name, Scaling);
  if (scalings.length > 0) {
    const feedforward = scalings.filter(({ adapter }) => adapter.feedforward);
    return {
      ...common("IA3", model),
      exclude_modules: null,
      fan_in_fan_out: isTurned(model, scalings),
      feedforward_modules: shortest(model, feedforward),
      init_ia3_weights: true,
      modules_to_save: modulesToSave,
      target_modules: shortest(model, scalings),
    };
  }
  const bottlenecks = changedBy(model, name, Bottleneck);
  if (bottlenecks.length > 0) {
    const [{ adapter }] = bottlenecks as [Changed<Bottleneck>];
    return {
      ...common("BOTTLENECK", model),
      activation: adapter.activation,
      bottleneck_size: adapter.downBias.size,
      modules_to_save: modulesToSave,
      target_modules: shortest(model, bottlenecks),
    };
  }
  const layers = changedBy(model, name, LowRank);
  const parameters = changedBy(model, name, LowRankParameters);
  const products = parameters.flatMap(({ name: own, path, adapter }) =>
    adapter.products.map((product) => ({
      ...product,
      at: [adapter.within === "" ? own : moduleName(model, `${path}.${adapter.within}`), product.name]
        .filter((part) => part !== "")
        .join("."),
    })),
  );
  const rows = changedBy(model, name, TokenRows);
  if (layers.length + products.length + rows.length === 0)
    throw new ArgumentError(
      `save: the adapter ${JSON.stringify(name)} has no form that could be saved`,
      "save what peft.lora, peft.ia3 and kin have made; trained biases alone: peft.save of peft.bitfit",
    );
  const all = [
    ...layers.map(({ name: at, adapter }) => ({
      at,
      rank: adapter.rank,
      alpha: adapter.alpha,
      rsLora: adapter.rsLora,
    })),
    ...products.map(({ at, rank, alpha, rsLora }) => ({ at, rank, alpha, rsLora })),
  ];
  const [rank, ranks] = mostly(all.map((each) => [each.at, each.rank]));
  const [alpha, alphas] = mostly(all.map((each) => [each.at, each.alpha]));
  const biases = trainedBiases(model);
  return {
    ...common("LORA", model),
    alpha_pattern: alphas,
    bias:
      biases.length === 0
        ? "none"
        : biases.every(({ path }) => layers.some((l) => l.path === path))
          ? "lora_only"
          : "all",
    exclude_modules: null,
    fan_in_fan_out: isTurned(model, layers),
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_bias: false,
    lora_dropout: Math.max(0, ...layers.map(({ adapter }) => adapter.dropout?.rate ?? 0)),
    modules_to_save: modulesToSave,
    r: rank,
    rank_pattern: ranks,
    target_modules: shortest(model, layers),
    target_parameters: products.length === 0 ? null : products.map(({ at }) => at),
    trainable_token_indices:
      rows.length === 0
        ? null
        : Object.fromEntries(
            rows.map(({ name: at, adapter }) => [at.split(".").at(-1)!, [...adapter.indices]]),
          ),
    use_dora: layers.some(({ adapter }) => adapter.magnitude !== null),
    use_rslora: all.some((each) => each.rsLora),
  };
}

/** Whether checkpoints have the layers' weights as [inputs, outputs], as GPT-2's. */
function isTurned(model: Module, layers: readonly Target[]): boolean {
  return layers.some(({ path, module }) => {
    const { weight } = module as unknown as { weight: { shape: readonly number[] } };
    return (model as NamedModel).storedAs?.(`${path}.weight`, weight.shape)?.transposed === true;
  });
}

const rules: Readonly<Record<string, Readonly<Record<string, Rule>>>> = {
  LORA: {
    ...everywhere,
    alpha_pattern: "read",
    bias: "read",
    exclude_modules: "read",
    fan_in_fan_out: "ignored",
    // Others change the base's weights too.
    init_lora_weights: (value) =>
      typeof value !== "string" || ["gaussian", "eva", "orthogonal"].includes(value.toLowerCase()),
    layers_pattern: "read",
    layers_to_transform: "read",
    lora_alpha: "read",
    lora_dropout: "read",
    r: "read",
    rank_pattern: "read",
    target_modules: "read",
    target_parameters: "read",
    trainable_token_indices: "read",
    use_dora: "read",
    use_rslora: "read",
    megatron_core: "ignored",
    qalora_group_size: "ignored",
    ensure_weight_tying: empty,
    eva_config: "ignored",
    loftq_config: empty,
    runtime_config: "ignored",
    corda_config: empty,
    lora_ga_config: empty,
  },
  IA3: {
    ...everywhere,
    exclude_modules: "read",
    fan_in_fan_out: "ignored",
    feedforward_modules: "read",
    init_ia3_weights: "ignored",
    target_modules: "read",
  },
  BOTTLENECK: { ...everywhere, activation: "read", bottleneck_size: "read", target_modules: "read" },
};

function field<T>(json: Json, name: string): T | undefined {
  return (json[name] ?? undefined) as T | undefined;
}

/** Names, or a regular expression as a string. */
function targetsOf(path: string, value: unknown): Targets | undefined {
  if (value === null || value === undefined) return undefined;
  if (value === "all-linear") return "all-linear";
  if (Array.isArray(value)) return value as string[];
  try {
    return new RegExp(value as string);
  } catch (error) {
    throw new CheckpointError(
      `${path}: target_modules is ${JSON.stringify(value)}: ${(error as Error).message}`,
      "give a list of names",
      { cause: error },
    );
  }
}

/** What `lora` takes, from a configuration. */
export function readLora(path: string, json: Json, name: string): LoraOptions {
  checkConfig(path, json, rules.LORA!);
  const targets = targetsOf(path, json.target_modules);
  const exclude = targetsOf(path, json.exclude_modules);
  const none = Array.isArray(targets) && targets.length === 0;
  return defined({
    name,
    rank: field<number>(json, "r"),
    alpha: field<number>(json, "lora_alpha"),
    rsLora: field<boolean>(json, "use_rslora"),
    dora: field<boolean>(json, "use_dora"),
    dropout: field<number>(json, "lora_dropout"),
    targetModules: none ? undefined : targets,
    excludeModules: exclude as LoraOptions["excludeModules"],
    layersToTransform: field<number[]>(json, "layers_to_transform"),
    layersPattern: field<string>(json, "layers_pattern"),
    rankPattern: field<Record<string, number>>(json, "rank_pattern"),
    alphaPattern: field<Record<string, number>>(json, "alpha_pattern"),
    targetParameters: field<string[]>(json, "target_parameters"),
    modulesToSave: field<string[]>(json, "modules_to_save"),
    trainableTokenIndices: field<number[]>(json, "trainable_token_indices"),
    bias: field<"none">(json, "bias"),
  });
}

export function readIa3(path: string, json: Json, name: string): Ia3Options {
  checkConfig(path, json, rules.IA3!);
  const feedforward = json.feedforward_modules;
  return defined({
    name,
    targetModules: targetsOf(path, json.target_modules),
    excludeModules: targetsOf(path, json.exclude_modules) as Ia3Options["excludeModules"],
    feedforwardModules:
      typeof feedforward === "string" ? [feedforward] : field<string[]>(json, "feedforward_modules"),
    modulesToSave: field<string[]>(json, "modules_to_save"),
  });
}

export function readBottleneck(path: string, json: Json, name: string): BottleneckOptions {
  checkConfig(path, json, rules.BOTTLENECK!);
  return defined({
    name,
    features: field<number>(json, "bottleneck_size"),
    activation: field<Activation>(json, "activation"),
    targetModules: targetsOf(path, json.target_modules),
    modulesToSave: field<string[]>(json, "modules_to_save"),
  });
}

function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
