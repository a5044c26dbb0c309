/**
 * Attention that never holds the scores of all pairs (Dao et al. 2022, "FlashAttention"): cuDNN's fused kernels on NVIDIA GPUs, forward
 * and backward, and the same mathematics in plain operations elsewhere.
 */
import { bindAll, type Op, placeholder } from "../array/bind.js";
import { zeros } from "../array/broadcast.js";
import { scalar } from "../array/creation.js";
import { uniform, where } from "../array/elementwise.js";
import { expandDims, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { type Lowering, tensorType } from "../graph/lowering.js";
import type { Placement } from "../graph/mesh.js";
import type { Aval } from "../graph/node.js";
import { placeAxes } from "../sharding/rules.js";
import { backward } from "../transform/vjp.js";
import { plainAttention, type Visibility, visibleKeys } from "./scores.js";

/** What a mask is made of beside the causal one and the window, which the kernels know. */
const maskNames = ["segments", "keyStart"] as const;

interface FlashAttributes {
  readonly [name: string]: unknown;
  readonly causal: boolean;
  readonly scale: number;
  readonly window?: number;
  /** Names of the inputs after the others. */
  readonly masks: readonly (typeof maskNames)[number][];
}

export interface FlashOptions {
  readonly causal: boolean;
  readonly scale: number;
  readonly window?: number;
  readonly segments?: Tensor;
  readonly keyStart?: Tensor;
}

/** Memory for the mask of a program, which all its layers share. */
const maskBytes = 2 ** 30;

/** Whether the fused kernels take heads of this type and width, with a mask of batch x queries x keys elements if `masked`. */
export function flashSupports(q: Aval, k: Aval, masked: boolean): boolean {
  const [batch, queries, , headDim] = q.shape as [number, number, number, number];
  const keys = k.shape[1]!;
  if (q.dtype !== "bfloat16" && q.dtype !== "float16") return false;
  if (k.dtype !== q.dtype || headDim % 8 !== 0 || headDim > 256) return false;
  return !masked || (queries % 2 === 0 && keys % 2 === 0 && 2 * batch * queries * keys <= maskBytes);
}

/**
 * softmax(q · kᵀ · scale) · v.
 *
 * @param q - [batch, queries, heads, headDim], bfloat16 or float16
 * @param k - [batch, keys, keyHeads, headDim]; heads is a multiple of keyHeads
 * @param v - as k
 * @returns [batch, queries, heads, headDim]
 */
export function flashAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { causal, scale, window, ...given }: FlashOptions,
): Tensor {
  const masks = maskNames.filter((name) => given[name] !== undefined);
  const inputs = [q, k, v, ...masks.map((name) => given[name]!)];
  return bindAll(forwardPrimitive, inputs, { causal, scale, window, masks })[0]!;
}

/** Of so many products of all queries with all keys, or, where queries see no later keys, of half of them. */
function attentionFlops(q: Aval, k: Aval, { causal }: FlashAttributes, products: number): number {
  return (2 * products * q.shape.reduce((n, d) => n * d, 1) * k.shape[1]!) / (causal ? 2 : 1);
}

const forwardPrimitive: Op<FlashAttributes> = {
  name: "flash_attention",
  flops: ({ inputs: [q, k], attributes }) => attentionFlops(q!, k!, attributes, 2),
  shape([q]) {
    const [batch, queries, heads] = q!.shape as [number, number, number];
    return [
      { shape: q!.shape, dtype: q!.dtype },
      // The logarithm of each row's sum of exponentials, which the fused backward pass recomputes the weights from.
      { shape: [batch, heads, queries], dtype: "float32" },
    ];
  },
  vjp({ inputs: [q, k, v, ...masks], outputs: [o, lse], attributes }, [g]) {
    if (g === undefined) return [];
    return bindAll(backwardPrimitive, [q!, k!, v!, lse!, g, o!, ...masks], attributes);
  },
  batch: (inputs, batched, attributes, size) => merged(forwardPrimitive, inputs, batched, attributes, size),
  lower: onEachDevice((lowering, inputs, outputs, attributes, operands) => {
    const [q, k] = inputs as [Aval, Aval];
    if (lowering.platform !== "cuda") {
      const math = (x: readonly Tensor[]) => [
        plain(x, attributes),
        zeros(outputs[1]!.shape, { dtype: "float32" }),
      ];
      return decomposed(lowering, math, inputs, operands);
    }
    const [batch, queries, heads, headDim] = q.shape as [number, number, number, number];
    const config = {
      ...backendConfig(q, k, attributes),
      bmm1_dot_dimension_numbers: dims([3], [3], [0, 2], [0, 2]),
      bmm2_dot_dimension_numbers: dims([3], [1], [0, 1], [0, 2]),
    };
    const bias = maskBias(lowering, q, k, inputs.slice(3), operands.slice(3), attributes);
    const fused = { shape: [batch, heads, queries, headDim], dtype: q.dtype };
    const [raw, lse] = customCall(
      lowering,
      bias === undefined ? "__cudnn$fmhaSoftmax" : "__cudnn$fmhaScaleBiasSoftmax",
      [...operands.slice(0, 3), ...(bias === undefined ? [] : [bias.name])],
      [...inputs.slice(0, 3), ...(bias === undefined ? [] : [bias.type])],
      [fused, outputs[1]!],
      config,
    );
    return [back(lowering, raw!, fused, outputs[0]!), lse!];
  }),
};

