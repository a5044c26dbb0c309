import { createHash } from "node:crypto";
import { refuseUnknown } from "../../graph/spelling.js";
import type {
  Batch,
  BatchShapes,
  BatchSource,
  DataPosition,
  PrepareOptions,
  SourceProgress,
} from "../batch.js";
import { heldOut } from "../epochs.js";
import { DataError } from "../errors.js";
import { iterate } from "../iterate.js";
import { checkCount, checkOneOf } from "../loader/options.js";
import type { Shard } from "../text/packed.js";
import { tokenizingLine } from "../text/progress-line.js";
import type { HuggingFaceTokenizer, Tokenizer } from "../text/tokenizer.js";
import {
  batchOfSequences,
  bucketBounds,
  bucketedLayout,
  type ChatFields,
  joinedLayout,
  type Layout,
  packedSequences,
  paddedSequences,
  type Sequence,
} from "./layout.js";
import { ChatPreview } from "./preview.js";
import { type ChatInput, inputName, recordsOf } from "./records.js";
import { ChatReport, type LeftOut } from "./report.js";
import { checkColumns, conversationOf, Malformed, type ShapeOptions } from "./shapes.js";
import { rowsOf, type SuperviseOptions } from "./supervise.js";
import { type ChatRow, type Conversation, supervisedTokens } from "./types.js";

export interface ChatDataOptions
  extends Omit<ShapeOptions, "plain">,
    Partial<Omit<SuperviseOptions, "tokenizer">> {
  /** With a chat template, or beside the option `template`. */
  tokenizer: Tokenizer;
  /** Tokens a sequence that the model sees: the longest. */
  sequenceLength: number;
  /** Sequences a batch. */
  batchSize: number;
  /** Prompts and completions that are texts go through no template: one follows the other, and the end of text. Default false. */
  plain?: boolean;
  /**
   * `"best-fit"` (default) lays whole conversations side by side, each seen by itself only. `"none"` gives each a sequence of its own, filled up to
   * the length of its bucket: see `buckets`.
   */
  packing?: "best-fit" | "none";
  /** Of `packing: "none"`: the lengths, or the share of places that may stay empty (default 0.1) with at most so many lengths (default 8). */
  buckets?: { bounds?: readonly number[]; padding?: number; count?: number };
  /** Conversations of more tokens than `sequenceLength` + 1: refused (default), left out, or cut off at the end. The last two are counted. */
  tooLong?: "refuse" | "drop" | "cut";
  /** Lines that are broken, records that are no conversations, those that the template refuses: refused (default), or left out and counted. */
  broken?: "refuse" | "skip";
  /** The share of the conversations that is held out, drawn by `seed`; or a source of its own. Default 0. */
  validation?: number | ChatInput;
  /** Decides the order and the split. Default 0. */
  seed?: number;
  /** Default true. */
  shuffle?: boolean;
  /** This rank's sequences of the common batch: `batchSize` is each rank's. */
  shard?: Shard;
}

const optionNames: readonly (keyof ChatDataOptions)[] = [
  "tokenizer",
  "sequenceLength",
  "batchSize",
  "columns",
  "roles",
  "plain",
  "template",
  "variables",
  "tools",
  "history",
  "packing",
  "buckets",
  "tooLong",
  "broken",
  "validation",
  "seed",
  "shuffle",
  "shard",
];

/**
 * Conversations for supervised fine-tuning, rendered by the tokenizer's chat template: what the assistant says is learned, with the token that ends
 * it. Nothing is read until `prepare` or the first batch; then all of it is, and kept as tokens.
 */
export function chat(source: ChatInput, options: ChatDataOptions): ChatSource {
  return new ChatSource(source, options);
}

interface Part {
  readonly conversations: readonly Conversation[];
  readonly rows: readonly ChatRow[];
}

interface Prepared {
  readonly train: Part;
  readonly held: Part;
  readonly layout: Layout;
  readonly validation: readonly Sequence[];
  readonly report: ChatReport;
  readonly fingerprint: string;
}

export class ChatSource implements BatchSource<ChatFields> {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly vocabSize: number;
  private readonly tokenizer: HuggingFaceTokenizer;
  private preparing: Promise<Prepared> | undefined;
  private prepared: Prepared | undefined;
  /** Batches given out. */
  private given = 0;

