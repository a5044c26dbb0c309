/**
 * LoRA (Hu et al. 2022, "LoRA: low-rank adaptation of large language models") beside one layer: y + s · B(A · x), s = alpha / rank; and DoRA (Liu
 * et al. 2024, "DoRA: weight-decomposed low-rank adaptation"): m · (W + s · BA) / |W + s · BA| in each row.
 */
import { full, sum } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { conv } from "../array/convolution.js";
import { add, cast, div, mul, sqrt, square, stopGradient, sub } from "../array/elementwise.js";
import { take } from "../array/indexing.js";
import { reshape, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { Conv } from "../nn/convolutions.js";
import { Dropout } from "../nn/dropout.js";
import { constantInit, fanInUniform, type Initializer, normalInit } from "../nn/initializers.js";
import { Embedding, type Linear } from "../nn/layers.js";
import type { Module } from "../nn/module.js";
import type { QuantizedLinear } from "../quantize/linear.js";
import { jit } from "../transform/jit.js";
import { Adapter } from "./adapter.js";

/** Layers with one weight that low-rank products can stand beside. */
export type LowRankBase = Linear | QuantizedLinear | Embedding | Conv;

export interface LowRankOptions {
  readonly rank: number;
  readonly alpha: number;
  /** Divides alpha by the root of the rank (Kalajdzievski 2023, "rsLoRA"). */
  readonly rsLora: boolean;
  readonly dropout: number;
  readonly dora: boolean;
  /** "default": A uniform in ±1/√inputs; "gaussian": normal with deviation 1/rank. B is zero in both. */
  readonly init: "default" | "gaussian";
}

/** The weight as rows of what they are multiplied with: [outputs, inputs], a table [count, features] as [features, count]. */
export function rowsOf(layer: LowRankBase, weight: Tensor = layer.weight): Tensor {
  if (layer instanceof Embedding) return transpose(weight);
  return weight.ndim === 2 ? weight : reshape(weight, [weight.shape[0]!, -1]);
}

/** The inverse of `rowsOf`. */
export function fromRows(layer: LowRankBase, rows: Tensor): Tensor {
  if (layer instanceof Embedding) return transpose(rows);
  return rows.shape.join() === layer.weight.shape.join() ? rows : reshape(rows, layer.weight.shape);
}

/** [outputs, inputs] of a layer's rows. */
export function sizesOf(layer: LowRankBase): [outputs: number, inputs: number] {
  const [first, ...rest] = layer.weight.shape as [number, ...number[]];
  const others = rest.reduce((a, b) => a * b, 1);
  return layer instanceof Embedding ? [others, first] : [first, others];
}

const rowSquares = jit((weight: Tensor, turned: boolean): Tensor => squaresOf(weight, turned), {
  name: "row_norms",
  tag: () => "parameter",
  manyTraces: true,
});

function squaresOf(weight: Tensor, turned: boolean): Tensor {
  const axes = weight.shape.map((_, i) => i).filter((i) => i !== (turned ? weight.ndim - 1 : 0));
  return sum(square(cast(weight, "float32")), axes);
}

const overLast = (x: Tensor, w: Tensor, dtype?: Tensor["dtype"]): Tensor =>
  dotGeneral(x, w, { contract: [[x.ndim - 1], [1]], batch: [[], []] }, dtype && { dtype });

export class LowRank extends Adapter {
  readonly method = "LORA";
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  readonly kind: "linear" | "embedding" | "conv";
  /** [rank, inputs]; of a convolution [rank, inputs, ...kernel], of a table [rank, count]. */
  loraA: Tensor;
  /** [outputs, rank]; of a convolution with a kernel of ones. */
  loraB: Tensor;
  /** Of DoRA: the rows' lengths, float32 [outputs]. */
  magnitude: Tensor | null;
  /** Of DoRA: the squares of the lengths of the base's rows, float32 [outputs]. */
  squares: Tensor | null;
  dropout: Dropout | null;

  constructor(layer: LowRankBase, options: LowRankOptions) {
    super();
    const { rank, alpha, rsLora, dropout, dora, init } = options;
    this.rank = rank;
    this.alpha = alpha;
    this.rsLora = rsLora;
    this.kind = layer instanceof Embedding ? "embedding" : layer instanceof Conv ? "conv" : "linear";
    const [outputs, inputs] = sizesOf(layer);
    const axes = axesOf(layer);
    const kernel = this.kind === "conv" ? layer.weight.shape.slice(2) : [];
    const ones = kernel.map(() => 1);
    const nowhere = kernel.map(() => null);
    const a: Initializer = init === "gaussian" ? normalInit(1 / rank) : fanInUniform;
    const table = this.kind === "embedding";
    this.loraA = this.parameter("loraA", table ? [rank, inputs] : [rank, ...layer.weight.shape.slice(1)], {
      init: table ? constantInit(0) : a,
      axes: [null, axes[1]!, ...nowhere],
    });
    this.loraB = this.parameter("loraB", [outputs, rank, ...ones], {
      init: table ? normalInit(1) : constantInit(0),
      axes: [axes[0]!, null, ...nowhere],
    });
    this.dropout = dropout > 0 && !table ? new Dropout(dropout) : null;
    this.squares = dora ? this.fixed("squares", rowSquares(layer.weight, table), { axes: [axes[0]!] }) : null;
    this.magnitude = dora
      ? this.parameter("magnitude", [outputs], { init: onlyOnce(), axes: [axes[0]!] })
      : null;
    if (dora) this.magnitude = sqrt(this.squares!);
  }

  get scale(): number {
    return this.alpha / (this.rsLora ? Math.sqrt(this.rank) : this.rank);
  }

  /** The two matrices: A [rank, inputs], B [outputs, rank]. */
  get factors(): [a: Tensor, b: Tensor] {
    return [reshape(this.loraA, [this.rank, -1]), reshape(this.loraB, [-1, this.rank])];
  }

  /** What is added to the weight's rows: s · BA, float32 [outputs, inputs]. For merging: products are computed without it. */
  delta(): Tensor {
    const [a, b] = this.factors.map((x) => cast(x, "float32")) as [Tensor, Tensor];
    const product = dotGeneral(b, a, { contract: [[1], [0]], batch: [[], []] }, { precision: "highest" });
    return mul(product, this.scale);
  }

  /** The rows' lengths with what was learnt: |W + s · BA|, float32 [outputs], no gradient through it. BA itself is never there. */
  lengths(layer: LowRankBase): Tensor {
    const [a, b] = this.factors.map(stopGradient) as [Tensor, Tensor];
    const rows = stopGradient(rowsOf(layer));
    const crossed = overLast(rows, cast(a, rows.dtype), "float32");
    const inner = overLast(a, a, "float32");
    const wide = cast(b, "float32");
    const cross = sum(mul(crossed, wide), 1);
    const own = sum(mul(overLast(wide, inner), wide), 1);
    const { scale } = this;
    return sqrt(add(this.squares!, add(mul(cross, 2 * scale), mul(own, scale * scale))));
  }

  override after(given: unknown, x: Tensor, layer: Module, share: number): Tensor {
    const y = given as Tensor;
    const base = layer as LowRankBase;
    const dropped = this.dropout?.forward(x) ?? x;
    const low = this.lowRank(dropped, base, share, y.dtype);
    if (this.magnitude === null) return add(y, low);
    const rank = this.kind === "conv" ? y.ndim - 2 : 0;
    const perOutput = (v: Tensor): Tensor => reshape(v, [-1, ...new Array<number>(rank).fill(1)]);
    // In the form of a difference, which is exact in few bits where nothing is learnt yet.
    const change = perOutput(sub(div(cast(this.magnitude, "float32"), this.lengths(base)), 1));
    const more = cast(change, y.dtype);
    const plain = this.plain(y, x, dropped, base, perOutput);
    return add(y, add(mul(more, plain), add(low, mul(more, low))));
  }

  /** s · B(A · x). */
  private lowRank(x: Tensor, layer: LowRankBase, share: number, dtype: Tensor["dtype"]): Tensor {
    const [a, b] = [cast(this.loraA, dtype), cast(this.loraB, dtype)];
    const scale = this.scale * share;
    const scaled = (u: Tensor): Tensor => (scale === 1 ? u : mul(u, scale));
    if (this.kind === "embedding") return overLast(scaled(take(transpose(a), x, 0)), b);
    if (layer instanceof Conv) {
      const u = conv(cast(x, dtype), a, { ...layer.options, layout: "channelsFirst" });
      return conv(scaled(u), b, { layout: "channelsFirst" });
    }
    return overLast(scaled(overLast(cast(x, dtype), a)), b);
  }

  /** What the base gives without its bias, of the input that the low-rank product has. */
  private plain(
    y: Tensor,
    x: Tensor,
    dropped: Tensor,
    layer: LowRankBase,
    perOutput: (v: Tensor) => Tensor,
  ): Tensor {
    const bias = layer instanceof Embedding ? null : layer.bias;
    const result =
      dropped === x
        ? y
        : (
            Object.getPrototypeOf(Object.getPrototypeOf(layer)) as { forward(x: Tensor): Tensor }
          ).forward.call(layer, dropped);
    return bias === null ? result : sub(result, perOutput(bias));
  }
}

/** A declaration asks its initializer for a value once; whoever asks again would draw the parameter anew. */
function onlyOnce(): Initializer {
  let asked = false;
  return (_key, shape, dtype) => {
    if (!asked) {
      asked = true;
      return full(shape, 1, { dtype });
    }
    throw new ArgumentError(
      "initialize: the magnitudes of DoRA are those of the weights that it was made for",
      "draw the base's parameters first, then call peft.lora(model, { dora: true })",
    );
  };
}

/** Logical axes of [outputs, inputs]. */
function axesOf(layer: LowRankBase): readonly (string | null)[] {
  if ("quantized" in layer) return layer.quantized.ownParameters.codes?.axes ?? [null, null];
  const axes = layer.ownParameters.weight?.axes ?? [null, null];
  return layer instanceof Embedding ? [axes[1]!, axes[0]!] : axes;
}