/** Inputs: q, k, v, the forward pass's logarithms, the cotangent of its output, its output, the masks. */
const backwardPrimitive: Op<FlashAttributes> = {
  name: "flash_attention_backward",
  flops: ({ inputs: [q, k], attributes }) => attentionFlops(q!, k!, attributes, 5),
  shape: ([q, k, v]) => [q!, k!, v!].map(({ shape, dtype }) => ({ shape, dtype })),
  batch: (inputs, batched, attributes, size) => merged(backwardPrimitive, inputs, batched, attributes, size),
  lower: onEachDevice((lowering, inputs, outputs, attributes, operands) => {
    const [q, k] = inputs as [Aval, Aval];
    if (lowering.platform !== "cuda") {
      const math = ([q, k, v, , g, , ...masks]: readonly Tensor[]) =>
        backward([plain([q!, k!, v!, ...masks], attributes)], [g], [q!, k!, v!]).map((x) => x!);
      return decomposed(lowering, math, inputs, operands);
    }
    const config = {
      ...backendConfig(q, k, attributes),
      bmm1_grad_gemm1_dot_dimension_numbers: dims([2], [1], [0, 1], [0, 2]),
      bmm1_grad_gemm2_dot_dimension_numbers: dims([3], [1], [0, 1], [0, 2]),
      bmm2_grad_gemm1_dot_dimension_numbers: dims([2], [1], [0, 1], [0, 2]),
      bmm2_grad_gemm2_dot_dimension_numbers: dims([3], [3], [0, 2], [0, 2]),
    };
    const fused = outputs.map(({ shape: [batch, time, heads, headDim], dtype }) => ({
      shape: [batch!, heads!, time!, headDim!],
      dtype,
    }));
    const bias = maskBias(lowering, q, k, inputs.slice(6), operands.slice(6), attributes);
    const raw = customCall(
      lowering,
      bias === undefined ? "__cudnn$fmhaSoftmaxBackward" : "__cudnn$fmhaScaleBiasSoftmaxBackward",
      [...operands.slice(0, 5), ...(bias === undefined ? [] : [bias.name]), operands[5]!],
      [...inputs.slice(0, 5), ...(bias === undefined ? [] : [bias.type]), inputs[5]!],
      fused,
      config,
    );
    return outputs.map((out, i) => back(lowering, raw[i]!, fused[i]!, out));
  }),
};

type Write = (
  lowering: Lowering,
  inputs: readonly Aval[],
  outputs: readonly Aval[],
  attributes: FlashAttributes,
  operands: readonly string[],
) => readonly string[];

/**
 * On a mesh each device computes the rows and heads that it has. The kernels are black boxes to the compiler: left to itself it would
 * gather their operands. Arrays are [batch, time, heads, ...], logarithms [batch, heads, time], masks [batch, ...].
 */
function onEachDevice(write: Write): Op<FlashAttributes>["lower"] {
  return (lowering, { inputs, outputs, attributes }, operands) => {
    const { mesh } = lowering;
    if (mesh === undefined) return write(lowering, inputs, outputs, attributes, operands);
    // The key heads decide: a group of query heads stays with the one that it shares.
    const [rows, , heads] = placeAxes(["batch", null, "heads", null], inputs[1]!, mesh).spec as [
      readonly string[],
      unknown,
      readonly string[],
    ];
    const place = ({ shape: { length } }: Aval): Placement => {
      const spec = length === 4 ? [rows, [], heads, []] : length === 3 ? [rows, heads, []] : [rows, []];
      return { mesh, spec: spec.slice(0, length) };
    };
    return lowering.manual(
      inputs.map((x, i) => [operands[i]!, x, place(x)]),
      outputs.map((y) => [y, place(y)]),
      (names, localInputs, localOutputs) => write(lowering, localInputs, localOutputs, attributes, names),
    );
  };
}

function visibility(masks: readonly Tensor[], { masks: names }: FlashAttributes): Omit<Visibility, "causal"> {
  const { segments, keyStart } = Object.fromEntries(names.map((name, i) => [name, masks[i]!]));
  return { keyStart, segments: segments && [segments, segments] };
}

/** The masks as what is added to the scores, [batch, 1, queries, keys] in the type of q: 0, or very low. */
function maskBias(
  lowering: Lowering,
  q: Aval,
  k: Aval,
  inputs: readonly Aval[],
  operands: readonly string[],
  attributes: FlashAttributes,
): { name: string; type: Aval } | undefined {
  if (inputs.length === 0) return undefined;
  const parameters = inputs.map(placeholder);
  const visible = visibleKeys(q.shape[1]!, k.shape[1]!, {
    causal: false,
    ...visibility(parameters, attributes),
  });
  // As low as cuDNN can take without infinities when two are subtracted.
  const low = scalar(q.dtype === "float16" ? -(2 ** 15) : -(2 ** 41), q.dtype);
  const bias = where(expandDims(visible!, 1), scalar(0, q.dtype), low);
  return { name: lowering.inline({ parameters, outputs: [bias] }, operands)[0]!, type: bias };
}

