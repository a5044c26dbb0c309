import { createHash } from "node:crypto";
import { type Batch, type BatchSource, batchOf, type DataPosition, type PrepareOptions } from "./batch.js";
import { type BlockReader, blockReader } from "./block-reader.js";
import type { ReaderPosition, TokenBlock } from "./blocks.js";
import { endOfDocument, type TokenArray, tokenize } from "./corpus.js";
import { DataError } from "./errors.js";
import { checkShard, type PackedOptions } from "./packed.js";
import { permutation } from "./random.js";
import { sequence, sequenceCount } from "./sequences.js";
import type { TextSource } from "./sources.js";
import { type TextInput, textSource } from "./text-input.js";

export interface StreamedOptions extends Omit<PackedOptions, "validation" | "cache"> {
  /** A source of its own; it is held in memory. */
  validation?: TextInput;
  /** Sequences that are held in memory and shuffled among each other. Default 4096. */
  shuffleBlock?: number;
}

/**
 * The same sequences as `packed`, for text that is too large to be tokenized and held at once: documents are read and
 * tokenized as they are needed, in a worker thread that works ahead. Blocks of `shuffleBlock` sequences are shuffled, so
 * the files themselves should be in no telling order.
 */
export function streamed(source: TextInput, options: StreamedOptions): StreamedText {
  return new StreamedText(textSource(source), options);
}

export class StreamedText implements BatchSource {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly vocabSize: number;
  private readonly eosId: number;
  private readonly fingerprint: string;
  private readonly seed: number;
  private readonly blockSequences: number;
  private reader: BlockReader | undefined;
  private block: TokenBlock | undefined;
  private order: Int32Array = new Int32Array();
  /** Sequences given out: of this block, and since the start. */
  private within = 0;
  private samples = 0;
  private held: TokenArray | undefined;

  constructor(
    private readonly source: TextSource,
    private readonly options: StreamedOptions,
  ) {
    const { tokenizer, sequenceLength, batchSize, seed = 0, shuffleBlock = 4096 } = options;
    for (const [field, value] of Object.entries({ sequenceLength, batchSize, shuffleBlock })) {
      if (!Number.isInteger(value) || value < 1) {
        throw new DataError(`${field} must be a positive integer; it is ${value}.`);
      }
    }
    checkShard(options.shard);
    this.batchSize = batchSize;
    this.sequenceLength = sequenceLength;
    this.vocabSize = tokenizer.vocabSize;
    this.seed = seed;
    this.blockSequences = shuffleBlock;
    this.eosId = endOfDocument(tokenizer, options.eosId);
    const { shuffle = true, special = "text" } = options;
    const decisive = [
      source.name,
      source.size,
      sequenceLength,
      shuffleBlock,
      seed,
      shuffle,
      this.eosId,
      special,
    ];
    this.fingerprint = createHash("sha256")
      .update(JSON.stringify([decisive, tokenizer.toJSON()]))
      .digest("hex")
      .slice(0, 16);
  }

  /** Tokenizes the validation text and waits for the first block. */
  async prepare(options: PrepareOptions = {}): Promise<void> {
    const { validation, tokenizer, special } = this.options;
    if (validation !== undefined && this.held === undefined) {
      const { tokens } = await tokenize(validation, { tokenizer, eosId: this.eosId, special, ...options });
      if (sequenceCount(tokens, this.sequenceLength) < this.batchSize) {
        throw new DataError(
          `The validation text has ${tokens.length} tokens, fewer than one batch needs.`,
          "Use more validation text, a smaller batchSize or a smaller sequenceLength.",
        );
      }
      this.held = tokens;
    }
    if (this.block === undefined) await this.nextBlock();
  }

  async next(): Promise<Batch> {
    const rows: TokenArray[] = [];
    const { index: host, count: hosts } = this.options.shard ?? { index: 0, count: 1 };
    for (let i = 0; i < this.batchSize * hosts; i++) {
      if (this.block === undefined || this.within === this.order.length) await this.nextBlock();
      const index = this.order[this.within++]!;
      this.samples++;
      if (Math.floor(i / this.batchSize) !== host) continue;
      rows.push(sequence(this.block!.tokens, index, this.sequenceLength));
    }
    return batchOf(rows, this.position(), this.options.segments ? this.eosId : undefined);
  }

  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncIterable<Batch> {
    await this.prepare();
    const tokens = this.held;
    if (tokens === undefined) return;
    const batches = Math.floor(sequenceCount(tokens, this.sequenceLength) / this.batchSize);
    for (let b = 0; b < Math.min(batches, maxBatches); b++) {
      const rows = Array.from({ length: this.batchSize }, (_, i) =>
        sequence(tokens, b * this.batchSize + i, this.sequenceLength),
      );
      yield batchOf(rows, this.position(), this.options.segments ? this.eosId : undefined);
    }
  }

  /** Where the current block begins, and how much of it was given out. */
  position(): DataPosition {
    const { epoch, block, documents, tokens } = this.block?.start ?? start;
    const { samples, within, fingerprint } = this;
    return { version: 1, kind: "streamed", samples, epoch, block, documents, tokens, within, fingerprint };
  }

  /** Reads up to the position's block, and tokenizes that block again. */
  async restore(position: DataPosition): Promise<void> {
    if (position.kind !== "streamed" || position.version !== 1) {
      throw new DataError(`A position of kind "${position.kind}" does not belong to streamed text.`);
    }
    if (position.fingerprint !== this.fingerprint) {
      throw new DataError(
        `The position belongs to other data (${position.fingerprint}; these are ${this.fingerprint}): the files, the ` +
          "tokenizer, sequenceLength, shuffleBlock, seed or shuffle differ.",
        "Use the same ones to continue a run, or start a new run from the checkpoint's weights.",
      );
    }
    const { epoch, block, documents, tokens, within, samples } = position as DataPosition &
      Record<string, number>;
    this.close();
    this.reader = this.read({ epoch: epoch!, block: block!, documents: documents!, tokens: tokens! });
    await this.nextBlock();
    this.within = within!;
    this.samples = samples;
  }

  /** Ends the worker thread. The source can be used again, from the start. */
  close(): void {
    if (this.reader !== undefined) {
      this.reader.close();
      dropped.unregister(this.reader);
    }
    this.reader = undefined;
    this.block = undefined;
    this.order = new Int32Array();
    this.within = 0;
    this.samples = 0;
  }

  private read(from: ReaderPosition): BlockReader {
    const { tokenizer, special = "text" } = this.options;
    const { sequenceLength, blockSequences, eosId } = this;
    const options = { sequenceLength, blockSequences, eosId, special };
    const reader = blockReader(this.source, tokenizer, options, from);
    dropped.register(this, reader, reader);
    return reader;
  }

  private async nextBlock(): Promise<void> {
    this.reader ??= this.read(start);
    this.block = await this.reader.read();
    const count = sequenceCount(this.block.tokens, this.sequenceLength);
    const { epoch, block } = this.block.start;
    this.order =
      this.options.shuffle === false
        ? Int32Array.from({ length: count }, (_, i) => i)
        : permutation(count, [this.seed, epoch, block]);
    this.within = 0;
  }
}

/** Ends the threads of sources that were dropped without `close`, as a notebook cell that is run again drops them. */
const dropped = new FinalizationRegistry<BlockReader>((reader) => reader.close());

const start: ReaderPosition = { epoch: 0, block: 0, documents: 0, tokens: 0 };
