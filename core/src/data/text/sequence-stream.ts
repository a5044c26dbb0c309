import { permutation } from "../random.js";
import { type BlockReader, blockReader } from "./block-reader.js";
import type { BlockOptions, ReaderPosition, TokenBlock } from "./blocks.js";
import type { TokenArray } from "./corpus.js";
import { sequence, sequenceCount } from "./sequences.js";
import type { TextSource } from "./sources.js";
import type { Tokenizer } from "./tokenizer.js";

/** Where a stream stands: its block's begin, and how many of its sequences were given out. */
export interface StreamPosition extends ReaderPosition {
  within: number;
}

/** Ends the threads of streams that were dropped without `close`, as a notebook cell that is run again drops them. */
const dropped = new FinalizationRegistry<BlockReader>((reader) => reader.close());

const start: ReaderPosition = { epoch: 0, block: 0, documents: 0, tokens: 0 };

/** The sequences of one source without end, shuffled block by block. */
export class SequenceStream {
  private reader: BlockReader | undefined;
  private block: TokenBlock | undefined;
  private order: Int32Array = new Int32Array();
  private within = 0;

  constructor(
    readonly source: TextSource,
    private readonly tokenizer: Tokenizer,
    private readonly options: BlockOptions,
    /** Words that, with epoch and block, seed the order of a block; undefined for the order of the text. */
    private readonly seed: readonly number[] | undefined,
  ) {}

  /** Makes the first block ready. */
  async begin(): Promise<void> {
    if (this.block === undefined) await this.nextBlock();
  }

  /** sequenceLength + 1 tokens. */
  async next(): Promise<TokenArray> {
    if (this.block === undefined || this.within === this.order.length) await this.nextBlock();
    return sequence(this.block!.tokens, this.order[this.within++]!, this.options.sequenceLength);
  }

  get position(): StreamPosition {
    return { ...(this.block?.start ?? start), within: this.within };
  }

  /** Reads up to the position's block, and tokenizes that block again. */
  async restore({ within, ...from }: StreamPosition): Promise<void> {
    this.close();
    this.open(from);
    await this.nextBlock();
    this.within = within;
  }

  /** Ends the worker thread. The stream can be used again, from the start. */
  close(): void {
    if (this.reader !== undefined) {
      this.reader.close();
      dropped.unregister(this.reader);
    }
    this.reader = undefined;
    this.block = undefined;
    this.order = new Int32Array();
    this.within = 0;
  }

  private open(from: ReaderPosition): BlockReader {
    const reader = blockReader(this.source, this.tokenizer, this.options, from);
    dropped.register(this, reader, reader);
    this.reader = reader;
    return reader;
  }

  private async nextBlock(): Promise<void> {
    const reader = this.reader ?? this.open(start);
    this.block = await reader.read();
    const count = sequenceCount(this.block.tokens, this.options.sequenceLength);
    const { epoch, block } = this.block.start;
    this.order =
      this.seed === undefined
        ? Int32Array.from({ length: count }, (_, i) => i)
        : permutation(count, [...this.seed, epoch, block]);
    this.within = 0;
  }
}
