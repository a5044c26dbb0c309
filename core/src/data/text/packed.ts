import { createHash } from "node:crypto";
import { refuseUnknown } from "../../graph/spelling.js";
import {
  type Batch,
  batchOf,
  batchOfPieces,
  type DataPosition,
  type PrepareOptions,
  type SourceProgress,
  type TokenSource,
} from "../batch.js";
import { DataError } from "../errors.js";
import { iterate } from "../iterate.js";
import { type Bins, bestFit } from "./best-fit.js";
import { type Corpus, type TokenArray, tokenize } from "./corpus.js";
import {
  gather,
  gatherEnds,
  Sampler,
  sequence,
  sequenceCount,
  splitCorpus,
  type TokenRange,
} from "./sequences.js";
import type { TextInput } from "./text-input.js";
import type { SpecialTokenPolicy, Tokenizer } from "./tokenizer.js";

/** A part of a mixture. Weights are relative: the shares of the sequences that come from each part. */
export interface MixturePart {
  source: TextInput;
  weight: number;
}

export interface PackedOptions {
  tokenizer: Tokenizer;
  /** Tokens a sequence that the model sees. */
  sequenceLength: number;
  /** Sequences a batch. */
  batchSize: number;
  /** The fraction of the tokens kept for validation (see `splitCorpus`), or a source of its own. Default 0. */
  validation?: number | TextInput;
  /** Decides the order of the sequences and the split. Default 0. */
  seed?: number;
  /** Default true. */
  shuffle?: boolean;
  /**
   * For one of several data-parallel ranks: `batchSize` is then each rank's, and rank `rank` of `count` gets its rows of the common
   * batch. A position is the same on all of them, and holds for another number of ranks as well.
   */
  shard?: Shard;
  /**
   * `"concatenate"` (default) cuts the stream of all documents every `sequenceLength` tokens. `"best-fit"` keeps documents whole where they
   * fit (see `bestFit`), fills up what is left with weight 0, and implies `segments`.
   */
  packing?: "concatenate" | "best-fit";
  /** Gives `segments`, `positions` and `weights` with each batch. Default false. */
  segments?: boolean;
  /** Follows each document. Default: the tokenizer's own. */
  eosId?: number;
  /** Whether special tokens written in a document count as such. Default `"text"`. */
  special?: SpecialTokenPolicy;
  /** Keeps the tokens on disk; see `TokenizeOptions.cache`. */
  cache?: boolean | string;
}

export interface Shard {
  rank: number;
  count: number;
}

/**
 * Documents packed into sequences of fixed length for pretraining: all tokens one after another, an end-of-document
 * token after each document, cut every `sequenceLength` tokens. Nothing is read until `prepare` or the first batch.
 */
export function packed(source: TextInput | readonly MixturePart[], options: PackedOptions): PackedText {
  return new PackedText(mixtureParts(source), options);
}

export function mixtureParts(source: TextInput | readonly MixturePart[]): readonly MixturePart[] {
  const [first] = Array.isArray(source) ? source : [];
  const mixture = typeof first === "object" && first !== null && "source" in first;
  return mixture ? (source as readonly MixturePart[]) : [{ source: source as TextInput, weight: 1 }];
}

/** Tokens, and the sequences that they are cut into. */
interface Sequences {
  tokens: TokenArray;
  count: number;
  /** With packing by best fit. */
  bins?: Bins;
}

interface Prepared {
  /** The names of the parts, and the training split of each. */
  names: string[];
  parts: Sequences[];
  sampler: Sampler;
  validation: Sequences;
  eosId: number;
  /** Names the data and all that decides their order. */
  fingerprint: string;
}

export class PackedText implements TokenSource {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly vocabSize: number;
  private readonly seed: number;
  private preparing: Promise<Prepared> | undefined;
  private prepared: Prepared | undefined;

  constructor(
    private readonly parts: readonly MixturePart[],
    private readonly options: PackedOptions,
  ) {
    checkPackedOptions(
      "packed",
      options,
      [...sharedOptions, "packing", "cache"],
      ["sequenceLength", "batchSize"],
    );
    checkShard(options.shard);
    checkWeights(parts);
    const { packing } = options;
    if (packing !== undefined && packing !== "concatenate" && packing !== "best-fit") {
      throw new DataError(`packing must be "concatenate" or "best-fit"; it is ${JSON.stringify(packing)}.`);
    }
    this.batchSize = options.batchSize;
    this.sequenceLength = options.sequenceLength;
    this.vocabSize = options.tokenizer.vocabSize;
    this.seed = options.seed ?? 0;
  }

