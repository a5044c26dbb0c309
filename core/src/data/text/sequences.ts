import { Blend } from "../blend.js";
import { DataError } from "../errors.js";
import { permutation } from "../random.js";
import type { Corpus, TokenArray } from "./corpus.js";

/** A run of documents out of a corpus: a contiguous range of its tokens. */
export interface TokenRange {
  start: number;
  end: number;
}

/**
 * Cuts a corpus in two. With enough documents for it (documents x fraction >= 1), whole documents drawn with `seed` make
 * up the validation split until it has the fraction of the tokens; with fewer, it is the last tokens of the corpus.
 */
export function splitCorpus(
  corpus: Corpus,
  fraction: number,
  seed: number,
): { train: TokenRange[]; validation: TokenRange[] } {
  const { documentEnds, tokens } = corpus;
  if (!(fraction >= 0 && fraction < 1)) {
    throw new DataError(`validation must be a fraction from 0 to below 1; it is ${fraction}.`);
  }
  if (fraction === 0) return { train: [{ start: 0, end: tokens.length }], validation: [] };
  if (documentEnds.length * fraction < 1) {
    const cut = Math.max(1, Math.floor(tokens.length * (1 - fraction)));
    return { train: [{ start: 0, end: cut }], validation: [{ start: cut, end: tokens.length }] };
  }
  const chosen = new Set<number>();
  let validationTokens = 0;
  for (const document of permutation(documentEnds.length, [seed, 0x5e7])) {
    if (validationTokens >= tokens.length * fraction || chosen.size === documentEnds.length - 1) break;
    chosen.add(document);
    validationTokens += documentEnds[document]! - (document === 0 ? 0 : documentEnds[document - 1]!);
  }
  const train: TokenRange[] = [];
  const validation: TokenRange[] = [];
  for (let document = 0; document < documentEnds.length; document++) {
    const ranges = chosen.has(document) ? validation : train;
    const start = document === 0 ? 0 : documentEnds[document - 1]!;
    const end = documentEnds[document]!;
    const last = ranges[ranges.length - 1];
    if (last !== undefined && last.end === start) last.end = end;
    else ranges.push({ start, end });
  }
  return { train, validation };
}

/** The tokens of the ranges, one after another. */
export function gather(corpus: Corpus, ranges: readonly TokenRange[]): TokenArray {
  const only = ranges[0];
  if (ranges.length === 1 && only !== undefined) return corpus.tokens.subarray(only.start, only.end);
  const length = ranges.reduce((sum, range) => sum + range.end - range.start, 0);
  const out = corpus.tokens instanceof Uint16Array ? new Uint16Array(length) : new Int32Array(length);
  let at = 0;
  for (const { start, end } of ranges) {
    out.set(corpus.tokens.subarray(start, end), at);
    at += end - start;
  }
  return out;
}

/** Where each document, or the part of it that is in the ranges, ends in the gathered tokens. */
export function gatherEnds({ documentEnds }: Corpus, ranges: readonly TokenRange[]): number[] {
  const ends: number[] = [];
  let document = 0;
  let before = 0;
  for (const { start, end } of ranges) {
    while (documentEnds[document]! <= start) document++;
    for (; documentEnds[document]! < end; document++) ends.push(before + documentEnds[document]! - start);
    before += end - start;
    ends.push(before);
  }
  return ends;
}

/** Sequences in a token stream: number i holds tokens i*T to i*T + T inclusive, so that each token is a target once. */
export function sequenceCount(tokens: TokenArray, sequenceLength: number): number {
  return Math.max(0, Math.floor((tokens.length - 1) / sequenceLength));
}

/** The tokens of a sequence, and one more. */
export function sequence(tokens: TokenArray, index: number, sequenceLength: number): TokenArray {
  const start = index * sequenceLength;
  return tokens.subarray(start, start + sequenceLength + 1);
}

/** Which sequence comes when: each component of a blend is read epoch by epoch, each time in another random order. */
export class Sampler {
  readonly blend: Blend;
  private readonly orders: { epoch: number; order: Int32Array }[] = [];

  constructor(
    private readonly lengths: readonly number[],
    weights: readonly number[],
    private readonly seed: number,
    private readonly shuffle: boolean,
  ) {
    this.blend = new Blend(weights);
  }

  next(): { component: number; index: number } {
    const component = this.blend.next();
    const position = this.blend.taken[component]! - 1;
    const length = this.lengths[component]!;
    const within = position % length;
    const epoch = Math.floor(position / length);
    return { component, index: this.shuffle ? this.order(component, epoch)[within]! : within };
  }

  private order(component: number, epoch: number): Int32Array {
    let known = this.orders[component];
    if (known?.epoch !== epoch) {
      known = { epoch, order: permutation(this.lengths[component]!, [this.seed, component, epoch]) };
      this.orders[component] = known;
    }
    return known.order;
  }
}
