/** Models with quantized weights. */
import { materialize } from "../array/evaluate.js";
import { isFloat } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { ExpertMlp } from "../nn/experts.js";
import { Linear } from "../nn/layers.js";
import { isUndrawn, Module } from "../nn/module.js";
import { replace } from "../nn/selection.js";
import { flatten } from "../transform/tree.js";
import { encodeWeight, type FormatOptions, formats, QuantizedLinear } from "./linear.js";

export interface QuantizeOptions extends FormatOptions {
  /** Which Linear layers, by path. Default all but the output layer of a language model (`lmHead`) and the routers of experts. */
  layers?: (path: string, layer: Linear) => boolean;
  /** Frees each weight once it is quantized: the model that was given is of no further use. Default false. */
  donate?: boolean;
}

/**
 * The model with its linear layers on quantized weights. Every other parameter is as it was.
 *
 * @throws ArgumentError for weights that have no values yet, are no floats, or are in no such layer
 */
export function linears<M extends Module>(model: M, options: QuantizeOptions = {}): M {
  refuseUnknownOptions("quantize.linears", options, ["format", "double", "both", "layers", "donate"]);
  const { layers, donate = false, ...format } = options;
  if (format.format !== undefined && !formats.includes(format.format))
    throw new ArgumentError(
      `quantize.linears: the format is ${JSON.stringify(format.format)}`,
      `give ${formats.map((each) => JSON.stringify(each)).join(", ")}`,
    );
  const routers = new Set<Module>();
  const note = (value: unknown): void => {
    if (value instanceof ExpertMlp) routers.add(value.gate);
    if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
    if (value instanceof Module || Array.isArray(value))
      for (const field of Object.values(value)) note(field);
  };
  note(model);
  const wanted =
    layers ?? ((path: string, layer: Linear) => !/(^|\.)lmHead$/.test(path) && !routers.has(layer));
  const isPlain = (module: Module): module is Linear => Object.getPrototypeOf(module) === Linear.prototype;
  const uses = new Map<unknown, number>();
  if (donate) for (const leaf of flatten(model).leaves) uses.set(leaf, (uses.get(leaf) ?? 0) + 1);
  return replace(
    model,
    (module, path) => isPlain(module) && wanted(path, module),
    (module, path) => {
      const layer = module as Linear;
      const { weight } = layer;
      if (isUndrawn(weight))
        throw new ArgumentError(
          `quantize.linears: "${path}.weight" has no values yet`,
          "draw them first: nn.initialize(model, seed), or load a checkpoint",
        );
      if (!isFloat(weight.dtype))
        throw new ArgumentError(
          `quantize.linears: "${path}.weight" is ${weight.dtype}`,
          "give floating-point weights",
        );
      const quantized = encodeWeight(weight, format, layer.ownParameters.weight?.axes);
      if (donate && uses.get(weight) === 1) {
        materialize(flatten(quantized).leaves);
        weight.dispose();
      }
      return new QuantizedLinear(quantized, layer);
    },
  );
}
