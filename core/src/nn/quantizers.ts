/** Layers that replace vectors by one of finitely many: a learned codebook, or the points of a grid. Gradients pass straight through. */
import { sum } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { constantArray } from "../array/creation.js";
import {
  add,
  cast,
  div,
  exp,
  floor,
  floorDiv,
  greater,
  less,
  log,
  maximum,
  minimum,
  mod,
  mul,
  not,
  round,
  square,
  stopGradient,
  sub,
  tan,
  tanh,
  where,
} from "../array/elementwise.js";
import { take } from "../array/indexing.js";
import { integers, type Key, uniform } from "../array/random.js";
import { argmin, oneHot } from "../array/reductions.js";
import { expandDims, reshape } from "../array/shaping.js";
import { argsort } from "../array/sorting.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import { constantInit, type Initializer, uniformInit } from "./initializers.js";
import { Module } from "./module.js";

/** `to`, with the gradient of `from`. */
function straightThrough(from: Tensor, to: Tensor): Tensor {
  return add(from, stopGradient(sub(to, from)));
}

export interface VectorQuantizerOptions {
  /**
   * The codes are moving averages of the vectors that they replace, with this share of the past (van den Oord et al. 2017, appendix A.1). null:
   * they are parameters, trained by a term of the loss. Default 0.99.
   */
  decay?: number | null;
  /** Factor of the term of the loss that keeps vectors near their codes. Default 0.25. */
  commitment?: number;
  /** Added to the averages of the codes' uses. Default 1e-5. */
  epsilon?: number;
  /**
   * Codes that are used, on average, less often than this in a batch become random vectors of it (Dhariwal et al. 2020, "Jukebox", section 3); for
   * codes that are moving averages. Default 0: none.
   */
  restart?: number;
  /** Default uniform in ±1 / codes. */
  init?: Initializer;
}

/** Uniform in ±1 / codes. */
const codebookInit: Initializer = (key, shape, dtype) => uniformInit(1 / shape[0]!)(key, shape, dtype);

export interface Quantized {
  /** The vectors' codes, of the shape of x; the gradient passes straight through to x. */
  readonly quantized: Tensor;
  /** Which, int32 [...]. */
  readonly codes: Tensor;
  /** To be added to the model's loss: float32 scalar. */
  readonly loss: Tensor;
  /** exp of the entropy of the codes' uses in this batch, in 1 to the number of codes: how many are in use. */
  readonly perplexity: Tensor;
}

/** Replaces each vector by the nearest of a codebook (van den Oord et al. 2017, "Neural discrete representation learning"). */
export class VectorQuantizer extends Module {
  /** [codes, features]. */
  codebook: Tensor;
  /** Moving average of the numbers of vectors of each code, from 1 on. */
  clusterSize: Tensor | null;
  readonly decay: number | null;
  readonly commitment: number;
  readonly epsilon: number;
  readonly restart: number;

  constructor(codes: number, features: number, options: VectorQuantizerOptions = {}) {
    super();
    const { decay = 0.99, commitment = 0.25, epsilon = 1e-5, restart = 0 } = options;
    const { init = codebookInit } = options;
    if (decay !== null && !(decay >= 0 && decay < 1))
      throw new ArgumentError(
        `VectorQuantizer: decay is ${decay}`,
        "give a number from 0 to below 1, or null",
      );
    if (!(commitment >= 0) || !(restart >= 0)) {
      throw new ArgumentError(
        `VectorQuantizer: commitment is ${commitment}, restart ${restart}`,
        "give numbers of at least 0",
      );
    }
    if (decay === null && restart > 0) {
      throw new ArgumentError(
        "VectorQuantizer: restart of codes that are parameters",
        "give a decay: codes that are moving averages can be replaced",
      );
    }
    this.decay = decay;
    this.commitment = commitment;
    this.epsilon = epsilon;
    this.restart = restart;
    const shape = [codes, features];
    this.codebook =
      decay === null ? this.parameter("codebook", shape, { init }) : this.buffer("codebook", shape, { init });
    this.clusterSize = decay === null ? null : this.buffer("clusterSize", [codes], { init: constantInit(1) });
  }

