/**
 * Llama (Touvron et al. 2023, "LLaMA" and "Llama 2"; Grattafiori et al. 2024, "The Llama 3 Herd of Models"): a decoder of pre-normalized
 * blocks of rotary attention and gated feed-forward. Fields are named as in Hugging Face's checkpoints, in camel case.
 */
import { iota } from "../../array/creation.js";
import { add, mul, silu } from "../../array/elementwise.js";
import { reshape } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { ArgumentError } from "../../graph/errors.js";
import { attention } from "../../nn/attention.js";
import { KeyValueCache } from "../../nn/cache.js";
import { normalInit } from "../../nn/initializers.js";
import { Embedding, Linear, RMSNorm } from "../../nn/layers.js";
import { linearCrossEntropy } from "../../nn/losses.js";
import { Module } from "../../nn/module.js";
import {
  applyRotary,
  type RotaryScaling,
  type RotaryTables,
  rotaryFrequencies,
  rotaryTables,
} from "../../nn/rotary.js";
import type { ForwardOptions, TokenBatch } from "./model.js";

export interface LlamaConfig {
  vocabSize: number;
  /** Width of the residual stream. */
  hiddenSize: number;
  /** Width of the feed-forward layers. */
  intermediateSize: number;
  layers: number;
  heads: number;
  /** Heads of keys and values; default `heads`. */
  keyValueHeads?: number;
  /** Default hiddenSize / heads. */
  headDim?: number;
  /** Base of the rotary frequencies. Default 10,000. */
  ropeTheta?: number;
  /** Stretching of the rotary frequencies for longer contexts. Default none. */
  ropeScaling?: RotaryScaling;
  /** Default 1e-5. */
  normEpsilon?: number;
  /** The output layer shares the embedding's table. Default false. */
  tieEmbeddings?: boolean;
  /** Standard deviation of the initial weights. Default 0.02. */
  initStd?: number;
}

type Filled = Required<Omit<LlamaConfig, "ropeScaling">> & Pick<LlamaConfig, "ropeScaling">;

function fill(config: LlamaConfig): Filled {
  const filled: Filled = {
    keyValueHeads: config.heads,
    headDim: config.hiddenSize / config.heads,
    ropeTheta: 10_000,
    normEpsilon: 1e-5,
    tieEmbeddings: false,
    initStd: 0.02,
    ...config,
  };
  for (const field of [
    "vocabSize",
    "hiddenSize",
    "intermediateSize",
    "layers",
    "heads",
    "keyValueHeads",
    "headDim",
  ] as const) {
    if (!Number.isInteger(filled[field]) || filled[field] < 1) {
      throw new ArgumentError(
        `llama: ${field} is ${filled[field]}`,
        "give a positive integer; hiddenSize must be a multiple of heads",
      );
    }
  }
  if (filled.heads % filled.keyValueHeads !== 0) {
    throw new ArgumentError(
      `llama: ${filled.heads} heads cannot share ${filled.keyValueHeads} keyValueHeads`,
      "heads must be a multiple of keyValueHeads",
    );
  }
  if (filled.headDim % 2 !== 0)
    throw new ArgumentError(`llama: headDim is ${filled.headDim}`, "rotary embeddings need an even headDim");
  return filled;
}

class Attention extends Module {
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  oProj: Linear;
  readonly headDim: number;

  constructor({ hiddenSize, heads, keyValueHeads, headDim, initStd, layers }: Filled) {
    super();
    const init = normalInit(initStd);
    this.qProj = new Linear(hiddenSize, heads * headDim, { init, axes: ["heads", "embed"] });
    this.kProj = new Linear(hiddenSize, keyValueHeads * headDim, { init, axes: ["kv", "embed"] });
    this.vProj = new Linear(hiddenSize, keyValueHeads * headDim, { init, axes: ["kv", "embed"] });
    this.oProj = new Linear(heads * headDim, hiddenSize, {
      init: residual(initStd, layers),
      axes: ["embed", "heads"],
    });
    this.headDim = headDim;
  }

  forward(x: Tensor, tables: RotaryTables, layer: number, { cache, segments }: ForwardOptions): Tensor {
    const [batch, time] = x.shape as [number, number];
    const perHead = (y: Tensor): Tensor => reshape(y, [batch, time, -1, this.headDim]);
    const q = applyRotary(perHead(this.qProj.forward(x)), tables);
    const k = applyRotary(perHead(this.kProj.forward(x)), tables);
    const v = perHead(this.vProj.forward(x));
    const mixed =
      cache === undefined
        ? attention(q, k, v, { segments })
        : attention(q, ...cache.append(layer, k, v), {
            segments,
            offset: cache.position,
            keyStart: cache.keyStart ?? undefined,
          });
    return this.oProj.forward(reshape(mixed, [batch, time, -1]));
  }
}

/** Layers that write to the residual stream begin smaller, the deeper the model (Radford et al. 2019). */
function residual(std: number, layers: number) {
  return normalInit(std / Math.sqrt(2 * layers));
}

class FeedForward extends Module {
  gateProj: Linear;
  upProj: Linear;
  downProj: Linear;

  constructor({ hiddenSize, intermediateSize, initStd, layers }: Filled) {
    super();
    const init = normalInit(initStd);
    this.gateProj = new Linear(hiddenSize, intermediateSize, { init, axes: ["mlp", "embed"] });
    this.upProj = new Linear(hiddenSize, intermediateSize, { init, axes: ["mlp", "embed"] });
    this.downProj = new Linear(intermediateSize, hiddenSize, {
      init: residual(initStd, layers),
      axes: ["embed", "mlp"],
    });
  }

