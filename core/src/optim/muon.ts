/**
 * Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"): momentum of a matrix, made orthogonal by
 * Newton-Schulz iterations. Embeddings, the output layer, norms and biases are AdamW's.
 */
import { sum, zerosLike } from "../array/broadcast.js";
import { matmul } from "../array/contraction.js";
import { add, cast, div, mul, sqrt, square } from "../array/elementwise.js";
import { swapAxes } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { map } from "../transform/tree.js";
import { type AdamWOptions, adaptive } from "./adamw.js";
import { checkDecays, checkNames, type DescentOptions, type Method, plainDescent } from "./descent.js";
import { type Leaves, withGroups } from "./groups.js";
import { type Optimizer, withOptions } from "./optimizer.js";

export interface MuonOptions extends DescentOptions {
  /** Decay of the momentum. Default 0.95. */
  momentum?: number;
  /** Looks one step ahead along the momentum. Default true. */
  nesterov?: boolean;
  /** Newton-Schulz iterations. Default 5. */
  iterations?: number;
  /**
   * Size of an update: `rms`, the default, 0.2 sqrt(max(rows, columns)), which has AdamW's root mean square, so that AdamW's learning
   * rate and decay serve for both (Liu et al. 2025, "Muon is Scalable for LLM Training"); `spectral`, sqrt(max(1, rows / columns)), as first
   * published, with a learning rate of about 0.02.
   */
  scale?: "rms" | "spectral";
  /** Element type of the iterations. Default bfloat16, as published. */
  dtype?: "bfloat16" | "float32";
  /**
   * Which parameters are Muon's. Default those of two axes, or of three as a stack of matrices, whose path names no embedding and no output
   * layer.
   */
  matrices?: (path: string, parameter: Tensor) => boolean;
  /** Options of AdamW for the others; default those of Muon that both have. */
  adamw?: Partial<AdamWOptions>;
}

/** The momentum, by path. */
export interface MuonState {
  readonly momentum: Leaves;
}

const isHidden = (path: string, p: Tensor): boolean =>
  (p.ndim === 2 || p.ndim === 3) && !/embed|lm_?head|\bwte\b|\bwpe\b/i.test(path);

export function muon(options: MuonOptions): Optimizer {
  checkNames("muon", options, ["momentum", "nesterov", "iterations", "scale", "dtype", "matrices", "adamw"]);
  const {
    momentum = 0.95,
    nesterov = true,
    iterations = 5,
    scale = "rms",
    dtype = "bfloat16",
    matrices = isHidden,
    adamw: others = {},
    ...rest
  } = options;
  checkDecays("muon", { momentum });
  if (!Number.isInteger(iterations) || iterations < 1)
    throw new ArgumentError(`muon: iterations is ${iterations}`, "give a positive integer");
  if (scale !== "rms" && scale !== "spectral")
    throw new ArgumentError(`muon: scale is ${String(scale)}`, 'use "rms" or "spectral"');
  if (dtype !== "bfloat16" && dtype !== "float32")
    throw new ArgumentError(`muon: dtype is ${String(dtype)}`, 'use "bfloat16" or "float32"');
  const method: Method<MuonState> = {
    name: "muon",
    init: (parameters) => ({ momentum: map(zerosLike, parameters) }),
    direction(gradients, state) {
      const running = map((g, m) => add(mul(m, momentum), g), gradients, state.momentum);
      const ahead = nesterov ? map((g, m) => add(g, mul(m, momentum)), gradients, running) : running;
      const directions = map((x) => {
        const [rows, columns] = x.shape.slice(-2) as [number, number];
        const size =
          scale === "rms" ? 0.2 * Math.sqrt(Math.max(rows, columns)) : Math.sqrt(Math.max(1, rows / columns));
        return mul(cast(orthogonalize(cast(x, dtype), iterations), "float32"), size);
      }, ahead);
      return [directions, { momentum: running }];
    },
  };
  checkNames("muon: adamw", others, ["beta1", "beta2", "epsilon"]);
  const { beta1, beta2 = 0.95, epsilon, ...shared } = others;
  const optimizer = withGroups("muon", rest.groups ?? [], [
    { name: "muon", owns: matrices, optimizer: plainDescent(rest, method) },
    {
      name: "adamw",
      owns: () => true,
      optimizer: plainDescent({ ...rest, ...shared }, adaptive("adamw", { beta1, beta2, epsilon })),
    },
  ]);
  return withOptions(optimizer, muon, options);
}

/**
 * About the nearest orthogonal matrix, for the last two axes: U V' of the singular value decomposition U S V', with singular values between
 * about 0.7 and 1.2. A quintic whose coefficients were chosen for its slope at zero.
 */
export function orthogonalize(x: Tensor, iterations = 5): Tensor {
  const [a, b, c] = [3.4445, -4.775, 2.0315];
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const wide = rows > columns ? swapAxes(x, -1, -2) : x;
  let y = div(wide, add(sqrt(sum(square(wide), [-2, -1], { keepDims: true })), 1e-7));
  for (let i = 0; i < iterations; i++) {
    const gram = matmul(y, swapAxes(y, -1, -2));
    y = add(mul(y, a), matmul(add(mul(gram, b), mul(matmul(gram, gram), c)), y));
  }
  return rows > columns ? swapAxes(y, -1, -2) : y;
}
