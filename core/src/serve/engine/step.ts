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
import { PagedCache, type Pages, type PageTable } from "../../nn/paged-cache.js";
import { withRows } from "../../peft/rows.js";
import { jit } from "../../transform/jit.js";
import { type Drawn, drawRows, type RowSampling } from "./draw.js";

export interface StepInput extends PageTable {
  /** int32 [batch, time]. */
  readonly tokens: Tensor;
  /** int32 [batch]: the place of each row's last token, after which one is drawn. */
  readonly last: Tensor;
  readonly sampling: RowSampling;
  /** int32 [batch], where the model has adapters: 0 for none. */
  readonly adapters?: Tensor;
  /** Of a prompt: the token after each, int32 [batch, time], whose log-probabilities are wanted. */
  readonly following?: Tensor;
}

/** What a step's program is made for beside shapes. */
export interface StepKind {
  readonly vocabulary: number;
  readonly alternatives?: number;
  readonly promptAlternatives?: number;
}

export interface StepResult extends Drawn {
  readonly pages: Pages;
  /** Of `following`, [batch, time] and [batch, time, k]. */
  readonly prompt?: StepProbabilities;
}

export const step = jit(
  (pages: Pages, model: LanguageModel & Module, input: StepInput, kind: StepKind): StepResult => {
    const { position, places, tokens, last, sampling, adapters, following } = input;
    const cache = new PagedCache(pages, { position, places, pages: input.pages });
    const own = adapters === undefined ? model : withRows(model, adapters);
    const hidden = own.hidden(tokens, { cache });
    const at = broadcastTo(expandDims(last, [1, 2]), [hidden.shape[0]!, 1, hidden.shape[2]!]);
    const logits = slice(own.logits(takeAlongAxis(hidden, at, 1)), null, 0);
    return {
      pages: { keys: cache.keys, values: cache.values },
      ...drawRows(logits, sampling, kind.vocabulary, kind.alternatives),
      ...(following !== undefined && {
        prompt: probabilitiesOf(own.logits(hidden), following, kind.promptAlternatives ?? 0),
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
