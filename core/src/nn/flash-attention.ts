/**
 * Attention that never holds the scores of all pairs (Dao et al. 2022, "FlashAttention"): cuDNN's fused kernels on NVIDIA GPUs, forward
 * and backward, and the same mathematics in plain operations elsewhere.
 */
import { bindAll, type Op, placeholder } from "../array/bind.js";
import { sum } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { cast, exp, mul, sub, uniform } from "../array/elementwise.js";
import { logsumexp } from "../array/reductions.js";
import { expandDims, reshape, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { type Lowering, tensorType } from "../graph/lowering.js";
import type { Aval } from "../graph/node.js";
import { attentionScores, groupHeads, weightedValues } from "./scores.js";

interface FlashAttributes {
  readonly [name: string]: unknown;
  readonly causal: boolean;
  readonly scale: number;
}

/** Whether the fused kernels take heads of this type and width. */
export function flashSupports(dtype: DType, headDim: number): boolean {
  return (dtype === "bfloat16" || dtype === "float16") && headDim % 8 === 0 && headDim <= 256;
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
  { causal, scale }: { causal: boolean; scale: number },
): Tensor {
  return bindAll(forwardPrimitive, [q, k, v], { causal, scale })[0]!;
}

const forwardPrimitive: Op<FlashAttributes> = {
  name: "flash_attention",
  shape([q]) {
    const [batch, queries, heads] = q!.shape as [number, number, number];
    return [
      { shape: q!.shape, dtype: q!.dtype },
      // The logarithm of each row's sum of exponentials, which the backward pass recomputes the weights from.
      { shape: [batch, heads, queries], dtype: "float32" },
    ];
  },
  vjp({ inputs, outputs: [o, lse], attributes }, [g]) {
    if (g === undefined) return [undefined, undefined, undefined];
    return bindAll(backwardPrimitive, [...inputs, lse!, g, o!], attributes);
  },
  batch: (inputs, batched, attributes, size) => merged(forwardPrimitive, inputs, batched, attributes, size),
  lower(lowering, { inputs, outputs, attributes }, operands) {
    if (lowering.platform !== "cuda") return decomposed(lowering, forwardMath, inputs, attributes, operands);
    const [q, k] = inputs as [Tensor, Tensor];
    const [batch, queries, heads, headDim] = q.shape as [number, number, number, number];
    const config = {
      ...backendConfig(q, k, attributes),
      bmm1_dot_dimension_numbers: dims([3], [3], [0, 2], [0, 2]),
      bmm2_dot_dimension_numbers: dims([3], [1], [0, 1], [0, 2]),
    };
    const fused = { shape: [batch, heads, queries, headDim], dtype: q.dtype };
    const [raw, lse] = customCall(
      lowering,
      "__cudnn$fmhaSoftmax",
      operands,
      inputs,
      [fused, outputs[1]!],
      config,
    );
    return [back(lowering, raw!, fused, outputs[0]!), lse!];
  },
};

const backwardPrimitive: Op<FlashAttributes> = {
  name: "flash_attention_backward",
  shape: ([q, k, v]) => [q!, k!, v!].map(({ shape, dtype }) => ({ shape, dtype })),
  batch: (inputs, batched, attributes, size) => merged(backwardPrimitive, inputs, batched, attributes, size),
  lower(lowering, { inputs, outputs, attributes }, operands) {
    if (lowering.platform !== "cuda") return decomposed(lowering, backwardMath, inputs, attributes, operands);
    const [q, k] = inputs as [Tensor, Tensor];
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
    const raw = customCall(lowering, "__cudnn$fmhaSoftmaxBackward", operands, inputs, fused, config);
    return outputs.map((out, i) => back(lowering, raw[i]!, fused[i]!, out));
  },
};

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
function backendConfig(q: Aval, k: Aval, { causal, scale }: FlashAttributes): object {
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
    sliding_window_length: 0,
    max_seg_per_batch: 1,
    is_paged_attention: false,
  };
}

type Mathematics = (inputs: readonly Tensor[], attributes: FlashAttributes) => readonly Tensor[];

/** Lowers to the operations of `math` where there is no fused kernel. */
function decomposed(
  lowering: Lowering,
  math: Mathematics,
  inputs: readonly Aval[],
  attributes: FlashAttributes,
  operands: readonly string[],
): readonly string[] {
  const parameters = inputs.map(placeholder);
  return lowering.inline({ parameters, outputs: math(parameters, attributes) }, operands);
}

const forwardMath: Mathematics = ([q, k, v], attributes) => {
  const [batch, queries, heads] = q!.shape as [number, number, number];
  const scores = attentionScores(q!, k!, attributes);
  const lse = logsumexp(scores, -1, { keepDims: true });
  return [
    weightedValues(exp(sub(scores, lse)), v!),
    reshape(transpose(reshape(lse, lse.shape.slice(0, 4)), [0, 1, 3, 2]), [batch, heads, queries]),
  ];
};

const backwardMath: Mathematics = ([q, k, v, lse, g, o], attributes) => {
  const [batch, queries, heads] = q!.shape as [number, number, number];
  const keyHeads = k!.shape[2]!;
  const rows = transpose(reshape(lse!, [batch, keyHeads, heads / keyHeads, queries]), [0, 1, 3, 2]);
  const weights = exp(sub(attentionScores(q!, k!, attributes), expandDims(rows, -1)));
  const dWeights = attentionScores(g!, v!, { causal: false, scale: 1 });
  const products = groupHeads(mul(cast(g!, "float32"), cast(o!, "float32")), keyHeads);
  const delta = transpose(sum(products, -1), [0, 2, 1, 3]);
  const dScores = cast(mul(mul(weights, sub(dWeights, expandDims(delta, -1))), attributes.scale), q!.dtype);
  return [
    weightedValues(dScores, k!),
    sumOverQueries(dScores, groupHeads(q!, keyHeads)),
    sumOverQueries(cast(weights, q!.dtype), groupHeads(g!, keyHeads)),
  ];
};

/** From weights [batch, keyHeads, queries, groups, keys] and grouped heads to [batch, keys, keyHeads, headDim]. */
function sumOverQueries(weights: Tensor, grouped: Tensor): Tensor {
  const overQueries = {
    contract: [
      [2, 3],
      [1, 3],
    ],
    batch: [
      [0, 1],
      [0, 2],
    ],
  } as const;
  return transpose(dotGeneral(weights, grouped, overQueries), [0, 2, 1, 3]);
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