  async prepare(options: PrepareOptions = {}): Promise<void> {
    this.preparing ??= this.load(options);
    try {
      this.prepared = await this.preparing;
    } catch (error) {
      // An interrupted preparation can be asked for again.
      this.preparing = undefined;
      throw error;
    }
  }

  async next(): Promise<Batch> {
    const { parts, sampler } = await this.ready();
    const rows: Row[] = [];
    const { rank, count } = this.options.shard ?? { rank: 0, count: 1 };
    for (let i = 0; i < this.batchSize * count; i++) {
      const { component, index } = sampler.next();
      if (Math.floor(i / this.batchSize) === rank) rows.push({ of: parts[component]!, index });
    }
    return this.batch(rows);
  }

  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncIterable<Batch> {
    const { validation } = await this.ready();
    const batches = Math.ceil(validation.count / this.batchSize);
    for (let b = 0; b < Math.min(batches, maxBatches); b++) {
      const first = b * this.batchSize;
      // The last batch may be smaller: the loss must not depend on batchSize.
      const length = Math.min(this.batchSize, validation.count - first);
      yield this.batch(Array.from({ length }, (_, i) => ({ of: validation, index: first + i })));
    }
  }

  position(): DataPosition {
    const prepared = this.prepared;
    if (prepared === undefined) {
      throw new DataError("The data have no position before they are prepared.", "Await `prepare()` first.");
    }
    const { sampler, fingerprint } = prepared;
    const { samples, taken } = sampler.blend;
    return { version: 1, kind: "packed", samples, taken: [...taken], fingerprint };
  }

  progress(): SourceProgress[] {
    if (this.prepared === undefined) return [];
    const { names, parts, sampler } = this.prepared;
    return names.map((name, i) => {
      const sequences = sampler.blend.taken[i]!;
      const { weight } = this.parts[i]!;
      return { name, weight, sequences, epochs: sequences / parts[i]!.count };
    });
  }

  async restore(position: DataPosition): Promise<void> {
    const { sampler, fingerprint } = await this.ready();
    const taken = position.taken;
    if (position.kind !== "packed" || position.version !== 1 || !Array.isArray(taken)) {
      throw new DataError(`A position of kind "${position.kind}" does not belong to packed text.`);
    }
    if (position.fingerprint !== fingerprint) {
      throw new DataError(
        `The position belongs to other data (${position.fingerprint}; these are ${fingerprint}): the text, the tokenizer, ` +
          "sequenceLength, seed, shuffle, packing or validation differ.",
        "Use the same ones to continue a run, or start a new run from the checkpoint's weights.",
      );
    }
    sampler.blend.restore(taken as number[]);
  }

  [Symbol.asyncIterator](): AsyncGenerator<Batch, void> {
    return iterate(this);
  }

  /** The tokens of the training split, part after part. */
  async trainTokens(): Promise<TokenArray> {
    return concatenate((await this.ready()).parts.map(({ tokens }) => tokens));
  }

  /** The tokens of the validation split. */
  async validationTokens(): Promise<TokenArray> {
    return (await this.ready()).validation.tokens;
  }

  private async ready(): Promise<Prepared> {
    if (this.prepared === undefined) await this.prepare();
    return this.prepared!;
  }

  private async load(options: PrepareOptions): Promise<Prepared> {
    const { tokenizer, eosId, special, cache, validation = 0, shuffle = true } = this.options;
    const read = (input: TextInput): Promise<Corpus> =>
      tokenize(input, { tokenizer, eosId, special, cache, ...options });
    const parts: Sequences[] = [];
    const names: string[] = [];
    const held: { corpus: Corpus; ranges: TokenRange[] }[] = [];
    for (const { source } of this.parts) {
      const corpus = await read(source);
      const split = splitCorpus(corpus, typeof validation === "number" ? validation : 0, this.seed);
      const part = this.sequences([{ corpus, ranges: split.train }]);
      this.check(corpus.name, "training", part);
      parts.push(part);
      names.push(corpus.name);
      held.push({ corpus, ranges: split.validation });
    }
    if (typeof validation !== "number") {
      const corpus = await read(validation);
      held.push({ corpus, ranges: [{ start: 0, end: corpus.tokens.length }] });
    }
    const heldOut = this.sequences(held);
    if (validation !== 0) this.check("the data", "validation", heldOut);

    const hash = createHash("sha256");
    for (const { tokens } of [...parts, heldOut]) {
      hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
    }
    const weights = this.parts.map((part) => part.weight);
    const { packing = "concatenate" } = this.options;
    const order = [this.sequenceLength, this.seed, shuffle, weights];
    hash.update(JSON.stringify(packing === "concatenate" ? order : [...order, packing]));
    const lengths = parts.map(({ count }) => count);
    return {
      names,
      parts,
      sampler: new Sampler(lengths, weights, this.seed, shuffle),
      validation: heldOut,
      eosId: (eosId ?? tokenizer.eosId)!,
      fingerprint: hash.digest("hex").slice(0, 16),
    };
  }

