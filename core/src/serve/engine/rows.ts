/** Options of texts as the arrays that a step reads. */
import { tensor } from "../../array/creation.js";
import { keyWords } from "../../array/random.js";
import type { Tensor } from "../../array/tensor.js";
import type { RowSampling } from "./draw.js";
import type { Text } from "./text.js";

/** What of a text says how its next token is drawn. */
export type Row = Pick<Text, "request" | "ids" | "drawn" | "seed" | "stopIds">;

/** A text that asks for nothing special, to compile programs by: its token is drawn, among all or among few. */
export function plainRow(filtered: boolean): Row {
  const sampling = filtered ? { topK: 1 } : {};
  return { request: { prompt: [0], sampling }, ids: [0], drawn: 0, seed: 0, stopIds: new Set() };
}

/** The options of texts as arrays; what none of them asks for is absent. */
export function rowSampling(
  texts: readonly Row[],
  batch: number,
  vocabSize: number,
  masks: Int32Array | undefined,
): RowSampling {
  const options = texts.map(({ request }) => request.sampling ?? {});
  const column = (value: (i: number) => number, rest: number): Tensor =>
    tensor(
      Float32Array.from({ length: batch }, (_, i) => (i < texts.length ? value(i) : rest)),
      {
        shape: [batch, 1],
      },
    );
  const some = (asks: (o: (typeof options)[number]) => boolean): boolean => options.some(asks);
  // All filters or none, all changes of logits or none: few programs are compiled.
  const filtered = some((o) => o.topK !== undefined || (o.topP ?? 1) < 1 || (o.minP ?? 0) > 0);
  const draws = some((o) => (o.temperature ?? 1) !== 0) && {
    temperature: column((i) => options[i]!.temperature ?? 1, 0),
    ...(filtered && {
      topK: ints(
        Int32Array.from({ length: batch }, (_, i) => Math.min(options[i]?.topK ?? vocabSize, vocabSize)),
        [batch, 1],
      ),
      // Above 1 whatever rounding makes of the sums: all are left.
      topP: column((i) => ((options[i]!.topP ?? 1) < 1 ? options[i]!.topP! : 2), 2),
      minP: column((i) => options[i]!.minP ?? 0, 0),
    }),
    keys: keysOf(texts, batch),
    steps: ints(Int32Array.from({ length: batch }, (_, i) => texts[i]?.drawn ?? 0)),
  };
  const added = texts.flatMap((text, row) => {
    const { sampling, minTokens = 0 } = text.request;
    const own = Object.entries(sampling?.logitBias ?? {}).map(([id, value]) => [Number(id), value] as const);
    // Not yet: no token that ends the text.
    const ends =
      text.drawn < minTokens ? [...text.stopIds].map((id) => [id, Number.NEGATIVE_INFINITY] as const) : [];
    return [...own, ...ends].map(([id, value]) => [row * vocabSize + id, value] as const);
  });
  const changed =
    added.length > 0 ||
    some(
      (o) =>
        (o.repetitionPenalty ?? 1) !== 1 || (o.presencePenalty ?? 0) !== 0 || (o.frequencyPenalty ?? 0) !== 0,
    );
  return {
    ...(draws && { draws }),
    ...(changed && { changes: changesOf(texts, batch, vocabSize, column, added) }),
    ...(masks !== undefined && { mask: filled(masks, batch, vocabSize) }),
  };
}

/** What is done to logits before one is drawn, as places of [batch, vocabSize]. */
function changesOf(
  texts: readonly Row[],
  batch: number,
  vocabSize: number,
  column: (value: (i: number) => number, rest: number) => Tensor,
  added: readonly (readonly [place: number, value: number])[],
): RowSampling["changes"] {
  const option = (i: number) => texts[i]!.request.sampling ?? {};
  const places = texts.map(({ ids }, row) => ids.map((id) => row * vocabSize + id));
  const drawn = places.flatMap((each, row) => each.slice(texts[row]!.request.prompt.length));
  const size = power(Math.max(64, places.flat().length, added.length));
  const filled = (values: readonly number[]): Tensor => {
    const all = new Int32Array(size).fill(batch * vocabSize);
    all.set(values);
    return ints(all);
  };
  const amounts = new Float32Array(size);
  amounts.set(added.map(([, value]) => value));
  return {
    repetition: column((i) => option(i).repetitionPenalty ?? 1, 1),
    presence: column((i) => option(i).presencePenalty ?? 0, 0),
    frequency: column((i) => option(i).frequencyPenalty ?? 0, 0),
    text: filled(places.flat()),
    drawn: filled(drawn),
    biased: filled(added.map(([place]) => place)),
    bias: tensor(amounts),
  };
}

function keysOf(texts: readonly Row[], batch: number): Tensor {
  const words = new Uint32Array(2 * batch);
  for (const [i, { seed }] of texts.entries()) words.set(keyWords(seed), 2 * i);
  return tensor(words, { shape: [batch, 2], dtype: "uint32" });
}

/** Words of the masks of texts that draw now; undefined where none has a grammar. A text whose grammar fails fails alone. */
export async function grammarMasks(
  texts: readonly Text[],
  time: number,
  vocabSize: number,
): Promise<Int32Array | undefined> {
  if (texts.every(({ request }) => request.grammar === undefined)) return undefined;
  const words = Math.ceil(vocabSize / 32);
  const masks = new Int32Array(texts.length * words).fill(-1);
  const fill = async (text: Text, row: number): Promise<void> => {
    const { request, computed, ids } = text;
    if (request.grammar === undefined || computed + time < ids.length) return;
    try {
      await request.grammar.fill(masks.subarray(row * words, (row + 1) * words));
    } catch (error) {
      text.fail(error);
    }
  };
  await Promise.all(texts.map(fill));
  return masks;
}

function filled(masks: Int32Array, batch: number, vocabSize: number): Tensor {
  const words = Math.ceil(vocabSize / 32);
  const all = new Int32Array(batch * words).fill(-1);
  all.set(masks);
  return ints(all, [batch, words]);
}

/** The next power of two. */
export function power(n: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, n)));
}

/** int32 of these values. */
export function ints(values: Int32Array, shape: readonly number[] = [values.length]): Tensor {
  return tensor(values, { shape });
}
