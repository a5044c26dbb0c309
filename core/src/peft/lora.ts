/** LoRA and its kin (Hu et al. 2022): low-rank products beside chosen layers of any model, which stays as it is. */
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { Conv } from "../nn/convolutions.js";
import { isUndrawn, type Module } from "../nn/module.js";
import { QuantizedWeight } from "../quantize/weight.js";
import { checkName, withAdapter } from "./adapter.js";
import { type AuxiliaryOptions, auxiliary, auxiliaryNames } from "./auxiliary.js";
import { defaultTargets } from "./defaults.js";
import { LowRank, sizesOf } from "./low-rank.js";
import { attached, beginning, placeAdapters } from "./model.js";
import { loraParameters } from "./parameters.js";
import { chosen, endsWith, isLayer, type Target, type Targets } from "./targets.js";

export interface LoraOptions extends AuxiliaryOptions {
  /** Rank of the products (PEFT's `r`). Default 8. */
  rank?: number;
  /** The products are scaled by alpha / rank. Default 8. */
  alpha?: number;
  /** Scales by alpha / √rank in place of alpha / rank (Kalajdzievski 2023, "A rank stabilization scaling factor"). Default false. */
  rsLora?: boolean;
  /** Learns the rows' lengths apart from their directions (Liu et al. 2024, "DoRA"). Default false. */
  dora?: boolean;
  /** Rate of dropout before A, in training. Default 0. */
  dropout?: number;
  /** Which modules. Default PEFT's of the model's family (`q_proj` and `v_proj` in most), else "all-linear". */
  targetModules?: Targets;
  /** Which of those not. */
  excludeModules?: Exclude<Targets, "all-linear">;
  /** Indices of the layers of a stack to which it is limited. */
  layersToTransform?: number | readonly number[];
  /** The stack's names, such as "layers", where there are several. */
  layersPattern?: string | readonly string[];
  /** Other ranks, by names of modules. */
  rankPattern?: Readonly<Record<string, number>>;
  /** Other alphas, by names of modules. */
  alphaPattern?: Readonly<Record<string, number>>;
  /** Names of parameters that are no layer's weight: of experts in one Tensor, of recurrent layers. What is learnt is added to them. */
  targetParameters?: readonly string[];
  /** "default": A uniform in ±1/√inputs; "gaussian": normal with deviation 1/rank. Default "default". */
  init?: "default" | "gaussian";
  /** The adapter's name. Default "default". */
  name?: string;
}

const fields = [
  "rank",
  "alpha",
  "rsLora",
  "dora",
  "dropout",
  "targetModules",
  "excludeModules",
  "layersToTransform",
  "layersPattern",
  "rankPattern",
  "alphaPattern",
  "targetParameters",
  "init",
  "name",
  ...auxiliaryNames,
];

/**
 * The model with low-rank products beside some of its layers, which alone are trained: everything else is frozen. A fresh adapter changes nothing.
 *
 * @throws ArgumentError for names and patterns that match nothing, ranks above a layer's size, layers that no product can stand beside
 */
export function lora<M extends Module>(model: M, options: LoraOptions = {}): M {
  return loraOf(model, options);
}

/** @param how.anyRank - also ranks above a layer's size, which adapters from elsewhere may have */
export function loraOf<M extends Module>(
  model: M,
  options: LoraOptions,
  { anyRank = false }: { anyRank?: boolean } = {},
): M {
  refuseUnknownOptions("lora", options, fields);
  const { name = "default", targetParameters = [], excludeModules: exclude } = options;
  const { layersToTransform: layers, layersPattern } = options;
  checkName("lora", name);
  const base = beginning("lora", model, name);
  const onlyParameters = targetParameters.length > 0 && options.targetModules === undefined;
  const targets = options.targetModules ?? defaultTargets(model, "LORA");
  const found = onlyParameters ? [] : chosen("lora", base, { targets, exclude, layers, layersPattern });
  const patterns = new Patterns(options);
  const made = new Map<string, (layer: Module) => Module>();
  for (const target of found) {
    const settings = patterns.of(target);
    made.set(target.path, (layer) =>
      withAdapter(layer, name, lowRank(layer, target, { ...settings, anyRank })),
    );
  }
  const placed = placeAdapters(base, made);
  const parameters = loraParameters(placed, name, targetParameters, patterns);
  if (!anyRank) patterns.refuseUnused();
  return attached(auxiliary("lora", parameters, name, options), name);
}

/** Rank and alpha of each module. */
export class Patterns {
  readonly #used = new Set<string>();