  constructor(
    private readonly source: ChatInput,
    private readonly options: ChatDataOptions,
  ) {
    checkOptions(options);
    this.batchSize = options.batchSize;
    this.sequenceLength = options.sequenceLength;
    this.tokenizer = options.tokenizer as HuggingFaceTokenizer;
    this.vocabSize = options.tokenizer.vocabSize;
  }

  async prepare(options: PrepareOptions = {}): Promise<void> {
    this.preparing ??= this.load(options);
    try {
      this.prepared = await this.preparing;
    } catch (error) {
      this.preparing = undefined;
      throw error;
    }
  }

  async next(): Promise<Batch<ChatFields>> {
    const { layout } = await this.ready();
    const sequences = layout.batch(this.given++);
    return batchOfSequences(sequences, this.isPacked, this.position());
  }

  /** All conversations that are held out, in their order; a batch is of one size, and the last of a size may be smaller. */
  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncGenerator<Batch<ChatFields>, void> {
    const { validation } = await this.ready();
    let batches = 0;
    for (const size of new Set(validation.map((sequence) => sequence.size))) {
      const own = validation.filter((sequence) => sequence.size === size);
      for (let at = 0; at < own.length && batches < maxBatches; at += this.batchSize, batches++)
        yield batchOfSequences(own.slice(at, at + this.batchSize), this.isPacked, this.position());
    }
  }

  /** The conversations that are held out: of their prompts answers can be written and compared. */
  async validationConversations(): Promise<readonly Conversation[]> {
    return (await this.ready()).held.conversations;
  }

  /** The conversations that are trained on. */
  async conversations(): Promise<readonly Conversation[]> {
    return (await this.ready()).train.conversations;
  }

  /** What was read, left out and cut. */
  async report(): Promise<ChatReport> {
    return (await this.ready()).report;
  }

  /** Rows that are trained on: a conversation each, or one of its answers. */
  async rows(): Promise<readonly ChatRow[]> {
    return (await this.ready()).train.rows;
  }

  /**
   * A row as it is learned, for a cell: what is learned is coloured.
   *
   * @param row - its number among those that are trained on; or a record, which is read as those of the source
   */
  async preview(row: number | object = 0): Promise<ChatPreview> {
    if (typeof row !== "number") {
      const where = "the record";
      try {
        const conversation = conversationOf(row as Record<string, unknown>, where, this.options);
        return new ChatPreview(rowsOf(conversation, 0, this.supervision), this.tokenizer);
      } catch (error) {
        throw error instanceof Malformed ? new DataError(`${where}: ${error.message}.`) : error;
      }
    }
    const { train } = await this.ready();
    const found = train.rows[row];
    if (found === undefined)
      throw new DataError(`There is no row ${row}.`, `There are ${train.rows.length}, numbered from 0.`);
    return new ChatPreview([found], this.tokenizer);
  }

  position(): DataPosition {
    if (this.prepared === undefined)
      throw new DataError("The data have no position before they are prepared.", "Await `prepare()` first.");
    const { fingerprint } = this.prepared;
    const { given, batchSize, options } = this;
    return {
      version: 1,
      kind: "chat",
      samples: given * batchSize * (options.shard?.count ?? 1),
      batches: given,
      fingerprint,
    };
  }

  async restore(position: DataPosition): Promise<void> {
    const { fingerprint } = await this.ready();
    if (position.kind !== "chat" || position.version !== 1 || typeof position.batches !== "number")
      throw new DataError(`A position of kind "${position.kind}" does not belong to conversations.`);
    if (position.fingerprint !== fingerprint) {
      throw new DataError(
        `The position belongs to other data (${position.fingerprint}; these are ${fingerprint}): the conversations, the tokenizer, its ` +
          "template, sequenceLength, batchSize, seed, shuffle, packing, shard or validation differ.",
        "Use the same ones to continue a run, or start a new run from the checkpoint's weights.",
      );
    }
    this.given = position.batches;
  }

