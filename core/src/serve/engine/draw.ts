/** Choosing the next token of each row of a batch by options of the row's own. */
import { broadcastTo, ones, zeros } from "../../array/broadcast.js";
import { iota } from "../../array/creation.js";
import {
  add,
  and,
  cast,
  div,
  equal,
  greater,
  less,
  mul,
  notEqual,
  shiftRightLogical,
  sub,
  where,
} from "../../array/elementwise.js";
import { scatter, slice } from "../../array/indexing.js";
import { categorical, foldIn } from "../../array/random.js";
import { argmax } from "../../array/reductions.js";
import { expandDims, reshape } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { filteredLogits, type StepProbabilities, stepProbabilities } from "../../models/llm/sampling.js";
import { vmap } from "../../transform/vmap.js";

/**
 * Options of a batch's rows. What is absent is off for all of them, and another program; what is there says by its value where it is off, so that
 * no row's tokens depend on the rows beside it.
 */
export interface RowSampling {
  /** Float32 [batch, 1] each, and a key uint32 [batch, 2] and step int32 [batch]: together they say what is drawn. Absent where all are greedy. */
  readonly draws?: {
    /** 0 takes the likeliest token. */
    readonly temperature: Tensor;
    /** int32. */
    readonly topK?: Tensor;
    readonly topP?: Tensor;
    readonly minP?: Tensor;
    readonly keys: Tensor;
    readonly steps: Tensor;
  };
  /** Float32 [batch, 1] each; places `row * vocabSize + id`, int32 [n] each, those of no row at or beyond batch * vocabSize. */
  readonly changes?: {
    readonly repetition: Tensor;
    readonly presence: Tensor;
    readonly frequency: Tensor;
    /** Of all tokens of the text. */
    readonly text: Tensor;
    /** Of the tokens that were drawn, each as often as it was. */
    readonly drawn: Tensor;
    /** Where `bias`, float32 [n], is added. */
    readonly biased: Tensor;
    readonly bias: Tensor;
  };
  /** int32 [batch, ceil(vocabSize / 32)]: bit `id % 32` of word `id >> 5` for each token that may be drawn. */
  readonly mask?: Tensor;
}

export interface Drawn {
  /** int32 [batch]. */
  readonly tokens: Tensor;
  readonly probabilities?: StepProbabilities;
}

/**
 * @param logits - [batch, vocabSize]
 * @param vocabulary - ids below it may be drawn
 * @param alternatives - likeliest tokens to give with log-probabilities; undefined for none
 */
export function drawRows(
  logits: Tensor,
  sampling: RowSampling,
  vocabulary: number,
  alternatives: number | undefined,
): Drawn {
  const raw = cast(logits, "float32");
  const { draws, changes, mask } = sampling;
  let x = raw;
  if (changes !== undefined) {
    const { repetition, presence, frequency, text, drawn, biased, bias } = changes;
    const seen = greater(counts(x, text), 0);
    const times = counts(x, drawn);
    x = where(seen, where(greater(x, 0), div(x, repetition), mul(x, repetition)), x);
    x = sub(x, mul(frequency, times));
    x = sub(x, mul(presence, cast(greater(times, 0), "float32")));
    x = add(x, spread(x, biased, bias));
  }
  if (vocabulary < x.shape[1]!) x = where(less(iota(x.shape, 1), vocabulary), x, Number.NEGATIVE_INFINITY);
  if (mask !== undefined) x = where(allowed(mask, x.shape[1]!), x, Number.NEGATIVE_INFINITY);
  const greedy = cast(argmax(x, -1), "int32");
  let tokens = greedy;
  if (draws !== undefined) {
    const { keys, steps, ...filters } = draws;
    const each = (key: Tensor, step: Tensor, row: Tensor): Tensor => categorical(foldIn(key, step), row);
    const drawn = cast(vmap(each)(keys, steps, filteredLogits(x, filters)), "int32");
    tokens = where(equal(slice(draws.temperature, null, 0), 0), greedy, drawn);
  }
  if (alternatives === undefined) return { tokens };
  const own = draws && where(equal(draws.temperature, 0), 1, draws.temperature);
  return { tokens, probabilities: stepProbabilities(raw, tokens, { temperature: own }, alternatives) };
}

/** How often each place of [batch, vocabSize] is named. */
function counts(x: Tensor, places: Tensor): Tensor {
  return spread(x, places, ones(places.shape));
}

/** Zeros of the shape of `x` with values added at places. */
function spread(x: Tensor, places: Tensor, values: Tensor): Tensor {
  const flat = scatter(zeros([x.size]), expandDims(places, 1), values, {
    kind: "add",
    updateWindowDims: [],
    insertedWindowDims: [0],
    inputBatchingDims: [],
    scatterIndicesBatchingDims: [],
    scatterDimsToOperandDims: [0],
  });
  return reshape(flat, x.shape);
}

/** bool [batch, vocabSize] of a mask's bits. */
function allowed(mask: Tensor, vocabSize: number): Tensor {
  const [batch, words] = mask.shape as [number, number];
  const shape = [batch, words, 32];
  const bits = and(shiftRightLogical(broadcastTo(expandDims(mask, 2), shape), iota(shape, 2)), 1);
  return slice(reshape(notEqual(bits, 0), [batch, words * 32]), null, [0, vocabSize]);
}
