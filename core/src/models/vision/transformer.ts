/** The layers that vision transformers and the text encoders beside them are made of. */
import { add, mul } from "../../array/elementwise.js";
import { reshape } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { attention } from "../../nn/attention.js";
import { StochasticDepth } from "../../nn/dropout.js";
import { constantInit, normalInit } from "../../nn/initializers.js";
import { LayerNorm, Linear } from "../../nn/layers.js";
import { type Activation, GatedMlp, Mlp } from "../../nn/mlp.js";
import { Module } from "../../nn/module.js";
import { checkpointName } from "../../transform/remat.js";

export interface BlockOptions {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly activation: Activation;
  readonly normEpsilon: number;
  readonly initStd: number;
  /** Whether queries, keys and values have biases. Default true. */
  readonly qkvBias?: boolean;
  /** Initial factor of each branch's features (Touvron et al. 2021, "Going deeper with image transformers"). Default none. */
  readonly layerScale?: number;
  /** Gated feed-forward layers, gate and up in one product. Default false. */
  readonly gated?: boolean;
  /** Rate of stochastic depth. Default 0. */
  readonly dropPath?: number;
}

/** What attention is told beside its input. */
export interface Seen {
  readonly causal?: boolean;
  /** bool [batch, keys]: false is padding. */
  readonly mask?: Tensor;
}

export class SelfAttention extends Module {
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  outProj: Linear;
  readonly heads: number;

  constructor({ hiddenSize, heads, initStd, qkvBias: bias = true }: BlockOptions) {
    super();
    this.heads = heads;
    const init = normalInit(initStd);
    const layer = () => new Linear(hiddenSize, hiddenSize, { bias, init, axes: ["heads", "embed"] });
    this.qProj = layer();
    this.kProj = layer();
    this.vProj = layer();
    this.outProj = new Linear(hiddenSize, hiddenSize, { bias: true, init, axes: ["embed", "heads"] });
  }

  /** [batch, time, hiddenSize] to the same. */
  forward(x: Tensor, { causal = false, mask }: Seen = {}): Tensor {
    const inHeads = (y: Tensor): Tensor => reshape(y, [x.shape[0]!, x.shape[1]!, this.heads, -1]);
    const [q, k, v] = [this.qProj, this.kProj, this.vProj].map((layer) => inHeads(layer.forward(x)));
    const mixed = attention(q!, k!, v!, { causal, ...(mask !== undefined && { mask }) });
    return this.outProj.forward(checkpointName(reshape(mixed, x.shape), "attention"));
  }
}

/** A pre-normalized layer: x + attention(norm(x)), then x + mlp(norm(x)) (Dosovitskiy et al. 2021, equations 2 and 3). */
export class Block extends Module {
  norm1: LayerNorm;
  attention: SelfAttention;
  scale1: Tensor | null;
  drop1: StochasticDepth | null;
  norm2: LayerNorm;
  mlp: Mlp | GatedMlp;
  scale2: Tensor | null;
  drop2: StochasticDepth | null;

  constructor(options: BlockOptions) {
    super();
    const {
      hiddenSize,
      intermediateSize,
      activation,
      normEpsilon: epsilon,
      layerScale,
      dropPath = 0,
    } = options;
    const dense = { bias: true, init: normalInit(options.initStd) };
    const scale = (name: string): Tensor | null =>
      layerScale === undefined
        ? null
        : this.parameter(name, [hiddenSize], { init: constantInit(layerScale), axes: ["embed"] });
    const drop = (): StochasticDepth | null => (dropPath > 0 ? new StochasticDepth(dropPath) : null);
    this.norm1 = new LayerNorm(hiddenSize, { epsilon });
    this.attention = new SelfAttention(options);
    this.scale1 = scale("scale1");
    this.drop1 = drop();
    this.norm2 = new LayerNorm(hiddenSize, { epsilon });
    this.mlp =
      options.gated === true
        ? new GatedMlp(hiddenSize, intermediateSize, { ...dense, fused: true })
        : new Mlp(hiddenSize, intermediateSize, { ...dense, activation });
    this.scale2 = scale("scale2");
    this.drop2 = drop();
  }

  forward(x: Tensor, seen: Seen = {}): Tensor {
    const branch = (y: Tensor, scale: Tensor | null, drop: StochasticDepth | null): Tensor => {
      const scaled = scale === null ? y : mul(y, scale);
      return drop === null ? scaled : drop.forward(scaled);
    };
    const mixed = this.attention.forward(this.norm1.forward(x), seen);
    const attended = add(x, branch(mixed, this.scale1, this.drop1));
    return add(attended, branch(this.mlp.forward(this.norm2.forward(attended)), this.scale2, this.drop2));
  }
}

/** Layers whose rate of stochastic depth rises from 0 to `dropPath`. */
export function blocks(layers: number, { dropPath = 0, ...options }: BlockOptions): Block[] {
  return Array.from(
    { length: layers },
    (_, i) => new Block({ ...options, dropPath: layers === 1 ? dropPath : (dropPath * i) / (layers - 1) }),
  );
}