  progress(): SourceProgress[] {
    if (this.prepared === undefined) return [];
    const { layout } = this.prepared;
    const sequences = this.given * this.batchSize;
    return [
      {
        name: inputName(this.source),
        weight: 1,
        sequences,
        epochs: this.given / Math.max(layout.batches, 1e-9),
      },
    ];
  }

  async shapes(): Promise<readonly BatchShapes[]> {
    const { layout } = await this.ready();
    return layout.sizes.map((size) => {
      const { inputs, targets, segments, positions, supervised } = batchOfSequences(
        Array.from({ length: this.batchSize }, () => ({ rows: [], size })),
        this.isPacked,
        this.position(),
      );
      const fields = { inputs, targets, segments, positions, supervised };
      return {
        batchSize: this.batchSize,
        fields: Object.fromEntries(
          Object.entries(fields).flatMap(([name, array]) =>
            array === undefined
              ? []
              : [[name, { shape: [this.batchSize, array.length / this.batchSize], dtype: "int32" as const }]],
          ),
        ),
      };
    });
  }

  [Symbol.asyncIterator](): AsyncGenerator<Batch<ChatFields>, void> {
    return iterate(this);
  }

  private get isPacked(): boolean {
    return this.options.packing !== "none";
  }

  private get supervision(): SuperviseOptions {
    const { template, variables, history = "rows", tools } = this.options;
    return { tokenizer: this.tokenizer, template, variables, history, tools };
  }

  private async ready(): Promise<Prepared> {
    if (this.prepared === undefined) await this.prepare();
    return this.prepared!;
  }

  private async load({ onProgress = tokenizingLine(), signal }: PrepareOptions): Promise<Prepared> {
    const { validation = 0, seed = 0, shuffle = true, shard } = this.options;
    const reading = new Reading(this.options, this.supervision, onProgress, signal);
    const all = await reading.read(this.source);
    const isShare = typeof validation === "number";
    if (all.conversations.length === 0)
      throw new DataError(
        `${inputName(this.source)} has no conversation to train on.`,
        reading.leftOut.length > 0 ? `All are left out: ${reading.leftOut[0]!.reason}.` : "Give some.",
      );
    const split = isShare
      ? heldOut(all.conversations.length, validation, seed)
      : { train: all.conversations.keys(), validation: [] };
    const of = (part: Part, numbers: Iterable<number>): Part => {
      const kept = new Set([...numbers].map((i) => part.conversations[i]!));
      return {
        conversations: part.conversations.filter((each) => kept.has(each)),
        rows: part.rows.filter(({ conversation }) => kept.has(reading.conversations[conversation]!)),
      };
    };
    const train = of(all, split.train);
    const held = isShare ? of(all, split.validation) : await reading.read(validation);
    if (validation !== 0 && held.rows.length === 0)
      throw new DataError(
        "No conversation is left to validate on.",
        "Hold out a larger share, or give more.",
      );
    const [sequences, validationSequences] = this.sequences([train.rows, held.rows]) as [
      Sequence[],
      Sequence[],
    ];
    const share = { index: shard?.rank ?? 0, count: shard?.count ?? 1 };
    const layoutOptions = { batchSize: this.batchSize, seed, shuffle, share };
    if (this.isPacked && sequences.length < share.count)
      throw new DataError(
        `There are ${sequences.length} sequences for ${share.count} shares.`,
        "Give more conversations, or a smaller sequenceLength.",
      );
    const layout = this.isPacked
      ? joinedLayout(sequences, layoutOptions)
      : bucketedLayout(sequences, layoutOptions);
    const report = new ChatReport({
      conversations: train.conversations.length,
      held: held.conversations.length,
      rows: train.rows.length,
      tokens: train.rows.reduce((sum, { ids }) => sum + ids.length, 0),
      supervised: train.rows.reduce((sum, row) => sum + supervisedTokens(row), 0),
      sequences: sequences.length,
      places: sequences.reduce((sum, { size }) => sum + size.length, 0),
      sizes: layout.sizes,
      skipped: reading.leftOut,
      dropped: reading.dropped,
      cut: reading.cut,
    });
    report.warn();
    return {
      train,
      held,
      layout,
      validation: validationSequences,
      report,
      fingerprint: this.fingerprintOf(train.rows, held.rows),
    };
  }

