/**
 * LoRA on parameters that are no layer's weight, such as those of experts in one Tensor or of recurrent layers: what is learnt is added to them where
 * they are computed with, as PEFT's `target_parameters`.
 */
import { dotGeneral } from "../array/contraction.js";
import { add, cast, mul } from "../array/elementwise.js";
import { slice } from "../array/indexing.js";
import { Tensor } from "../array/tensor.js";
import { isFloat } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { ExpertMlp } from "../nn/experts.js";
import { constantInit, uniformInit } from "../nn/initializers.js";
import { checkpointName, Module } from "../nn/module.js";
import { Adapter, copyModule, type Forward, isAdapted, withAdapter } from "./adapter.js";
import type { Patterns } from "./lora.js";
import { placeAdapters } from "./model.js";
import { endsWith, isLayer, moduleName, modulesOf, type Target } from "./targets.js";

/** A product for one parameter, or for several that lie below one another in PEFT's. */
export class ParameterProduct extends Module {
  /** In the parameter's module, as PEFT calls it: `gate_up_proj`. */
  readonly name: string;
  /** Fields of the layer, from the layer on, in the order in which their rows are. */
  readonly fields: readonly string[];
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  /** [rank, inputs], or of experts [experts, rank, inputs]. */
  loraA: Tensor;
  /** [outputs, rank], or of experts [experts, outputs, rank]. */
  loraB: Tensor;

  constructor(
    name: string,
    fields: readonly string[],
    parameters: readonly Tensor[],
    { rank, alpha, rsLora }: { rank: number; alpha: number; rsLora: boolean },
  ) {
    super();
    this.name = name;
    this.fields = [...fields];
    this.rank = rank;
    this.alpha = alpha;
    this.rsLora = rsLora;
    const lead = parameters[0]!.shape.slice(0, -2);
    const inputs = parameters[0]!.shape.at(-1)!;
    const outputs = parameters.reduce((n, p) => n + p.shape.at(-2)!, 0);
    const first = lead.map(() => "expert");
    this.loraA = this.parameter("loraA", [...lead, rank, inputs], {
      init: uniformInit(1 / Math.sqrt(inputs)),
      axes: [...first, null, null],
    });
    this.loraB = this.parameter("loraB", [...lead, outputs, rank], {
      init: constantInit(0),
      axes: [...first, null, null],
    });
  }

  get scale(): number {
    return this.alpha / (this.rsLora ? Math.sqrt(this.rank) : this.rank);
  }

  /** What is added to each of the fields, in the types of the products, or in float32 with the greatest precision. */
  deltas(layer: Module, exact = false, share = 1): Map<string, Tensor> {
    const [a, b] = exact
      ? [cast(this.loraA, "float32"), cast(this.loraB, "float32")]
      : [this.loraA, this.loraB];
    const batch = a.ndim === 3 ? [0] : [];
    const found = new Map<string, Tensor>();
    let row = 0;
    for (const field of this.fields) {
      const parameter = fieldAt(layer, field);
      const rows = parameter.shape.at(-2)!;
      const part = slice(b, ...batch.map(() => null), [row, row + rows]);
      row += rows;
      const product = dotGeneral(
        mul(part, this.scale * share),
        a,
        { contract: [[part.ndim - 1], [a.ndim - 2]], batch: [batch, batch] },
        exact ? { precision: "highest" } : {},
      );
      found.set(field, product);
    }
    return found;
  }
}

/** Products for parameters of a layer, and of modules right below it. */
export class LowRankParameters extends Adapter {
  readonly method = "LORA";
  products: ParameterProduct[];
  /** Where the parameters are, from the layer on: of experts "experts". */
  readonly within: string;

  constructor(products: ParameterProduct[], within: string) {
    super();
    this.products = products;
    this.within = within;
  }

  override instead(args: readonly unknown[], layer: Module, forward: Forward, share: number): unknown {
    return forward.call(this.changed(layer, share), ...args);
  }

  /** The layer with what was learnt in its parameters. */
  changed(layer: Module, share = 1, exact = false): Module {
    let changed = layer;
    for (const product of this.products) {
      for (const [field, delta] of product.deltas(layer, exact, share)) {
        changed = withField(changed, field, (w) =>
          cast(add(exact ? cast(w, "float32") : w, cast(delta, exact ? "float32" : w.dtype)), w.dtype),
        );
      }
    }
    return changed;
  }
}

function fieldAt(layer: Module, field: string): Tensor {
  return field
    .split(".")
    .reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], layer) as Tensor;
}

/** A copy of a module with another Tensor in a field, or in one below. */
export function withField<M extends Module>(module: M, field: string, change: (value: Tensor) => Tensor): M {
  const [name, ...rest] = field.split(".") as [string, ...string[]];
  const copy = copyModule(module);
  const fields = copy as unknown as Record<string, unknown>;
  fields[name] =
    rest.length === 0
      ? change(fields[name] as Tensor)
      : withField(fields[name] as Module, rest.join("."), change);
  return copy;
}

