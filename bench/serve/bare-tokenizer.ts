import type { text } from "aronnax";

/** Ids without text: what is measured is what computes them. */
export function bareTokenizer(vocabSize: number): text.Tokenizer {
  const stream = { push: () => "", end: () => "", after: () => stream };
  return { vocabSize, eosId: undefined, stream: () => stream } as unknown as text.Tokenizer;
}