/** cuDNN writes [batch, heads, time, headDim] in the memory order of [batch, time, heads, headDim]: this transpose moves nothing. */
function back(lowering: Lowering, name: string, from: Aval, to: Aval): string {
  return lowering.emit(
    `stablehlo.transpose ${name}, dims = [0, 2, 1, 3] : (${tensorType(from)}) -> ${tensorType(to)}`,
  )[0]!;
}

const layout = (order: readonly number[]): string =>
  order.length === 1
    ? "dense<0> : tensor<1xindex>"
    : `dense<[${order.join(", ")}]> : tensor<${order.length}xindex>`;
const rowMajor = (rank: number): string => layout(Array.from({ length: rank }, (_, i) => rank - 1 - i));

function customCall(
  lowering: Lowering,
  target: string,
  operands: readonly string[],
  inputs: readonly Aval[],
  outputs: readonly Aval[],
  config: object,
): readonly string[] {
  const backend = JSON.stringify({ operation_queue_id: "0", cudnn_fmha_backend_config: config }).replaceAll(
    '"',
    "\\22",
  );
  const resultLayouts = outputs.map((o) =>
    o.shape.length === 4 ? layout([3, 1, 2, 0]) : rowMajor(o.shape.length),
  );
  const types = [...outputs.map(tensorType), "tensor<0xui8>"];
  return lowering.emit(
    `stablehlo.custom_call @${target}(${operands.join(", ")}) {api_version = 2 : i32, backend_config = "${backend}", ` +
      `operand_layouts = [${inputs.map((x) => rowMajor(x.shape.length)).join(", ")}], ` +
      `result_layouts = [${[...resultLayouts, layout([0])].join(", ")}]} : ` +
      `(${inputs.map(tensorType).join(", ")}) -> (${types.join(", ")})`,
    types.length,
  );
}

function dims(left: number[], right: number[], leftBatch: number[], rightBatch: number[]): object {
  return {
    lhs_contracting_dimensions: left.map(String),
    rhs_contracting_dimensions: right.map(String),
    lhs_batch_dimensions: leftBatch.map(String),
    rhs_batch_dimensions: rightBatch.map(String),
  };
}

/** XLA's CudnnfMHABackendConfig as JSON (xla/service/gpu/backend_configs.proto), without the dot dimensions. */
function backendConfig(q: Aval, k: Aval, { causal, scale, window }: FlashAttributes): object {
  const [batch, queries, heads] = q.shape;
  return {
    algorithm: {
      algo_id: "0",
      math_type: "TENSOR_OP_MATH",
      tuning_knobs: { "17": "1", "24": "0" },
      is_cudnn_frontend: true,
      workspace_size: "0",
    },
    fmha_scale: scale,
    intermediate_tensor_shape: {
      element_type: q.dtype === "bfloat16" ? "BF16" : "F16",
      dimensions: [batch, heads, queries, k.shape[1]].map(String),
      tuple_shapes: [],
      layout: {
        dim_level_types: [],
        dim_unique: [],
        dim_ordered: [],
        minor_to_major: ["3", "2", "1", "0"],
        tiles: [],
        element_size_in_bits: "0",
        memory_space: "0",
        index_primitive_type: "PRIMITIVE_TYPE_INVALID",
        pointer_primitive_type: "PRIMITIVE_TYPE_INVALID",
        dynamic_shape_metadata_prefix_bytes: "0",
      },
      is_dynamic_dimension: [false, false, false, false],
    },
    is_flash_attention: true,
    mask_type: causal ? "CAUSAL" : "NO_MASK",
    dropout_rate: 0,
    seed: 42,
    sliding_window_length: window ?? 0,
    max_seg_per_batch: 1,
    is_paged_attention: false,
  };
}

/** Lowers to plain operations where there is no fused kernel. */
function decomposed(
  lowering: Lowering,
  math: (inputs: readonly Tensor[]) => readonly Tensor[],
  inputs: readonly Aval[],
  operands: readonly string[],
): readonly string[] {
  const parameters = inputs.map(placeholder);
  return lowering.inline({ parameters, outputs: math(parameters) }, operands);
}

/** The same mathematics, on q, k, v and what the mask is made of. */
function plain([q, k, v, ...masks]: readonly Tensor[], attributes: FlashAttributes): Tensor {
  return plainAttention(q!, k!, v!, { ...attributes, ...visibility(masks, attributes) });
}

/** A mapped axis is one more factor of the batch. */
function merged(
  op: Op<FlashAttributes>,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  attributes: FlashAttributes,
  size: number,
): readonly Tensor[] {
  const flat = uniform(inputs, batched, size).map((x) =>
    reshape(x, [size * x.shape[1]!, ...x.shape.slice(2)]),
  );
  return bindAll(op, flat, attributes).map((y) =>
    reshape(y, [size, y.shape[0]! / size, ...y.shape.slice(1)]),
  );
}