  private sequences(splits: readonly (readonly ChatRow[])[]): Sequence[][] {
    const { sequenceLength } = this;
    if (this.isPacked) return packedSequences(splits, sequenceLength);
    const { bounds, padding = 0.1, count = 8 } = this.options.buckets ?? {};
    const given = bounds === undefined ? undefined : [...bounds].sort((a, b) => a - b);
    if (given !== undefined && given.at(-1)! < sequenceLength) given.push(sequenceLength);
    return paddedSequences(splits, given ?? bucketBounds(splits.flat(), padding, count, sequenceLength));
  }

  private fingerprintOf(train: readonly ChatRow[], held: readonly ChatRow[]): string {
    const { seed = 0, shuffle = true, shard, packing = "best-fit", buckets } = this.options;
    const hash = createHash("sha256");
    for (const { ids, spans } of [...train, ...held])
      hash.update(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength)).update(JSON.stringify(spans));
    const order = [
      train.length,
      this.sequenceLength,
      this.batchSize,
      seed,
      shuffle,
      shard?.count ?? 1,
      packing,
      buckets,
    ];
    return hash.update(JSON.stringify(order)).digest("hex").slice(0, 16);
  }
}

/** Reads conversations, and keeps count of what is left out. */
class Reading {
  /** All that were read, by their numbers. */
  readonly conversations: Conversation[] = [];
  readonly leftOut: LeftOut[] = [];
  readonly dropped: LeftOut[] = [];
  readonly cut: LeftOut[] = [];

  constructor(
    private readonly options: ChatDataOptions,
    private readonly supervision: SuperviseOptions,
    private readonly onProgress: NonNullable<PrepareOptions["onProgress"]>,
    private readonly signal: AbortSignal | undefined,
  ) {}

  async read(input: ChatInput): Promise<Part> {
    const [conversations, rows]: [Conversation[], ChatRow[]] = [[], []];
    const tooLong: ChatRow[] = [];
    const started = performance.now();
    let [tokens, told, yielded] = [0, started, started];
    const tell = (done: boolean) =>
      this.onProgress({
        source: inputName(input),
        documents: conversations.length,
        characters: 0,
        tokens,
        fraction:
          Array.isArray(input) && typeof input[0] !== "string"
            ? conversations.length / input.length
            : undefined,
        seconds: (performance.now() - started) / 1000,
        done,
      });
    for await (const found of recordsOf(input)) {
      this.signal?.throwIfAborted();
      const made = this.conversation(found);
      if (made === undefined) continue;
      const number = this.conversations.push(made.conversation) - 1;
      const kept: ChatRow[] = [];
      for (const row of made.rows(number)) {
        const fitting = this.fitting(row, tooLong);
        if (fitting !== undefined) kept.push(fitting);
      }
      tokens += kept.reduce((sum, { ids }) => sum + ids.length, 0);
      rows.push(...kept);
      if (kept.length > 0) conversations.push(made.conversation);
      const now = performance.now();
      if (now - told > 100) {
        told = now;
        tell(false);
      }
      if (now - yielded > 20) {
        // An interrupt must be heard.
        await new Promise((resolve) => setImmediate(resolve));
        yielded = performance.now();
      }
    }
    if (tooLong.length > 0) this.refuseLong(tooLong, rows.length);
    tell(true);
    return { conversations, rows };
  }

  private conversation(found: Awaited<ReturnType<ReturnType<typeof recordsOf>["next"]>>["value"] & object) {
    const { where } = found;
    try {
      if ("reason" in found) throw new Malformed(found.reason);
      const conversation = conversationOf(found.record, where, this.options);
      // The number is not known before it is known that there are rows.
      const rows = rowsOf(conversation, 0, this.supervision);
      const none = rows.findIndex((row) => supervisedTokens(row) === 0);
      if (none >= 0) throw new Malformed("it has no token to learn");
      return {
        conversation,
        rows: (number: number) => rows.map((row) => ({ ...row, conversation: number })),
      };
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      const reason = error.message;
      if (this.options.broken === "skip") {
        this.leftOut.push({ where, reason });
        return undefined;
      }
      throw new DataError(
        `${where}: ${reason.replace(/\.$/, "")}.`,
        'Mend it, or pass `broken: "skip"` to leave such records out and have them counted.',
      );
    }
  }

