/** Making models of a family. */
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknown } from "../../graph/spelling.js";
import type { LayerOptions } from "../../nn/stack.js";
import type { DecoderConfig } from "./config.js";
import { Decoder } from "./decoder.js";
import { type CommonConfig, commonFields, type Family, type Json } from "./family.js";

/** A function that makes models of a family. */
export function modelFunction<C extends CommonConfig>(
  family: Family,
  accepted: Readonly<Record<Exclude<keyof C, keyof CommonConfig>, true>>,
  needed: readonly (keyof C)[] = [],
): (config: C, options?: LayerOptions) => Decoder {
  const known = new Set([...Object.keys(commonFields), ...Object.keys(accepted)]);
  known.delete("activation");
  return (config, options) => {
    checkFields(family.name, config, [...known], [...sizes, ...needed]);
    return build(family, config, options);
  };
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
