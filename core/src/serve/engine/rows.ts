/** Options of texts as the arrays that a step reads. */
import { tensor } from "../../array/creation.js";
import type { Tensor } from "../../array/tensor.js";
import type { RowSampling } from "./draw.js";
import type { Text } from "./text.js";

/** The options of texts as arrays; what none of them asks for is absent. */
export function rowSampling(
  texts: readonly Text[],
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
  const draws = some((o) => (o.temperature ?? 1) !== 0) && {
    temperature: column((i) => options[i]!.temperature ?? 1, 0),
    ...(some((o) => o.topK !== undefined) && {
      topK: ints(
        Int32Array.from({ length: batch }, (_, i) => Math.min(options[i]?.topK ?? vocabSize, vocabSize)),
        [batch, 1],
      ),
    }),
    // Above 1 whatever rounding makes of the sums: all are left.
    ...(some((o) => (o.topP ?? 1) < 1) && {
      topP: column((i) => ((options[i]!.topP ?? 1) < 1 ? options[i]!.topP! : 2), 2),
    }),
    ...(some((o) => (o.minP ?? 0) > 0) && { minP: column((i) => options[i]!.minP ?? 0, 0) }),
    keys: keysOf(texts, batch),
    steps: ints(Int32Array.from({ length: batch }, (_, i) => texts[i]?.drawn ?? 0)),
  };
  const punishes = some(
    (o) =>
      (o.repetitionPenalty ?? 1) !== 1 || (o.presencePenalty ?? 0) !== 0 || (o.frequencyPenalty ?? 0) !== 0,
  );
  const nowhere = batch * vocabSize;
  const placesOf = (of: (text: Text) => readonly number[]): Tensor => {
    const places = texts.flatMap((text, row) => of(text).map((id) => row * vocabSize + id));
    const padded = new Int32Array(power(Math.max(64, places.length))).fill(nowhere);
    padded.set(places);
    return ints(padded);
  };
  const penalties = punishes && {
    repetition: column((i) => options[i]!.repetitionPenalty ?? 1, 1),
    presence: column((i) => options[i]!.presencePenalty ?? 0, 0),
    frequency: column((i) => options[i]!.frequencyPenalty ?? 0, 0),
    text: placesOf(({ ids }) => ids),
    drawn: placesOf(({ ids, request }) => ids.slice(request.prompt.length)),
  };
  const added = texts.flatMap((text, row) => {
    const { sampling, minTokens = 0 } = text.request;
    const own = Object.entries(sampling?.logitBias ?? {}).map(([id, value]) => [Number(id), value] as const);
    // Not yet: no token that ends the text.
    const ends =
      text.drawn < minTokens ? [...text.stopIds].map((id) => [id, Number.NEGATIVE_INFINITY] as const) : [];
    return [...own, ...ends].map(([id, value]) => [row * vocabSize + id, value] as const);
  });
  const bias = added.length > 0 && biasOf(added, nowhere);
  return {
    ...(draws && { draws }),
    ...(penalties && { penalties }),
    ...(bias && { bias }),
    ...(masks !== undefined && { mask: filled(masks, batch, vocabSize) }),
  };
}

function biasOf(
  added: readonly (readonly [place: number, value: number])[],
  nowhere: number,
): RowSampling["bias"] {
  const size = power(Math.max(16, added.length));
  const places = new Int32Array(size).fill(nowhere);
  const values = new Float32Array(size);
  places.set(added.map(([place]) => place));
  values.set(added.map(([, value]) => value));
  return { places: ints(places), values: tensor(values) };
}

function keysOf(texts: readonly Text[], batch: number): Tensor {
  const words = new Uint32Array(2 * batch);
  for (const [i, { seed }] of texts.entries()) {
    // As random.key(seed).
    const wide = BigInt.asUintN(64, BigInt(seed));
    words[2 * i] = seed < 0 ? 0 : Number(wide >> 32n);
    words[2 * i + 1] = Number(wide & 0xffffffffn);
  }
  return tensor(words, { shape: [batch, 2], dtype: "uint32" });
}

/** Words of the masks of texts that draw now; undefined where none has a grammar. */
export async function grammarMasks(
  texts: readonly Text[],
  time: number,
  vocabSize: number,
): Promise<Int32Array | undefined> {
  if (texts.every(({ request }) => request.grammar === undefined)) return undefined;
  const words = Math.ceil(vocabSize / 32);
  const masks = new Int32Array(texts.length * words).fill(-1);
  for (const [row, { request, computed, ids }] of texts.entries()) {
    if (request.grammar === undefined || computed + time < ids.length) continue;
    await request.grammar.fill(masks.subarray(row * words, (row + 1) * words));
  }
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