  private fitting(row: ChatRow, tooLong: ChatRow[]): ChatRow | undefined {
    const { sequenceLength, tooLong: choice = "refuse" } = this.options;
    const { where, ids } = row;
    if (ids.length <= sequenceLength + 1) return row;
    const reason = `${ids.length} tokens`;
    if (choice === "refuse") {
      tooLong.push(row);
      return undefined;
    }
    if (choice === "drop") {
      this.dropped.push({ where, reason });
      return undefined;
    }
    const end = sequenceLength + 1;
    const spans = row.spans
      .filter(([start]) => start < end)
      .map(([start, stop]) => [start, Math.min(stop, end)] as const);
    const cut = { ...row, ids: ids.slice(0, end), spans };
    if (supervisedTokens(cut) === 0) {
      this.dropped.push({ where, reason: `${reason}, none of the first ${end} to learn` });
      return undefined;
    }
    this.cut.push({ where, reason });
    return cut;
  }

  private refuseLong(rows: readonly ChatRow[], fitting: number): never {
    const [first] = rows;
    const longest = rows.reduce((most, { ids }) => Math.max(most, ids.length), 0);
    throw new DataError(
      `${first!.where}: ${first!.ids.length} tokens, where at most ${this.options.sequenceLength + 1} fit ` +
        `(${rows.length} of ${rows.length + fitting} rows are too long, the longest has ${longest}).`,
      'Pass `tooLong: "cut"` or `tooLong: "drop"`, or a larger sequenceLength.',
    );
  }
}

function checkOptions(options: ChatDataOptions): void {
  const given = options as unknown as Readonly<Record<string, unknown>> | undefined;
  if (typeof given?.tokenizer !== "object" || given.tokenizer === null)
    throw new DataError("text.chat: there is no tokenizer.", "Pass tokenizer, sequenceLength and batchSize.");
  refuseUnknown("text.chat: there is no option", Object.keys(given), optionNames);
  for (const name of ["sequenceLength", "batchSize"] as const) {
    if (given[name] === undefined)
      throw new DataError(`text.chat: ${name} is missing.`, "Give a positive integer.");
    checkCount(name, given[name] as number);
  }
  checkOneOf("packing", options.packing, ["best-fit", "none"]);
  checkOneOf("tooLong", options.tooLong, ["refuse", "drop", "cut"]);
  checkOneOf("broken", options.broken, ["refuse", "skip"]);
  checkOneOf("history", options.history, ["rows", "refuse"]);
  checkOneOf("shuffle", options.shuffle, [true, false]);
  checkOneOf("plain", options.plain, [true, false]);
  checkColumns(options.columns);
  const { buckets, shard } = options;
  if (buckets !== undefined) {
    if (options.packing !== "none")
      throw new DataError(
        "buckets are of sequences that are not packed.",
        'Add `packing: "none"`, or leave buckets out.',
      );
    refuseUnknown("text.chat: buckets have no option", Object.keys(buckets), ["bounds", "padding", "count"]);
    const { bounds, padding, count } = buckets;
    const odd = bounds?.find(
      (bound) => !(Number.isInteger(bound) && bound >= 1 && bound <= options.sequenceLength),
    );
    if (odd !== undefined || bounds?.length === 0)
      throw new DataError(
        bounds?.length === 0 ? "buckets have no bounds." : `A bucket's bound is ${odd}.`,
        `Give integers from 1 to sequenceLength, ${options.sequenceLength}.`,
      );
    if (padding !== undefined && !(padding >= 0 && padding < 1))
      throw new DataError(`buckets.padding is ${padding}.`, "Give a share from 0 to below 1.");
    checkCount("buckets.count", count);
  }
  if (shard !== undefined) {
    const { rank, count } = shard;
    if (!Number.isInteger(rank) || !Number.isInteger(count) || rank < 0 || rank >= count)
      throw new DataError(`shard must be a rank below a count; it is ${rank} of ${count}.`);
  }
}