  /**
   * @param x - [..., features]
   * @param training - whether the moving averages move; inside of `nn.withUpdates`, which the Trainer calls
   * @param mask - bool [...]: vectors of false (padding) count in nothing
   * @param key - for `restart`
   */
  forward(
    x: Tensor,
    { training = false, mask, key }: { training?: boolean; mask?: Tensor; key?: Key | number } = {},
  ): Quantized {
    const [count, features] = this.codebook.shape as [number, number];
    const shape = x.shape.slice(0, -1);
    if (x.ndim < 1 || x.shape.at(-1) !== features) {
      throw new ShapeError(
        `VectorQuantizer of ${features} features: x has shape [${x.shape.join(", ")}]`,
        "x is [..., features]",
      );
    }
    if (mask !== undefined && (mask.dtype !== "bool" || mask.shape.join() !== shape.join())) {
      throw new (mask.dtype === "bool" ? ShapeError : DTypeError)(
        `VectorQuantizer: the mask is ${mask} for x [${x.shape.join(", ")}]`,
        "give bool of the shape of x without the features, true for the vectors that count",
      );
    }
    const flat = cast(reshape(x, [-1, features]), "float32");
    const counts = mask && reshape(mask, [-1]);
    const nearest = this.nearest(flat);
    const picked = take(cast(this.codebook, "float32"), nearest, 0);
    const hits = oneHot(nearest, count);
    const assigned = counts === undefined ? hits : where(expandDims(counts, 1), hits, 0);
    const used = sum(assigned, 0);
    const total = sum(used);
    const vectors = maximum(total, 1);
    /** Mean of the squared differences over the vectors that count. */
    const apart = (a: Tensor, b: Tensor): Tensor => {
      const squares = square(sub(a, b));
      const counted = counts === undefined ? squares : where(expandDims(counts, 1), squares, 0);
      return div(sum(counted), mul(vectors, features));
    };
    const committed = mul(apart(flat, stopGradient(picked)), this.commitment);
    const loss = this.decay === null ? add(committed, apart(stopGradient(flat), picked)) : committed;
    const share = div(used, vectors);
    const entropy = sum(where(greater(share, 0), mul(share, log(where(greater(share, 0), share, 1))), 0));
    if (training && this.decay !== null) this.move(flat, assigned, used, counts, key);
    return {
      quantized: straightThrough(x, cast(reshape(picked, x.shape), x.dtype)),
      codes: reshape(nearest, shape),
      loss,
      perplexity: exp(mul(entropy, -1)),
    };
  }

  /** The vectors of codes [...]: [..., features]. */
  lookup(codes: Tensor): Tensor {
    return take(this.codebook, codes, 0);
  }

  /** Of vectors [n, features] the index of the nearest code, the first of equal ones: int32 [n]. */
  private nearest(vectors: Tensor): Tensor {
    const codes = cast(stopGradient(this.codebook), "float32");
    const dims = { contract: [[1], [1]], batch: [[], []] } as const;
    const products = dotGeneral(stopGradient(vectors), codes, dims, { precision: "highest" });
    return argmin(sub(sum(square(codes), 1), mul(products, 2)), -1);
  }

  /** Moves the averages by the vectors [n, features] and which codes [n, codes] they were assigned to. */
  private move(
    vectors: Tensor,
    assigned: Tensor,
    used: Tensor,
    counts: Tensor | undefined,
    key: Key | number | undefined,
  ): void {
    const decay = this.decay!;
    const size = this.clusterSize!;
    // (n + e) / (N + K e) · N (Laplace): a code that is no longer used keeps a divisor.
    const smoothed = (n: Tensor): Tensor => {
      const all = sum(n);
      const share = div(add(n, this.epsilon), add(all, this.epsilon * n.shape[0]!));
      return expandDims(mul(share, all), 1);
    };
    const dims = { contract: [[0], [0]], batch: [[], []] } as const;
    const sums = dotGeneral(assigned, vectors, dims, { precision: "highest" });
    let sizes = add(mul(size, decay), mul(used, 1 - decay));
    const totals = add(mul(mul(this.codebook, smoothed(size)), decay), mul(sums, 1 - decay));
    let codes = div(totals, smoothed(sizes));
    if (this.restart > 0) {
      if (key === undefined)
        throw new ArgumentError("VectorQuantizer: restart without a random key", "give forward a key");
      const rows = randomRows(vectors, sizes.shape[0]!, counts, key);
      const dead = less(sizes, this.restart);
      codes = where(expandDims(dead, 1), rows, codes);
      sizes = where(dead, maximum(sizes, this.restart), sizes);
    }
    // A batch of which nothing counts moves nothing.
    const some = greater(sum(used), 0);
    this.setBuffer("codebook", where(some, codes, this.codebook));
    this.setBuffer("clusterSize", where(some, sizes, size));
  }
}

