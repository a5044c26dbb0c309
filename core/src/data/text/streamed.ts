import { createHash } from "node:crypto";
import {
  type Batch,
  batchOf,
  type DataPosition,
  type PrepareOptions,
  type SourceProgress,
  type TokenSource,
} from "../batch.js";
import { Blend } from "../blend.js";
import { DataError } from "../errors.js";
import { iterate } from "../iterate.js";
import { endOfDocument, type TokenArray, tokenize } from "./corpus.js";
import {
  checkPackedOptions,
  checkShard,
  checkWeights,
  type MixturePart,
  mixtureParts,
  type PackedOptions,
  sharedOptions,
} from "./packed.js";
import { SequenceStream, type StreamPosition } from "./sequence-stream.js";
import { sequence, sequenceCount } from "./sequences.js";
import { type TextInput, textSource } from "./text-input.js";

export interface StreamedOptions extends Omit<PackedOptions, "validation" | "cache" | "packing"> {
  /** A source of its own; it is held in memory. */
  validation?: TextInput;
  /** Sequences of each source that are held in memory and shuffled among each other. Default 4096. */
  shuffleBlock?: number;
}

/**
 * The same sequences as `packed`, for text that is too large to be tokenized and held at once: documents are read and
 * tokenized as they are needed, in a worker thread for each source that works ahead. Blocks of `shuffleBlock` sequences
 * are shuffled, so the files themselves should be in no telling order.
 */
export function streamed(source: TextInput | readonly MixturePart[], options: StreamedOptions): StreamedText {
  return new StreamedText(mixtureParts(source), options);
}

export class StreamedText implements TokenSource {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly vocabSize: number;
  private readonly eosId: number;
  private readonly fingerprint: string;
  private readonly streams: readonly SequenceStream[];
  private readonly weights: readonly number[];
  private readonly blend: Blend;
  private held: TokenArray | undefined;

  constructor(
    parts: readonly MixturePart[],
    private readonly options: StreamedOptions,
  ) {
    const counts = [
      "sequenceLength",
      "batchSize",
      ...(options?.shuffleBlock === undefined ? [] : ["shuffleBlock"]),
    ];
    checkPackedOptions("streamed", options, [...sharedOptions, "shuffleBlock"], counts);
    const { tokenizer, sequenceLength, batchSize, seed = 0, shuffleBlock = 4096 } = options;
    const { shuffle = true, special = "text" } = options;
    checkShard(options.shard);
    checkWeights(parts);
    this.batchSize = batchSize;
    this.sequenceLength = sequenceLength;
    this.vocabSize = tokenizer.vocabSize;
    const eosId = endOfDocument(tokenizer, options.eosId);
    this.eosId = eosId;
    const blocks = { sequenceLength, blockSequences: shuffleBlock, eosId, special };
    this.streams = parts.map(
      ({ source }, i) =>
        new SequenceStream(textSource(source), tokenizer, blocks, shuffle ? [seed, i] : undefined),
    );
    const weights = parts.map(({ weight }) => weight);
    this.weights = weights;
    this.blend = new Blend(weights);
    const names = this.streams.map(({ source }) => [source.name, source.size]);
    this.fingerprint = createHash("sha256")
      .update(JSON.stringify([names, weights, blocks, seed, shuffle, tokenizer.toJSON()]))
      .digest("hex")
      .slice(0, 16);
  }

  /** Tokenizes the validation text and waits for the first block of each source. */
  async prepare(options: PrepareOptions = {}): Promise<void> {
    const { validation, tokenizer, special } = this.options;
    if (validation !== undefined && this.held === undefined) {
      const { tokens } = await tokenize(validation, { tokenizer, eosId: this.eosId, special, ...options });
      if (sequenceCount(tokens, this.sequenceLength) < 1) {
        throw new DataError(
          `The validation text has ${tokens.length} tokens, too few for a sequence of ${this.sequenceLength}.`,
          "Use more validation text or a smaller sequenceLength.",
        );
      }
      this.held = tokens;
    }
    await Promise.all(this.streams.map((stream) => stream.begin()));
  }

  async next(): Promise<Batch> {
    const rows: TokenArray[] = [];
    const { rank, count } = this.options.shard ?? { rank: 0, count: 1 };
    for (let i = 0; i < this.batchSize * count; i++) {
      const row = await this.streams[this.blend.next()]!.next();
      if (Math.floor(i / this.batchSize) === rank) rows.push(row);
    }
    return this.batch(rows);
  }

  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncIterable<Batch> {
    await this.prepare();
    const tokens = this.held;
    if (tokens === undefined) return;
    const count = sequenceCount(tokens, this.sequenceLength);
    const batches = Math.ceil(count / this.batchSize);
    for (let b = 0; b < Math.min(batches, maxBatches); b++) {
      const first = b * this.batchSize;
      // The last batch may be smaller: the loss must not depend on batchSize.
      const rows = Array.from({ length: Math.min(this.batchSize, count - first) }, (_, i) =>
        sequence(tokens, first + i, this.sequenceLength),
      );
      yield this.batch(rows);
    }
  }

  /** Of each source, where its current block begins and how much of it was given out. */
  position(): DataPosition {
    const each = this.streams.map(({ position }) => position);
    const of = (key: keyof StreamPosition) => each.map((position) => position[key]);
    return {
      version: 1,
      kind: "streamed",
      samples: this.blend.samples,
      taken: [...this.blend.taken],
      epoch: of("epoch"),
      block: of("block"),
      documents: of("documents"),
      tokens: of("tokens"),
      within: of("within"),
      fingerprint: this.fingerprint,
    };
  }

  progress(): SourceProgress[] {
    return this.streams.map(({ source, position }, i) => ({
      name: source.name,
      weight: this.weights[i]!,
      sequences: this.blend.taken[i]!,
      epochs: position.epoch,
    }));
  }

  async restore(position: DataPosition): Promise<void> {
    if (position.kind !== "streamed" || position.version !== 1) {
      throw new DataError(`A position of kind "${position.kind}" does not belong to streamed text.`);
    }
    if (position.fingerprint !== this.fingerprint) {
      throw new DataError(
        `The position belongs to other data (${position.fingerprint}; these are ${this.fingerprint}): the files, the ` +
          "tokenizer, sequenceLength, shuffleBlock, seed, shuffle or weights differ.",
        "Use the same ones to continue a run, or start a new run from the checkpoint's weights.",
      );
    }
    const { taken, epoch, block, documents, tokens, within } = position as unknown as Record<
      string,
      number[]
    >;
    await Promise.all(
      this.streams.map((stream, i) =>
        stream.restore({
          epoch: epoch![i]!,
          block: block![i]!,
          documents: documents![i]!,
          tokens: tokens![i]!,
          within: within![i]!,
        }),
      ),
    );
    this.blend.restore(taken!);
  }

  [Symbol.asyncIterator](): AsyncGenerator<Batch, void> {
    return iterate(this);
  }

  /** Ends the worker threads. The source can be used again, from the start. */
  close(): void {
    for (const stream of this.streams) stream.close();
    this.blend.restore(this.streams.map(() => 0));
  }

  private batch(rows: readonly TokenArray[]): Batch {
    return batchOf(rows, this.position(), this.options.segments ? this.eosId : undefined);
  }
}
