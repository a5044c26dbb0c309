import { DataError } from "../errors.js";

export interface NgramOptions {
  vocabSize: number;
  /** Added to every count (Lidstone smoothing), so that no token is impossible. Default 0.03. */
  smoothing?: number;
}

/**
 * Cross-entropy in nats a token of `evaluated` under a unigram model counted on `train`:
 * P(b) = (c(b) + k) / (N + k V). The first token is left out, so that unigram and bigram are measured on the same tokens.
 * What a language model must beat: it knows the frequencies of tokens and nothing else.
 */
export function unigramCrossEntropy(
  train: ArrayLike<number>,
  evaluated: ArrayLike<number>,
  options: NgramOptions,
): number {
  const { vocabSize, smoothing } = check(train, evaluated, options);
  const counts = new Float64Array(vocabSize);
  for (let i = 0; i < train.length; i++) counts[train[i]!]!++;
  const logTotal = Math.log(train.length + smoothing * vocabSize);
  let sum = 0;
  for (let i = 1; i < evaluated.length; i++) sum += logTotal - Math.log(counts[evaluated[i]!]! + smoothing);
  return sum / (evaluated.length - 1);
}

/**
 * The same under a bigram model: P(b | a) = (c(a b) + k) / (c(a) + k V), where c(a) counts `a` with a successor. Knows
 * one token of context. `smoothing` matters more here; the default is about the best
 * for books and vocabularies of a few thousand tokens.
 */
export function bigramCrossEntropy(
  train: ArrayLike<number>,
  evaluated: ArrayLike<number>,
  options: NgramOptions,
): number {
  const { vocabSize, smoothing } = check(train, evaluated, options);
  const counts = new Float64Array(vocabSize);
  const pairs = new Map<number, number>();
  for (let i = 0; i + 1 < train.length; i++) {
    counts[train[i]!]!++;
    const key = train[i]! * vocabSize + train[i + 1]!;
    pairs.set(key, (pairs.get(key) ?? 0) + 1);
  }
  let sum = 0;
  for (let i = 1; i < evaluated.length; i++) {
    const before = evaluated[i - 1]!;
    const count = pairs.get(before * vocabSize + evaluated[i]!) ?? 0;
    sum += Math.log(counts[before]! + smoothing * vocabSize) - Math.log(count + smoothing);
  }
  return sum / (evaluated.length - 1);
}

function check(train: ArrayLike<number>, evaluated: ArrayLike<number>, options: NgramOptions) {
  const { vocabSize, smoothing = 0.03 } = options;
  if (train.length < 2 || evaluated.length < 2) {
    throw new DataError(
      `n-gram models need at least 2 tokens on each side; got ${train.length} to count and ${evaluated.length} to evaluate.`,
    );
  }
  if (!(smoothing > 0)) throw new DataError(`smoothing must be positive; it is ${smoothing}.`);
  for (const tokens of [train, evaluated]) {
    for (let i = 0; i < tokens.length; i++) {
      if (!(tokens[i]! >= 0 && tokens[i]! < vocabSize)) {
        throw new DataError(
          `Token id ${tokens[i]} at ${i} is outside the vocabulary of ${vocabSize} tokens.`,
        );
      }
    }
  }
  return { vocabSize, smoothing };
}
