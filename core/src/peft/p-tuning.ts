/** P-tuning (Liu et al. 2021, "GPT understands, too"): states before every text that a small network makes of learnt embeddings. */
import { relu } from "../array/elementwise.js";
import { slice } from "../array/indexing.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import type { Lead } from "../models/llm/model.js";
import { Dropout } from "../nn/dropout.js";
import { fanInUniform, normalInit } from "../nn/initializers.js";
import { Linear } from "../nn/layers.js";
import type { Module } from "../nn/module.js";
import { LSTM } from "../nn/recurrent.js";
import { checkCount, PromptAdapter, prompted } from "./prompts.js";

export interface PTuningOptions {
  /** Positions that are learnt. Default 20. */
  virtualTokens?: number;
  /** "mlp": three linear layers with ReLU; "lstm": one in both directions, then two linear layers. Default "mlp". */
  encoder?: "mlp" | "lstm";
  /** Features inside of the network. Default the model's hiddenSize. */
  hidden?: number;
  /** Layers of the LSTM. Default 2. */
  layers?: number;
  /** Rate of dropout between them. Default 0. */
  dropout?: number;
  /** The adapter's name. Default "default". */
  name?: string;
}

/** Learnt embeddings and the network behind them; saved is what it makes of them. */
export class PromptEncoder extends PromptAdapter {
  readonly method = "P_TUNING";
  /** [count, hiddenSize]. */
  embedding: Tensor;
  lstm: LSTM | null;
  mlp: Linear[];
  dropout: Dropout;

  constructor(
    count: number,
    features: number,
    options: Required<Omit<PTuningOptions, "virtualTokens" | "name">>,
  ) {
    super(count);
    const { encoder, hidden, layers, dropout } = options;
    this.embedding = this.parameter("embedding", [count, features], { init: normalInit(1) });
    const recurrent = encoder === "lstm";
    this.lstm = recurrent ? new LSTM(features, hidden, { layers, bidirectional: true, dropout }) : null;
    this.dropout = new Dropout(dropout);
    const widths = recurrent ? [2 * hidden, 2 * hidden, features] : [features, hidden, hidden, features];
    this.mlp = widths
      .slice(1)
      .map((width, i) => new Linear(widths[i]!, width, { bias: true, init: fanInUniform }));
  }

  value(): Tensor {
    const key = this.dropout.key ?? undefined;
    const read =
      this.lstm === null
        ? this.embedding
        : slice(this.lstm.forward(expandDims(this.embedding, 0), { key }).output, 0);
    return this.mlp.reduce((x, layer, i) => layer.forward(i === 0 ? x : relu(x)), read);
  }

  override lead(): Lead {
    return { states: this.value() };
  }
}

/** The language model with states before every text that an encoder makes, which alone is trained. Rows have one text each. */
export function pTuning<M extends Module>(model: M, options: PTuningOptions = {}): M {
  const fields = ["virtualTokens", "encoder", "hidden", "layers", "dropout", "name"];
  refuseUnknownOptions("pTuning", options, fields);
  const { virtualTokens = 20, encoder = "mlp", layers = 2, dropout = 0, name = "default" } = options;
  checkCount("pTuning", virtualTokens);
  if (encoder !== "mlp" && encoder !== "lstm")
    throw new ArgumentError(`pTuning: the encoder is ${JSON.stringify(encoder)}`, 'give "mlp" or "lstm"');
  return prompted("pTuning", model, name, ({ config: { hiddenSize } }) => {
    const { hidden = hiddenSize } = options;
    if (!(Number.isInteger(hidden) && hidden > 0))
      throw new ArgumentError(`pTuning: hidden is ${hidden}`, "give a positive integer");
    return new PromptEncoder(virtualTokens, hiddenSize, { encoder, hidden, layers, dropout });
  });
}
