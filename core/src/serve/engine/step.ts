/** The compiled part of the engine: some tokens of some texts are read into the pages, and the next token of each text is drawn. */

import { broadcastTo } from "../../array/broadcast.js";
import { cast } from "../../array/elementwise.js";
import { slice, takeAlongAxis } from "../../array/indexing.js";
import { logSoftmax } from "../../array/reductions.js";
import { expandDims } from "../../array/shaping.js";
import { topK } from "../../array/sorting.js";
import type { Tensor } from "../../array/tensor.js";
import type { LanguageModel } from "../../models/llm/model.js";
import type { StepProbabilities } from "../../models/llm/sampling.js";
import type { Module } from "../../nn/module.js";
import { PagedCache, type Pages } from "../../nn/paged-cache.js";
import { withRows } from "../../peft/rows.js";
import { jit } from "../../transform/jit.js";
import { type Drawn, drawRows, type RowSampling } from "./draw.js";

export interface StepInput {
  /**
   * int32 [batch, 3 + 3 * time + pages]: tokens that each row holds already, the place of its last token, after which one is drawn, the number of
   * its adapter or 0; its tokens, their places in the pages, the tokens after each; its pages. One array, because each costs a message.
   */
  readonly packed: Tensor;
  readonly sampling: RowSampling;
}

/** What a step's program is made for beside shapes. */
export interface StepKind {
  /** Tokens of each row. */
  readonly time: number;
  readonly vocabulary: number;
  readonly alternatives?: number;
  /** Likeliest tokens to give beside those of a prompt; undefined for no log-probabilities of a prompt. */
  readonly promptAlternatives?: number;
  /** The model has adapters. */
  readonly adapters: boolean;
}

/** Numbers before the tokens of a row. */
export const rowHead = 3;

export interface StepResult extends Drawn {
  readonly pages: Pages;
  /** Of the tokens after each of a prompt, [batch, time] and [batch, time, k]. */
  readonly prompt?: StepProbabilities;
}

export const step = jit(
  (pages: Pages, model: LanguageModel & Module, input: StepInput, kind: StepKind): StepResult => {
    const { packed, sampling } = input;
    const { time } = kind;
    const column = (i: number): Tensor => slice(packed, null, i);
    const block = (i: number): Tensor => slice(packed, null, [rowHead + i * time, rowHead + (i + 1) * time]);
    const [tokens, places] = [block(0), block(1)];
    const table = slice(packed, null, [rowHead + 3 * time, packed.shape[1]!]);
    const cache = new PagedCache(pages, { position: column(0), last: column(1), places, pages: table });
    const own = kind.adapters ? withRows(model, column(2)) : model;
    const hidden = own.hidden(tokens, { cache });
    const at = broadcastTo(expandDims(column(1), [1, 2]), [hidden.shape[0]!, 1, hidden.shape[2]!]);
    const logits = slice(own.logits(takeAlongAxis(hidden, at, 1)), null, 0);
    return {
      pages: { keys: cache.keys, values: cache.values },
      ...drawRows(logits, sampling, kind.vocabulary, kind.alternatives),
      ...(kind.promptAlternatives !== undefined && {
        prompt: probabilitiesOf(own.logits(hidden), block(2), kind.promptAlternatives),
      }),
    };
  },
  {
    name: "serve_step",
    donate: [0],
    tag: (path) => (path.includes("pages.") ? "cache" : undefined),
    manyTraces: true,
  },
);

function probabilitiesOf(logits: Tensor, following: Tensor, count: number): StepProbabilities {
  const all = logSoftmax(cast(logits, "float32"), -1);
  const drawn = slice(takeAlongAxis(all, expandDims(following, 2), 2), null, null, 0);
  if (count === 0) return { drawn };
  const [values, ids] = topK(all, count);
  return { drawn, likeliest: { ids: cast(ids, "int32"), values } };
}
