/** Making models of a family. */
import { ArgumentError } from "../../graph/errors.js";
import type { LayerOptions } from "../../nn/stack.js";
import type { DecoderConfig } from "./config.js";
import { Decoder } from "./decoder.js";
import { type CommonConfig, commonFields, type Family, type Json } from "./family.js";

/** A function that makes models of a family. */
export function modelFunction<C extends CommonConfig>(
  family: Family,
  accepted: Readonly<Record<Exclude<keyof C, keyof CommonConfig>, true>>,
): (config: C, options?: LayerOptions) => Decoder {
  const known = new Set([...Object.keys(commonFields), ...Object.keys(accepted)]);
  known.delete("activation");
  return (config, options) => {
    for (const name of Object.keys(config)) {
      if (!known.has(name))
        throw new ArgumentError(
          `${family.name}: there is no field "${name}"`,
          `its fields are ${[...known].join(", ")}`,
        );
    }
    return build(family, config, options);
  };
}

/** The model of a family's configuration. */
export function build(
  family: Family,
  config: DecoderConfig,
  options: LayerOptions & { source?: Json } = {},
): Decoder {
  return new Decoder(config, { ...options, family });
}
