/** Prompt tuning (Lester et al. 2021, "The power of scale for parameter-efficient prompt tuning"): learnt states before the embeddings of every text. */
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import type { Lead } from "../models/llm/model.js";
import { normalInit } from "../nn/initializers.js";
import type { Module } from "../nn/module.js";
import type { PromptMethod } from "./adapter.js";
import { checkCount, PromptAdapter, prompted, tokenRows } from "./prompts.js";

export interface PromptTuningOptions {
  /** Positions that are learnt. Default 20; of `init` with tokens, as many as they are. */
  virtualTokens?: number;
  /**
   * How they begin: "random", normal with deviation 1, as PEFT's; or as the embeddings of tokens, such as `tokenizer.encode("Classify this text:")`,
   * which are repeated or cut to `virtualTokens`. Default "random".
   */
  init?: "random" | readonly number[];
  /** The adapter's name. Default "default". */
  name?: string;
}

/** Learnt states. */
export class Prompt extends PromptAdapter {
  readonly method: PromptMethod;
  /** [count, hiddenSize]. */
  embeddings: Tensor;

  constructor(count: number, features: number, method: PromptMethod = "PROMPT_TUNING", begin?: Tensor) {
    super(count);
    this.method = method;
    this.embeddings = this.parameter("embeddings", [count, features], {
      init: begin === undefined ? normalInit(1) : () => begin,
      axes: [null, "embed"],
    });
    if (begin !== undefined) this.embeddings = begin;
  }

  value(): Tensor {
    return this.embeddings;
  }

  override lead(): Lead {
    return { states: this.embeddings };
  }
}

/**
 * The language model with learnt states before every text, which alone are trained. Packed texts are refused, since each begins with them:
 * give rows with one text each.
 */
export function promptTuning<M extends Module>(model: M, options: PromptTuningOptions = {}): M {
  refuseUnknownOptions("promptTuning", options, ["virtualTokens", "init", "name"]);
  const { init = "random", name = "default" } = options;
  const tokens = Array.isArray(init) ? (init as readonly number[]) : undefined;
  if (tokens?.length === 0 || (tokens === undefined && init !== "random"))
    throw new ArgumentError(
      `promptTuning: init is ${JSON.stringify(init)}`,
      'give "random" or the ids of tokens, at least one',
    );
  const count = options.virtualTokens ?? tokens?.length ?? 20;
  checkCount("promptTuning", count);
  return prompted("promptTuning", model, name, (base) => {
    const ids = tokens && Array.from({ length: count }, (_, i) => tokens[i % tokens.length]!);
    const begin = ids && tokenRows("promptTuning", base, ids);
    return new Prompt(count, base.config.hiddenSize, "PROMPT_TUNING", begin);
  });
}
