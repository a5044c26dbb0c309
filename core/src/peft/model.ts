/** Models with adapters: attaching, choosing and taking off. */
import { ArgumentError } from "../graph/errors.js";
import { Module } from "../nn/module.js";
import { freeze, replace } from "../nn/selection.js";
import { type AdaptedLayer, bareLayer, copyModule, isAdapted, marked } from "./adapter.js";
import { modulesOf, type Target } from "./targets.js";

/** The layers of a model that have adapters. */
export function adaptedLayers(model: Module): (Target & { readonly module: AdaptedLayer })[] {
  return modulesOf(model).filter((target): target is Target & { module: AdaptedLayer } =>
    isAdapted(target.module),
  );
}

/** The names of a model's adapters, in the order in which they came. */
export function adapterNames(model: Module): string[] {
  return [...new Set(adaptedLayers(model).flatMap(({ module }) => Object.keys(module.adapters)))];
}

/** The model with other modules at some paths, the root's own being empty. */
export function placeAdapters<M extends Module>(
  model: M,
  made: ReadonlyMap<string, (layer: Module) => Module>,
): M {
  const root = made.get("");
  const below = [...made.keys()].filter((path) => path !== "");
  const placed =
    below.length === 0
      ? model
      : replace(
          model,
          (_, path) => made.has(path) && path !== "",
          (layer, path) => made.get(path)!(layer),
        );
  return root === undefined ? placed : (root(placed) as M);
}

/** The model with each adapted layer changed. */
export function mapAdapted<M extends Module>(
  model: M,
  change: (layer: AdaptedLayer, target: Target) => Module,
): M {
  const layers = adaptedLayers(model);
  return placeAdapters(
    model,
    new Map(layers.map((target) => [target.path, (layer: Module) => change(layer as AdaptedLayer, target)])),
  );
}

/**
 * The model as an adapter comes to it: all of it frozen, earlier adapters too.
 *
 * @throws ArgumentError if it has one of that name
 */
export function beginning<M extends Module>(operation: string, model: M, name: string): M {
  if (!(model instanceof Module))
    throw new ArgumentError(
      `${operation}: the model is ${String(model)}`,
      "give a Module, and the options after it",
    );
  if (adapterNames(model).includes(name))
    throw new ArgumentError(
      `${operation}: the model has an adapter ${JSON.stringify(name)} already`,
      'give another name: { name: "second" }',
    );
  return freeze(model);
}

/** The model with an adapter that just came: it is computed wherever it is, no other is. */
export function attached<M extends Module>(model: M, name: string): M {
  return mapAdapted(model, (layer) => withActive(layer, { [name]: 1 }));
}

function withActive(layer: AdaptedLayer, shares: Readonly<Record<string, number>>): AdaptedLayer {
  const names = Object.keys(shares).filter((name) => layer.adapters[name] !== undefined);
  return Object.assign(copyModule(layer), {
    active: names,
    shares: names.map((name) => shares[name]!),
    mixed: null,
    adapters: Object.fromEntries(
      Object.entries(layer.adapters).map(([name, adapter]) => [
        name,
        marked(adapter, name in shares ? "parameter" : "frozen"),
      ]),
    ),
  });
}

/**
 * The model with other adapters computed, and trained: one, several that are added, several with weights (`{ first: 0.7, second: 0.3 }`), or none (null): the
 * base as it was. What it keeps of the model keeps its values; each choice is a program of its own.
 *
 * @throws ArgumentError for names that there are not
 */
export function activate<M extends Module>(
  model: M,
  adapters: string | readonly string[] | Readonly<Record<string, number>> | null,
): M {
  const known = adapterNames(model);
  const shares: Record<string, number> =
    adapters === null
      ? {}
      : typeof adapters === "string"
        ? { [adapters]: 1 }
        : Array.isArray(adapters)
          ? Object.fromEntries((adapters as string[]).map((name) => [name, 1]))
          : { ...(adapters as Readonly<Record<string, number>>) };
  for (const [name, share] of Object.entries(shares)) {
    requireAdapter("activate", known, name);
    if (!Number.isFinite(share))
      throw new ArgumentError(`activate: the weight of ${JSON.stringify(name)} is ${share}`, "give a number");
    const whole = adaptedLayers(model).find(({ module }) => {
      const adapter = module.adapters[name];
      return (
        adapter !== undefined &&
        (adapter.method !== "LORA" || ("magnitude" in adapter && adapter.magnitude !== null))
      );
    });
    if (share !== 1 && whole !== undefined)
      throw new ArgumentError(
        `activate: ${JSON.stringify(name)} with the weight ${share}, and at "${whole.name}" it does more than add a product`,
        "only adapters of plain LoRA are added with weights",
      );
  }
  return mapAdapted(model, (layer) => withActive(layer, shares));
}

/** @throws ArgumentError with those that there are */
export function requireAdapter(operation: string, known: readonly string[], name: string): void {
  if (known.includes(name)) return;
  throw new ArgumentError(
    `${operation}: there is no adapter ${JSON.stringify(name)}`,
    known.length === 0
      ? "the model has none: attach one, as by peft.lora(model)"
      : `there are ${known.join(", ")}`,
  );
}

/** The model without an adapter; without any, it is what it was before them, and frozen. */
export function remove<M extends Module>(model: M, name?: string): M {
  const known = adapterNames(model);
  if (name !== undefined) requireAdapter("remove", known, name);
  return mapAdapted(model, (layer) => {
    const { [name ?? ""]: _, ...rest } = layer.adapters;
    if (name === undefined || Object.keys(rest).length === 0) return bareLayer(layer);
    const kept = layer.active
      .map((each, i) => [each, layer.shares[i]!] as const)
      .filter(([each]) => each !== name);
    return Object.assign(copyModule(layer), {
      adapters: rest,
      active: kept.map(([each]) => each),
      shares: kept.map(([, share]) => share),
      mixed: null,
    });
  });
}
