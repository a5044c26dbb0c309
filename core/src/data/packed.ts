import { createHash } from "node:crypto";
import { type Batch, type BatchSource, batchOf, type DataPosition, type PrepareOptions } from "./batch.js";
import { type Corpus, type TokenArray, tokenize } from "./corpus.js";
import { DataError } from "./errors.js";
import { gather, Sampler, sequence, sequenceCount, splitCorpus } from "./sequences.js";
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
   * For one of several hosts: `batchSize` is then each host's, and host `index` of `count` gets its rows of the common
   * batch. A position is the same on all of them, and holds for another number of hosts as well.
   */
  shard?: Shard;
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
  index: number;
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
  const mixture = typeof first === "object" && first !== null && "source" in first && "weight" in first;
  return mixture ? (source as readonly MixturePart[]) : [{ source: source as TextInput, weight: 1 }];
}

interface Prepared {
  /** The training tokens of each part. */
  streams: TokenArray[];
  sampler: Sampler;
  validation: TokenArray;
  eosId: number;
  /** Names the data and all that decides their order. */
  fingerprint: string;
}

export class PackedText implements BatchSource {
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
    for (const field of ["sequenceLength", "batchSize"] as const) {
      const value = options[field];
      if (!Number.isInteger(value) || value < 1) {
        throw new DataError(`${field} must be a positive integer; it is ${value}.`);
      }
    }
    checkShard(options.shard);
    checkWeights(parts);
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
    const { streams, sampler, eosId } = await this.ready();
    const rows: TokenArray[] = [];
    const { index: host, count: hosts } = this.options.shard ?? { index: 0, count: 1 };
    for (let i = 0; i < this.batchSize * hosts; i++) {
      const { component, index } = sampler.next();
      if (Math.floor(i / this.batchSize) === host) rows.push(this.row(streams[component]!, index));
    }
    return this.batch(rows, eosId);
  }

  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncIterable<Batch> {
    const { validation, eosId } = await this.ready();
    const batches = Math.floor(sequenceCount(validation, this.sequenceLength) / this.batchSize);
    for (let b = 0; b < Math.min(batches, maxBatches); b++) {
      const rows = Array.from({ length: this.batchSize }, (_, i) =>
        this.row(validation, b * this.batchSize + i),
      );
      yield this.batch(rows, eosId);
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

  async restore(position: DataPosition): Promise<void> {
    const { sampler, fingerprint } = await this.ready();
    const taken = position.taken;
    if (position.kind !== "packed" || position.version !== 1 || !Array.isArray(taken)) {
      throw new DataError(`A position of kind "${position.kind}" does not belong to packed text.`);
    }
    if (position.fingerprint !== fingerprint) {
      throw new DataError(
        `The position belongs to other data (${position.fingerprint}; these are ${fingerprint}): the text, the tokenizer, ` +
          "sequenceLength, seed, shuffle or validation differ.",
        "Use the same ones to continue a run, or start a new run from the checkpoint's weights.",
      );
    }
    sampler.blend.restore(taken);
  }

  /** The tokens of the training split, part after part. */
  async trainTokens(): Promise<TokenArray> {
    return concatenate((await this.ready()).streams);
  }

  /** The tokens of the validation split. */
  async validationTokens(): Promise<TokenArray> {
    return (await this.ready()).validation;
  }

  private async ready(): Promise<Prepared> {
    if (this.prepared === undefined) await this.prepare();
    return this.prepared!;
  }

  private async load(options: PrepareOptions): Promise<Prepared> {
    const { tokenizer, eosId, special, cache, validation = 0, shuffle = true } = this.options;
    const read = (input: TextInput): Promise<Corpus> =>
      tokenize(input, { tokenizer, eosId, special, cache, ...options });
    const streams: TokenArray[] = [];
    const validationStreams: TokenArray[] = [];
    for (const { source } of this.parts) {
      const corpus = await read(source);
      const split = splitCorpus(corpus, typeof validation === "number" ? validation : 0, this.seed);
      streams.push(gather(corpus, split.train));
      validationStreams.push(gather(corpus, split.validation));
      this.check(corpus.name, "training", streams[streams.length - 1]!, 1);
    }
    if (typeof validation !== "number") validationStreams.push((await read(validation)).tokens);
    const validationTokens = concatenate(validationStreams);
    if (validation !== 0) this.check("the data", "validation", validationTokens, this.batchSize);

    const hash = createHash("sha256");
    for (const stream of [...streams, validationTokens]) {
      hash.update(new Uint8Array(stream.buffer, stream.byteOffset, stream.byteLength));
    }
    const weights = this.parts.map((part) => part.weight);
    hash.update(JSON.stringify([this.sequenceLength, this.seed, shuffle, weights]));
    const lengths = streams.map((stream) => sequenceCount(stream, this.sequenceLength));
    return {
      streams,
      sampler: new Sampler(lengths, weights, this.seed, shuffle),
      validation: validationTokens,
      eosId: (eosId ?? tokenizer.eosId)!,
      fingerprint: hash.digest("hex").slice(0, 16),
    };
  }

  private check(name: string, split: string, tokens: TokenArray, atLeast: number): void {
    const count = sequenceCount(tokens, this.sequenceLength);
    if (count >= atLeast) return;
    throw new DataError(
      `The ${split} split of ${name} has ${tokens.length} tokens: ${count} sequences of ${this.sequenceLength}, and ` +
        `${atLeast} ${atLeast === 1 ? "is" : "are"} needed.`,
      split === "training"
        ? "Use more text or a smaller sequenceLength."
        : "Use a larger validation fraction, a smaller batchSize or a smaller sequenceLength.",
    );
  }

  private row(stream: TokenArray, index: number): TokenArray {
    return sequence(stream, index, this.sequenceLength);
  }

  private batch(rows: readonly TokenArray[], eosId: number): Batch {
    return batchOf(rows, this.position(), this.options.segments ? eosId : undefined);
  }
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
  const { index, count } = shard;
  if (!Number.isInteger(index) || !Number.isInteger(count) || index < 0 || index >= count) {
    throw new DataError(`shard must be an index below a count; it is ${index} of ${count}.`);
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