  forward(x: Tensor): Tensor {
    return this.downProj.forward(mul(silu(this.gateProj.forward(x)), this.upProj.forward(x)));
  }
}

class Block extends Module {
  selfAttn: Attention;
  mlp: FeedForward;
  inputLayernorm: RMSNorm;
  postAttentionLayernorm: RMSNorm;

  constructor(config: Filled) {
    super();
    const epsilon = config.normEpsilon;
    this.selfAttn = new Attention(config);
    this.mlp = new FeedForward(config);
    this.inputLayernorm = new RMSNorm(config.hiddenSize, { epsilon });
    this.postAttentionLayernorm = new RMSNorm(config.hiddenSize, { epsilon });
  }

  forward(x: Tensor, tables: RotaryTables, layer: number, options: ForwardOptions): Tensor {
    const attended = add(x, this.selfAttn.forward(this.inputLayernorm.forward(x), tables, layer, options));
    return add(attended, this.mlp.forward(this.postAttentionLayernorm.forward(attended)));
  }
}

class Decoder extends Module {
  embedTokens: Embedding;
  layers: Block[];
  norm: RMSNorm;

  constructor(config: Filled) {
    super();
    this.embedTokens = new Embedding(config.vocabSize, config.hiddenSize, {
      init: normalInit(config.initStd),
      axes: ["vocab", "embed"],
    });
    this.layers = Array.from({ length: config.layers }, () => new Block(config));
    this.norm = new RMSNorm(config.hiddenSize, { epsilon: config.normEpsilon });
  }
}

export class Llama extends Module {
  model: Decoder;
  lmHead: Linear | null;
  readonly config: Filled;

  constructor(config: LlamaConfig) {
    super();
    this.config = fill(config);
    this.model = new Decoder(this.config);
    this.lmHead = this.config.tieEmbeddings
      ? null
      : new Linear(this.config.hiddenSize, this.config.vocabSize, {
          init: normalInit(this.config.initStd),
          axes: ["vocab", "embed"],
        });
  }

  /** Logits of the next token at each position: integer [batch, time] to [batch, time, vocabSize]. */
  forward(tokens: Tensor, options: ForwardOptions = {}): Tensor {
    const x = this.hidden(tokens, options);
    return this.lmHead === null ? this.model.embedTokens.attend(x) : this.lmHead.forward(x);
  }

  /** The states that the output layer reads: integer [batch, time] to [batch, time, hiddenSize], normalized. */
  hidden(tokens: Tensor, { cache, segments, positions }: ForwardOptions = {}): Tensor {
    const { headDim, ropeTheta, ropeScaling } = this.config;
    const [, time] = tokens.shape as [number, number];
    const at = positions ?? cache?.positions(time) ?? iota([time], 0);
    const tables = rotaryTables(at, rotaryFrequencies(headDim, ropeTheta, ropeScaling));
    let x = this.model.embedTokens.forward(tokens);
    for (const [i, layer] of this.model.layers.entries())
      x = layer.forward(x, tables, i, { cache, segments });
    return this.model.norm.forward(x);
  }

  /** Mean cross-entropy of the next token in nats, a scalar; the logits never exist for the whole batch. */
  loss({ inputs, targets, weights, segments, positions }: TokenBatch): Tensor {
    const output = this.lmHead ?? this.model.embedTokens;
    const hidden = this.hidden(inputs, { segments, positions });
    return linearCrossEntropy(hidden, output.weight, targets, { weights });
  }

  /** An empty cache for `batch` texts of up to `length` tokens; `keyStart`: int32 [batch], the padding tokens that each begins with. */
  newCache(batch: number, length: number, keyStart?: Tensor): KeyValueCache {
    const { layers, keyValueHeads: heads, headDim } = this.config;
    const { dtype } = this.model.embedTokens.weight;
    return new KeyValueCache({ layers, batch, length, heads, headDim, dtype, keyStart });
  }

  /** Floating-point operations a trained token costs (forward and backward), at sequences of `time`: 6 a weight, and the attention. */
  flopsPerToken(time: number): number {
    const { hiddenSize, layers, heads, headDim, vocabSize, tieEmbeddings } = this.config;
    const table = vocabSize * hiddenSize;
    const weights = this.parameterCount - (tieEmbeddings ? 0 : table);
    // Causal attention: half of the scores.
    return 6 * weights + 6 * layers * heads * headDim * time;
  }
}

/** A Llama-style model. */
export function llama(config: LlamaConfig): Llama {
  return new Llama(config);
}

/** Published and teaching sizes. */
export const llamaConfigs = {
  /** About a million parameters with a byte vocabulary: trains on two CPU cores in minutes. */
  tiny: {
    vocabSize: 257,
    hiddenSize: 128,
    intermediateSize: 352,
    layers: 5,
    heads: 4,
    keyValueHeads: 2,
    tieEmbeddings: true,
  },
  llama1b: {
    vocabSize: 32_000,
    hiddenSize: 2048,
    intermediateSize: 5632,
    layers: 22,
    heads: 32,
    keyValueHeads: 4,
  },
  llama3_8b: {
    vocabSize: 128_256,
    hiddenSize: 4096,
    intermediateSize: 14_336,
    layers: 32,
    heads: 32,
    keyValueHeads: 8,
    ropeTheta: 500_000,
  },
} as const satisfies Record<string, LlamaConfig>;
