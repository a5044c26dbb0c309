/** Making models of a family. */
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknown } from "../../graph/spelling.js";
import type { LayerOptions } from "../../nn/stack.js";
import type { DecoderConfig } from "./config.js";
import { Decoder } from "./decoder.js";
import { type CommonConfig, commonFields, type Family, type Json, resolved } from "./family.js";

/** A function that makes models of a family. */
export function modelFunction<C extends CommonConfig>(
  family: Family,
  accepted: Readonly<Record<Exclude<keyof C, keyof CommonConfig>, true>>,
  needed: readonly (keyof C)[] = [],
): (config: C, options?: LayerOptions) => Decoder {
  const known = new Set([...Object.keys(commonFields), ...Object.keys(accepted)]);
  known.delete("activation");
  return (config, options) => {
    const own = withoutDerived(family, config, known) as C & DecoderConfig;
    checkFields(family.name, own, [...known], [...sizes, ...needed]);
    return build(family, own, options);
  };
}

/**
 * A configuration without what follows from the rest of it, so that `{ ...model.config, layers: 4 }` is one: fields that the family decides, where
 * they say what it decides, and kinds of layers that are the family's own for another number of layers.
 */
function withoutDerived(family: Family, config: object, known: ReadonlySet<string>): object {
  if (typeof config !== "object" || config === null) return config;
  const given = { ...config } as Partial<DecoderConfig> & Record<string, unknown>;
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
  const { layerTypes, layers } = given;
  const own = (): DecoderConfig =>
    Object.fromEntries(
      Object.entries(given).filter(([name]) => known.has(name) && name !== "layerTypes"),
    ) as never;
  const isComplete = sizes.every((name) => Number.isInteger(given[name]));
  if (!isComplete) return given;
  if (Array.isArray(layerTypes) && layerTypes.length !== layers && layerTypes.length > 0) {
    const ofOthers = resolved(family, { ...own(), layers: layerTypes.length }).layerTypes;
    if (same(ofOthers, layerTypes)) delete given.layerTypes;
  }
  const extra = Object.keys(given).filter((name) => !known.has(name));
  if (extra.length === 0) return given;
  const decided: Record<string, unknown> = { ...resolved(family, own()) };
  for (const name of extra) if (name in decided && same(decided[name], given[name])) delete given[name];
  return given;
}

const sizes = ["vocabSize", "hiddenSize", "intermediateSize", "layers", "heads"] as const;

function checkFields<C extends object>(
  name: string,
  config: C,
  known: readonly string[],
  needed: readonly (keyof C)[],
): void {
  if (typeof config !== "object" || config === null)
    throw new ArgumentError(
      `${name}: the configuration is ${String(config)}`,
      "give one of llm.configs, or fields",
    );
  refuseUnknown(`${name}: there is no field`, Object.keys(config), known);
  const missing = needed.filter((field) => config[field] === undefined);
  if (missing.length > 0)
    throw new ArgumentError(
      `${name}: ${missing.join(", ")} not given`,
      "give every size, or spread one of llm.configs",
    );
}

/** The model of a family's configuration. */
export function build(
  family: Family,
  config: DecoderConfig,
  options: LayerOptions & { source?: Json; generation?: string } = {},
): Decoder {
  return new Decoder(config, { ...options, family });
}