  constructor(readonly options: LoraOptions) {
    const { rank = 8, alpha = 8, dropout = 0, init = "default" } = options;
    for (const [what, value] of [
      ["rank", rank],
      ...Object.entries(options.rankPattern ?? {}).map(([name, r]) => [`rankPattern["${name}"]`, r] as const),
    ] as const) {
      if (!(Number.isInteger(value) && value > 0))
        throw new ArgumentError(`lora: ${what} is ${String(value)}`, "give a positive integer");
    }
    for (const [what, value] of [
      ["alpha", alpha],
      ...Object.entries(options.alphaPattern ?? {}).map(
        ([name, a]) => [`alphaPattern["${name}"]`, a] as const,
      ),
    ] as const) {
      if (!(typeof value === "number" && Number.isFinite(value) && value !== 0))
        throw new ArgumentError(`lora: ${what} is ${String(value)}`, "give a number that is not 0");
    }
    if (!(dropout >= 0 && dropout < 1))
      throw new ArgumentError(`lora: dropout is ${dropout}`, "give a number from 0 to below 1");
    if (init !== "default" && init !== "gaussian")
      throw new ArgumentError(`lora: init is ${JSON.stringify(init)}`, 'give "default" or "gaussian"');
  }

  /** By any of a module's names. */
  of({ name, path }: Pick<Target, "name" | "path">): {
    rank: number;
    alpha: number;
    rsLora: boolean;
    dropout: number;
    dora: boolean;
    init: "default" | "gaussian";
  } {
    const { rank = 8, alpha = 8, rsLora = false, dropout = 0, dora = false, init = "default" } = this.options;
    const pick = (which: "rankPattern" | "alphaPattern", otherwise: number): number => {
      for (const [pattern, value] of Object.entries(this.options[which] ?? {})) {
        if (!isPatternOf(pattern, name) && !isPatternOf(pattern, path)) continue;
        this.#used.add(`${which} ${pattern}`);
        return value;
      }
      return otherwise;
    };
    return {
      rank: pick("rankPattern", rank),
      alpha: pick("alphaPattern", alpha),
      rsLora,
      dropout,
      dora,
      init,
    };
  }

  /** @throws ArgumentError for a pattern that no module was found by */
  refuseUnused(): void {
    for (const which of ["rankPattern", "alphaPattern"] as const) {
      for (const pattern of Object.keys(this.options[which] ?? {})) {
        if (this.#used.has(`${which} ${pattern}`)) continue;
        throw new ArgumentError(
          `lora: ${which} has ${JSON.stringify(pattern)}, which is no target module's name`,
          "name modules that targetModules takes",
        );
      }
    }
  }
}

/** PEFT takes what it writes as a regular expression for the end of a name. */
export function isPatternOf(pattern: string, name: string): boolean {
  if (endsWith(name, pattern)) return true;
  try {
    return new RegExp(`^(?:.*\\.)?(?:${pattern})$`).test(name);
  } catch {
    return false;
  }
}

function lowRank(
  layer: Module,
  { name, path }: Target,
  settings: ReturnType<Patterns["of"]> & { readonly anyRank: boolean },
): LowRank {
  const at = name === "" ? "the model" : `"${name}"`;
  const quantized = Object.values(layer).some((field) => field instanceof QuantizedWeight);
  if (!isLayer(layer)) {
    throw new ArgumentError(
      `lora: ${at} is a ${layer.constructor.name}${quantized ? " on quantized weights" : ""}, which low-rank products cannot stand beside`,
      quantized
        ? "quantize Linear layers (quantize.linears), or open the model that it was made from"
        : "name Linear, Embedding or convolution layers; parameters of other layers by targetParameters",
    );
  }
  if (layer instanceof Conv && (layer.options.groups ?? 1) > 1)
    throw new ArgumentError(
      `lora: ${at} is a convolution in ${layer.options.groups} groups`,
      "exclude it (excludeModules), or train it whole (modulesToSave)",
    );
  const [outputs, inputs] = sizesOf(layer);
  if (!settings.anyRank && settings.rank > Math.min(outputs, inputs))
    throw new ArgumentError(
      `lora: rank ${settings.rank} at ${at}, whose weight is ${outputs} x ${inputs}`,
      `give a rank of at most ${Math.min(outputs, inputs)}, or another there: rankPattern: { ${JSON.stringify(path.split(".").at(-1))}: ... }`,
    );
  if (settings.dora && !quantized && isUndrawn(layer.weight))
    throw new ArgumentError(
      `lora: DoRA begins with the lengths of the weights, and ${at} has no values yet`,
      "draw them first: nn.initialize(model, seed), or load a checkpoint",
    );
  return new LowRank(layer, settings);
}

export interface LoraPlusOptions {
  /** How many times faster B learns than A. Default 16. */
  ratio?: number;
}

/**
 * The groups of an optimizer by which B learns faster than A (Hayou et al. 2024, "LoRA+"): `adamw({ learningRate, groups: peft.loraPlus() })`.
 */
export function loraPlus({
  ratio = 16,
}: LoraPlusOptions = {}): { match: RegExp; learningRateFactor: number }[] {
  if (!(ratio > 0 && Number.isFinite(ratio)))
    throw new ArgumentError(`loraPlus: ratio is ${ratio}`, "give a positive number");
  return [{ match: /\.loraB$/, learningRateFactor: ratio }];
}
