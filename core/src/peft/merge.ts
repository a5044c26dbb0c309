/** Adapters put into the weights that they stand beside, and taken out again. */
import { tensor } from "../array/creation.js";
import { add, cast, div, mul } from "../array/elementwise.js";
import { at } from "../array/places.js";
import { expandDims, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { Linear } from "../nn/layers.js";
import { declare, type Module } from "../nn/module.js";
import { unfreeze } from "../nn/selection.js";
import { QuantizedLinear } from "../quantize/linear.js";
import { jit } from "../transform/jit.js";
import { type AdaptedLayer, type Adapter, bareLayer, copyModule } from "./adapter.js";
import { TokenRows, WholeModule } from "./auxiliary.js";
import { Scaling } from "./ia3.js";
import { fromRows, LowRank, type LowRankBase, rowsOf } from "./low-rank.js";
import { adaptedLayers, mapAdapted } from "./model.js";
import { LowRankParameters } from "./parameters.js";
import { modulesOf, type Target } from "./targets.js";

export interface MergeOptions {
  /** Element type of weights that were quantized. Default that which they had before. */
  dtype?: "float32" | "bfloat16" | "float16";
}

/**
 * The model with its active adapters in its weights, and without them: it computes what it computed, as fast as the base. Sums are made in float32 and
 * rounded once to the weights' type; quantized weights become plain ones, since what was learnt was learnt for their rounded values.
 *
 * @throws ArgumentError for adapters that no weight can hold (bottlenecks), and where none is active
 */
export function merge<M extends Module>(model: M, options: MergeOptions = {}): M {
  refuseUnknownOptions("merge", options, ["dtype"]);
  const { dtype } = options;
  if (dtype !== undefined && !["float32", "bfloat16", "float16"].includes(dtype))
    throw new ArgumentError(`merge: dtype is ${String(dtype)}`, "give float32, bfloat16 or float16");
  const layers = adaptedLayers(model);
  if (layers.length === 0)
    throw new ArgumentError(
      "merge: the model has no adapters in its layers",
      "attach one, as by peft.lora(model)",
    );
  if (layers.every(({ module }) => module.active.length === 0))
    throw new ArgumentError("merge: no adapter is active", "choose: peft.activate(model, name)");
  const mixed = layers.find(({ module }) => module.mixed !== null);
  if (mixed !== undefined)
    throw new ArgumentError(
      "merge: the rows of a batch have adapters of their own",
      "choose: peft.activate(model, name)",
    );
  const merged = mapAdapted(model, (layer, target) => mergedLayer(layer, target, dtype));
  return unfreeze(merged);
}

/** The adapters of a layer that are computed, each with its weight. */
function activeOf({ adapters, active, shares }: AdaptedLayer): { adapter: Adapter; share: number }[] {
  return active.flatMap((name, i) =>
    adapters[name] === undefined ? [] : [{ adapter: adapters[name], share: shares[i]! }],
  );
}

function mergedLayer(layer: AdaptedLayer, { name }: Target, dtype: DType | undefined): Module {
  const chosen = activeOf(layer);
  const bare = bareLayer(layer);
  if (chosen.length === 0) return bare;
  for (const { adapter } of chosen) {
    if (adapter.method === "BOTTLENECK")
      throw new ArgumentError(
        `merge: the adapter at "${name}" is no change of a weight`,
        "keep it: bottlenecks are computed beside the model",
      );
  }
  const whole = chosen.findLast(({ adapter }) => adapter instanceof WholeModule)?.adapter as
    | WholeModule
    | undefined;
  if (whole !== undefined) return whole.module;
  const parameters = chosen.filter(({ adapter }) => adapter instanceof LowRankParameters);
  if (parameters.length > 0) {
    return parameters.reduce<Module>(
      (now, { adapter, share }) => (adapter as LowRankParameters).changed(now, share, true),
      bare,
    );
  }
  const base = layer as unknown as LowRankBase;
  const type = dtype !== undefined && base instanceof QuantizedLinear ? dtype : base.weight.dtype;
  const { weight, bias } = mergedWeights(layer as never, type);
  if (base instanceof QuantizedLinear) return plainLinear(base, weight, bias);
  return Object.assign(copyModule(bare), { weight, ...(bias !== null && { bias }) });
}

function plainLinear(layer: QuantizedLinear, weight: Tensor, bias: Tensor | null): Linear {
  const [outputs, inputs] = layer.quantized.shape;
  const axes = layer.quantized.ownParameters.codes?.axes as [string | null, string | null] | undefined;
  const linear = new Linear(inputs, outputs, { bias: bias !== null, axes });
  const spec = layer.ownParameters.bias;
  if (spec !== undefined) declare(linear, "bias", spec);
  return Object.assign(linear, { weight, bias });
}

/** The weight as it is computed with, float32: of a quantized layer what its few bits say. */
function exactWeight(layer: LowRankBase): Tensor {
  return layer instanceof QuantizedLinear ? layer.quantized.value("float32") : cast(layer.weight, "float32");
}

/** Weight and bias with the active adapters in them, or taken out of them. */
function changed(
  layer: AdaptedLayer & LowRankBase,
  from: Tensor,
  sign: 1 | -1,
): [weight: Tensor, bias: Tensor | null] {
  let weight = from;
  let bias = "bias" in layer && layer.bias !== null ? cast(layer.bias, "float32") : null;
  const byRows = (w: Tensor, change: (rows: Tensor) => Tensor): Tensor =>
    fromRows(layer, change(rowsOf(layer, w)));
  const chosen = activeOf(layer);
  for (const { adapter, share } of sign === 1 ? chosen : chosen.reverse()) {
    if (adapter instanceof LowRank) {
      const { magnitude } = adapter;
      const delta = mul(adapter.delta(), share * sign);
      const longer = magnitude === null ? 1 : expandDims(div(magnitude, adapter.lengths(layer)), 1);
      weight = byRows(weight, (rows) =>
        sign === 1 ? mul(add(rows, delta), longer) : add(div(rows, longer), delta),
      );
    } else if (adapter instanceof Scaling) {
      const over = (factors: Tensor, axis: 0 | 1): Tensor =>
        reshape(
          sign === 1 ? factors : div(1, factors),
          weight.shape.map((size, i) => (i === axis ? size : 1)),
        );
      weight = mul(weight, over(adapter.factors, adapter.feedforward ? 1 : 0));
      if (!adapter.feedforward && bias !== null) bias = mul(bias, reshape(over(adapter.factors, 0), [-1]));
    } else if (adapter instanceof TokenRows && sign === 1) {
      weight = at(weight, tensor(Int32Array.from(adapter.indices))).set(adapter.rows);
    }
  }
  return [weight, bias];
}

type Weights = { readonly weight: Tensor; readonly bias: Tensor | null };

function rounded(layer: LowRankBase, [weight, bias]: [Tensor, Tensor | null], dtype: DType): Weights {
  const type = "bias" in layer && layer.bias !== null ? layer.bias.dtype : dtype;
  return { weight: cast(weight, dtype), bias: bias && cast(bias, type) };
}

/** Of one shape all layers share a program. */
const mergedWeights = jit(
  (layer: AdaptedLayer & LowRankBase, dtype: DType): Weights =>
    rounded(layer, changed(layer, exactWeight(layer), 1), dtype),
  { name: "merge_adapters", tag: () => "parameter", manyTraces: true },
);

const unmergedWeights = jit(
  (layer: AdaptedLayer & LowRankBase, merged: Weights): Weights => {
    const own = { ...merged, bias: merged.bias ?? null };
    const copy = Object.assign(copyModule<Module>(layer), own.bias !== null && { bias: own.bias });
    return rounded(layer, changed(copy as never, cast(own.weight, "float32"), -1), own.weight.dtype);
  },
  { name: "unmerge_adapters", tag: () => "parameter", manyTraces: true },
);

/**
 * The model with its adapters beside its weights again, from one in whose weights they are: the inverse of `merge`, to rounding. What cannot be taken
 * out of a weight (rows and modules in the place of others, quantized weights) is as `adapted` has it.
 *
 * @param merged - what `merge` made, and perhaps was trained further
 * @param adapted - the model that was merged
 */
export function unmerge<M extends Module>(merged: M, adapted: M): M {
  const now = new Map(modulesOf(merged).map(({ path, module }) => [path, module]));
  return mapAdapted(adapted, (layer, { path, name }) => {
    const found = now.get(path) as Partial<LowRankBase> | undefined;
    const plain = layer as unknown as LowRankBase;
    const chosen = activeOf(layer);
    if (
      chosen.length === 0 ||
      !chosen.every(({ adapter }) => adapter instanceof LowRank || adapter instanceof Scaling)
    )
      return layer;
    if (plain instanceof QuantizedLinear) return layer;
    if (found?.weight?.shape.join() !== plain.weight.shape.join())
      throw new ArgumentError(
        `unmerge: "${name}" is another layer in the merged model`,
        "give what peft.merge(adapted) made",
      );
    const { weight, bias } = found as Weights;
    const unmerged = unmergedWeights(layer as never, { weight, bias: bias ?? null });
    return Object.assign(copyModule(layer), {
      weight: unmerged.weight,
      ...(unmerged.bias !== null && { bias: unmerged.bias }),
    });
  });
}