/** `count` random ones of vectors [n, features] that count: [count, features]. */
function randomRows(vectors: Tensor, count: number, counts: Tensor | undefined, key: Key | number): Tensor {
  if (counts === undefined) return take(vectors, integers(key, [count], 0, vectors.shape[0]!), 0);
  // Those that count first.
  const order = argsort(cast(not(counts), "int32"));
  const number = sum(cast(counts, "float32"));
  const place = cast(floor(mul(uniform(key, [count]), number)), "int32");
  return take(vectors, take(order, minimum(place, vectors.shape[0]! - 1), 0), 0);
}

export interface GridCodes {
  /** The nearest points of the grid, in -1 to 1, of the shape of z; the gradient passes straight through. */
  readonly quantized: Tensor;
  /** int32 [...]. */
  readonly codes: Tensor;
}

/**
 * Finite scalar quantization (Mentzer et al. 2023, section 3 and appendix A.1): each feature is bounded and rounded to one of its levels; the
 * combinations are the codes. There is nothing to learn and nothing to lose. The published sizes: [8, 6, 5] is 240 codes, [8, 5, 5, 5] 1000,
 * [7, 5, 5, 5, 5] 4375, [8, 8, 8, 6, 5] 15360.
 */
export class FSQ extends Module {
  readonly levels: readonly number[];

  constructor(levels: readonly number[]) {
    super();
    const valid =
      Array.isArray(levels) && levels.length > 0 && levels.every((n) => Number.isInteger(n) && n >= 2);
    if (!valid || levels.reduce((n, l) => n * l, 1) > 2 ** 31) {
      throw new ArgumentError(
        `FSQ: the levels are ${JSON.stringify(levels)}`,
        "give an integer of at least 2 for each feature, whose product is at most 2 ** 31",
      );
    }
    this.levels = levels;
  }

  /** Number of codes. */
  get size(): number {
    return this.levels.reduce((n, l) => n * l, 1);
  }

  /** @param z - [..., features], one for each of the levels */
  forward(z: Tensor): GridCodes {
    this.check(z);
    const bounded = this.bound(cast(z, "float32"));
    const quantized = div(straightThrough(bounded, round(bounded)), this.halfWidths());
    return { quantized: cast(quantized, z.dtype), codes: this.codesOf(quantized) };
  }

  /** The codes of points of the grid [..., features]: int32 [...]. */
  codesOf(quantized: Tensor): Tensor {
    this.check(quantized);
    const half = this.halfWidths();
    const digits = cast(round(add(mul(cast(quantized, "float32"), half), half)), "int32");
    return cast(sum(mul(digits, this.basis()), -1), "int32");
  }

  /** The points of the grid of codes [...]: float32 [..., features]. */
  valuesOf(codes: Tensor): Tensor {
    const digits = mod(floorDiv(expandDims(codes, -1), this.basis()), this.list(this.levels, "int32"));
    const half = this.halfWidths();
    return div(sub(cast(digits, "float32"), half), half);
  }

  /** Into the range of the levels; where their number is even, moved by half a step, so that 0 stays 0. */
  private bound(z: Tensor): Tensor {
    const half = this.list(this.levels.map((l) => ((l - 1) * (1 - 1e-3)) / 2));
    const offset = this.list(this.levels.map((l) => (l % 2 === 1 ? 0 : 0.5)));
    return sub(mul(tanh(add(z, tan(div(offset, half)))), half), offset);
  }

  private list(values: readonly number[], dtype: "float32" | "int32" = "float32"): Tensor {
    return constantArray(values, { dtype });
  }

  private halfWidths(): Tensor {
    return this.list(this.levels.map((l) => Math.floor(l / 2)));
  }

  /** What a step in each feature adds to the code. */
  private basis(): Tensor {
    const basis = this.levels.map((_, i) => this.levels.slice(0, i).reduce((n, l) => n * l, 1));
    return this.list(basis, "int32");
  }

  private check(z: Tensor): void {
    if (z.ndim > 0 && z.shape.at(-1) === this.levels.length) return;
    throw new ShapeError(
      `FSQ of ${this.levels.length} levels: z has shape [${z.shape.join(", ")}]`,
      "the last axis has one feature for each of the levels",
    );
  }
}
