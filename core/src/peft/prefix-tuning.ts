/** Prefix tuning (Li & Liang 2021, "Prefix-tuning: optimizing continuous prompts for generation"): learnt keys and values before every text, in each layer. */
import { tanh } from "../array/elementwise.js";
import { slice } from "../array/indexing.js";
import { reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import type { Lead } from "../models/llm/model.js";
import { fanInUniform, normalInit } from "../nn/initializers.js";
import { Linear } from "../nn/layers.js";
import type { Module } from "../nn/module.js";
import { checkCount, PromptAdapter, type PromptableModel, prompted } from "./prompts.js";

export interface PrefixTuningOptions {
  /** Positions that are learnt. Default 20. */
  virtualTokens?: number;
  /** Makes keys and values by two linear layers with tanh, which trains more steadily. Default false. */
  projection?: boolean;
  /** Features between the two. Default the width of all key heads. */
  hidden?: number;
  /** The adapter's name. Default "default". */
  name?: string;
}

/** Learnt keys and values, or what makes them. */
export class Prefix extends PromptAdapter {
  readonly method = "PREFIX_TUNING";
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
  /** [count, 2 · layers · width], width = heads · headDim; with a projection [count, width]. */
  embedding: Tensor;
  transform: Linear[];

  constructor(count: number, { config }: Pick<PromptableModel, "config">, hidden: number | null) {
    super(count);
    this.layers = config.layers;
    this.heads = config.keyValueHeads;
    this.headDim = config.headDim;
    const width = this.heads * this.headDim;
    const all = 2 * this.layers * width;
    this.embedding = this.parameter("embedding", [count, hidden === null ? all : width], {
      init: normalInit(1),
    });
    const layer = (inputs: number, outputs: number): Linear =>
      new Linear(inputs, outputs, { bias: true, init: fanInUniform });
    this.transform = hidden === null ? [] : [layer(width, hidden), layer(hidden, all)];
  }

  value(): Tensor {
    const [first, second] = this.transform;
    if (first === undefined || second === undefined) return this.embedding;
    return second.forward(tanh(first.forward(this.embedding)));
  }

  override lead(): Lead {
    const all = reshape(this.value(), [this.count, 2 * this.layers, this.heads, this.headDim]);
    const at = (i: number): Tensor => slice(all, null, i);
    return {
      keyValues: Array.from({ length: this.layers }, (_, i) => ({ keys: at(2 * i), values: at(2 * i + 1) })),
    };
  }
}

/** The language model with learnt keys and values before every text, which alone are trained. Rows have one text each. */
export function prefixTuning<M extends Module>(model: M, options: PrefixTuningOptions = {}): M {
  refuseUnknownOptions("prefixTuning", options, ["virtualTokens", "projection", "hidden", "name"]);
  const { virtualTokens = 20, projection = false, name = "default" } = options;
  checkCount("prefixTuning", virtualTokens);
  return prompted("prefixTuning", model, name, (base) => {
    const { hidden = base.config.keyValueHeads * base.config.headDim } = options;
    if (!(Number.isInteger(hidden) && hidden > 0))
      throw new ArgumentError(`prefixTuning: hidden is ${hidden}`, "give a positive integer");
    return new Prefix(virtualTokens, base, projection ? hidden : null);
  });
}