/** What PEFT could name: parameters of modules, those of experts as transformers has them. */
interface Nameable {
  /** Of the module that holds it there. */
  readonly module: string;
  readonly name: string;
  /** The layer with a `forward`. */
  readonly owner: Target;
  readonly within: string;
  readonly fields: readonly string[];
}

function nameables(model: Module): Nameable[] {
  const modules = modulesOf(model);
  return modules.flatMap((target): Nameable[] => {
    const { module, path, name } = target;
    if (module instanceof ExpertMlp) {
      const at = { module: moduleName(model, `${path}.experts`), owner: target, within: "experts" };
      return [
        { ...at, name: "gate_up_proj", fields: ["experts.gateProj", "experts.upProj"] },
        { ...at, name: "down_proj", fields: ["experts.downProj"] },
      ];
    }
    if (typeof (module as { forward?: unknown }).forward !== "function" || path.endsWith(".experts"))
      return [];
    return Object.entries(module.ownParameters).flatMap(([field, { kind }]) => {
      const value: unknown = (module as unknown as Record<string, unknown>)[field];
      const matrix = value instanceof Tensor && (value.ndim === 2 || value.ndim === 3);
      if (!matrix || kind === "buffer" || kind === "cotangent") return [];
      return [{ module: name, name: checkpointName(field), owner: target, within: "", fields: [field] }];
    });
  });
}

/** The model with products for parameters by name. */
export function loraParameters<M extends Module>(
  model: M,
  name: string,
  wanted: readonly string[],
  patterns: Patterns,
): M {
  if (wanted.length === 0) return model;
  const { dropout = 0, dora = false } = patterns.options;
  if (dropout > 0 || dora)
    throw new ArgumentError(
      `lora: targetParameters with ${dora ? "dora" : `a dropout of ${dropout}`}`,
      "what is added to a parameter has no input of its own: leave it out, or name layers by targetModules",
    );
  const all = nameables(model);
  const matchesOne = ({ module, name: own, fields }: Nameable, pattern: string): boolean =>
    [`${module}.${own}`, `${module}.${fields[0]!.split(".").at(-1)!}`].some((each) =>
      fields.length === 1 || each.endsWith(own)
        ? endsWith(each, checkpointName(pattern)) || endsWith(each, pattern)
        : false,
    );
  const found = all.filter((each) => wanted.some((pattern) => matchesOne(each, pattern)));
  const unmatched = wanted.find((pattern) => !all.some((each) => matchesOne(each, pattern)));
  if (unmatched !== undefined) {
    const like = all.map((each) => `${each.module}.${each.name}`);
    throw new ArgumentError(
      `lora: targetParameters (${unmatched}) matches nothing`,
      `parameters are called ${[...like.filter((each) => each.includes("experts")), ...like].slice(0, 3).join(", ") || "nothing"}`,
    );
  }
  const made = new Map<string, (layer: Module) => Module>();
  for (const owner of new Set(found.map((each) => each.owner))) {
    const own = found.filter((each) => each.owner === owner);
    const { module, path } = owner;
    if (isAdapted(module) && name in module.adapters)
      throw new ArgumentError(
        `lora: "${owner.name}" is changed by targetModules and by targetParameters`,
        "name it in one of them",
      );
    if (isLayer(module) && own.length > 0 && module.weight.ndim > 3)
      throw new ArgumentError(`lora: "${owner.name}" is a convolution`, "name it in targetModules");
    made.set(path, (layer) => withAdapter(layer, name, ofOwner(layer, own, patterns)));
  }
  return placeAdapters(model, made);
}

function ofOwner(layer: Module, own: readonly Nameable[], patterns: Patterns): LowRankParameters {
  const products = own.map(({ module, name, fields }) => {
    const settings = patterns.of({ name: `${module}.${name}`, path: `${module}.${name}` });
    const parameters = fields.map((field) => fieldAt(layer, field));
    const outputs = parameters.reduce((n, p) => n + p.shape.at(-2)!, 0);
    const inputs = parameters[0]!.shape.at(-1)!;
    if (!parameters.every((p) => isFloat(p.dtype)))
      throw new ArgumentError(
        `lora: "${module}.${name}" is ${parameters[0]!.dtype}`,
        "give floating-point weights",
      );
    if (settings.rank > Math.min(outputs, inputs))
      throw new ArgumentError(
        `lora: rank ${settings.rank} at "${module}.${name}", which is ${outputs} x ${inputs}`,
        `give a rank of at most ${Math.min(outputs, inputs)}, or another there: rankPattern: { "${name}": ... }`,
      );
    return new ParameterProduct(name, fields, parameters, settings);
  });
  return new LowRankParameters(products, own[0]!.within);
}