  /** The sequences of parts of corpora, one after another. */
  private sequences(of: readonly { corpus: Corpus; ranges: readonly TokenRange[] }[]): Sequences {
    const tokens = concatenate(of.map(({ corpus, ranges }) => gather(corpus, ranges)));
    if (this.options.packing !== "best-fit") {
      return { tokens, count: sequenceCount(tokens, this.sequenceLength) };
    }
    let before = 0;
    const ends = of.flatMap(({ corpus, ranges }) => {
      const shifted = gatherEnds(corpus, ranges).map((end) => before + end);
      before = shifted.at(-1) ?? before;
      return shifted;
    });
    const bins = bestFit(ends, this.sequenceLength);
    return { tokens, count: bins.count, bins };
  }

  private check(name: string, split: "training" | "validation", { tokens, count }: Sequences): void {
    if (count > 0) return;
    throw new DataError(
      `The ${split} split of ${name} has ${tokens.length} tokens: 0 sequences of ${this.sequenceLength}, and 1 is needed.`,
      split === "training"
        ? "Use more text or a smaller sequenceLength."
        : "Use a larger validation fraction or a smaller sequenceLength.",
    );
  }

  private batch(rows: readonly Row[]): Batch {
    const { eosId } = this.prepared!;
    const length = this.sequenceLength;
    if (this.options.packing === "best-fit") {
      const pieces = rows.map(({ of, index }) =>
        of.bins!.pieces(index).map(({ start, end }) => of.tokens.subarray(start, end)),
      );
      return batchOfPieces(pieces, length, this.position());
    }
    const tokens = rows.map(({ of, index }) => sequence(of.tokens, index, length));
    return batchOf(tokens, this.position(), this.options.segments ? eosId : undefined);
  }
}

/** A sequence of a batch. */
interface Row {
  of: Sequences;
  index: number;
}

/** Options that `packed` and `streamed` both have. */
export const sharedOptions = [
  "tokenizer",
  "sequenceLength",
  "batchSize",
  "validation",
  "seed",
  "shuffle",
  "shard",
  "segments",
  "eosId",
  "special",
] as const;

/** Checks names, positive integers (`counts`) and what both functions share. */
export function checkPackedOptions(
  where: string,
  options: Omit<PackedOptions, "validation">,
  known: readonly string[],
  counts: readonly string[],
): void {
  const given = options as unknown as Readonly<Record<string, unknown>> | undefined;
  if (typeof given?.tokenizer !== "object" || given.tokenizer === null)
    throw new DataError(`${where}: there is no tokenizer.`, "Pass tokenizer, sequenceLength and batchSize.");
  refuseUnknown(`${where}: there is no option`, Object.keys(given), known);
  const refuse = (field: string, what: string): never => {
    throw new DataError(`${field} must be ${what}; it is ${JSON.stringify(given[field])}.`);
  };
  for (const field of counts) {
    const value = given[field];
    if (!Number.isInteger(value) || (value as number) < 1) refuse(field, "a positive integer");
  }
  if (given.seed !== undefined && !Number.isSafeInteger(given.seed)) refuse("seed", "an integer");
  for (const field of ["shuffle", "segments"])
    if (given[field] !== undefined && typeof given[field] !== "boolean") refuse(field, "true or false");
  if (![undefined, "parse", "text"].includes(given.special as string)) refuse("special", '"parse" or "text"');
}

export function checkWeights(parts: readonly MixturePart[]): void {
  for (const [i, { weight }] of parts.entries()) {
    if (!(weight > 0 && Number.isFinite(weight))) {
      throw new DataError(`The weight of part ${i} of the mixture must be positive; it is ${weight}.`);
    }
  }
}

export function checkShard(shard: Shard | undefined): void {
  if (shard === undefined) return;
  const { rank, count } = shard;
  if (!Number.isInteger(rank) || !Number.isInteger(count) || rank < 0 || rank >= count) {
    throw new DataError(`shard must be a rank below a count; it is ${rank} of ${count}.`);
  }
}

function concatenate(streams: readonly TokenArray[]): TokenArray {
  const only = streams[0];
  if (streams.length === 1 && only !== undefined) return only;
  const out = new Int32Array(streams.reduce((sum, stream) => sum + stream.length, 0));
  let at = 0;
  for (const stream of streams) {
    out.set(stream, at);
    at += stream.length;
  }
  return out;
}
