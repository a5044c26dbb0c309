import { demand, FlatTable } from "./flatbuffer.js";

/** Bytes that are read by ranges. */
export interface ByteSource {
  /** As far as it is known; a file that is being written may have grown since. */
  readonly size: number;
  /** These bytes, which lie within `size`. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Values of one column beside each other. Where there is `present`, its bit `i & 7` of byte `i >> 3` says whether row i has one. */
export interface ColumnValues {
  readonly values: Float64Array;
  readonly present?: Uint8Array;
}

/** Rows as columns. NaN and infinities are values; a column without any value in these rows is left out. */
export interface ColumnBatch {
  readonly rowCount: number;
  readonly columns: ReadonlyMap<string, ColumnValues>;
}

/** Codes of the Arrow format (Message.fbs, Schema.fbs). */
const HEADER = { schema: 1, recordBatch: 3 };
const FLOATING_POINT = 3;
const DOUBLE = 2;
/** A body up to this length is read in one piece, a longer one column by column. */
const WHOLE_BODY = 16 << 20;

interface Message {
  readonly type: number;
  readonly header: FlatTable;
  readonly bodyLength: number;
  /** Where its data begin, and where the next message does. */
  readonly body: number;
  readonly end: number;
}

/**
 * Reads the Arrow IPC streams of a run's metrics (docs/contracts.md §2) message by message, from a file that may still grow. Counts and
 * lengths are held against what is there before anything is allocated: a damaged file must not make the reader allocate without bound. Only
 * a schema of float64 columns and record batches of them pass.
 */
export class MetricsStream {
  /**
   * Reads the schema.
   *
   * @throws Error where the stream does not begin with a schema of metrics, with what it begins with.
   */
  static async open(source: ByteSource): Promise<MetricsStream> {
    demand(source.size > 0, "it is empty");
    const start = await source.read(0, Math.min(8, source.size));
    const text = String.fromCharCode(...start.subarray(0, 6));
    demand(text !== "ARROW1", "it is an Arrow file (Feather), not the Arrow stream that a run writes");
    demand(text.slice(0, 4) !== "PAR1", "it is a Parquet file, not the Arrow stream that a run writes");
    const prefix = start.length === 8 ? new DataView(start.buffer, start.byteOffset).getUint32(0, true) : 0;
    demand(start.length < 8 || prefix === MARK, "it is not an Arrow stream");
    const message = await readMessage(source, 0);
    demand(message !== undefined, "it has no schema");
    return new MetricsStream(source, message);
  }

  readonly columns: readonly string[];
  /** The schema's metadata. */
  readonly metadata: ReadonlyMap<string, string>;

  private constructor(
    private readonly source: ByteSource,
    message: Message,
  ) {
    const { type, header, bodyLength } = message;
    demand(type === HEADER.schema && bodyLength === 0, "it does not begin with a schema");
    const problems: string[] = [];
    this.columns = header.tables(1).map((field) => {
      const name = field.text(0);
      const isFloat64 = field.uint8(2) === FLOATING_POINT && field.table(3).int16(0) === DOUBLE;
      if (!isFloat64 || !field.absent(4) || field.count(5) > 0 || field.count(6) > 0) {
        problems.push(name);
      }
      return name;
    });
    demand(
      problems.length === 0,
      `these of its columns are no float64 numbers: ${problems.map((name) => JSON.stringify(name)).join(", ")}`,
    );
    this.metadata = new Map(header.tables(2).map((pair) => [pair.text(0), pair.text(1)] as const));
    this.#at = message.end;
  }

  /** Why reading stopped before the end of the bytes, if it did. */
  get damage(): string | undefined {
    return this.#damage;
  }

  /** Its end mark was read: what a run writes has none, so that the file is one that is replaced whole. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Bytes of the messages that were read. */
  get position(): number {
    return this.#at;
  }

  /** The next record batch; undefined at the end of what is whole. Asked again, it reads what has been appended since. */
  async next(): Promise<ColumnBatch | undefined> {
    this.#damage = undefined;
    if (this.#at >= this.source.size) {
      return undefined;
    }
    let message: Message | undefined;
    try {
      message = await readMessage(this.source, this.#at);
      if (message === undefined) {
        this.#isEnded = true;
        return undefined;
      }
      const batch = await readBatch(message, this.columns, this.source);
      this.#at = message.end;
      return batch;
    } catch (error) {
      if (error instanceof Unreachable) {
        throw error;
      }
      this.#damage = (error as Error).message;
      return undefined;
    }
  }

  /** Bytes of the messages so far. */
  #at: number;
  #isEnded = false;
  #damage: string | undefined;
}

/** The bytes could not be had, which says nothing of the file. */
export class Unreachable extends Error {}

const MARK = 0xffffffff;

/** Undefined at an end-of-stream mark. */
async function readMessage(source: ByteSource, at: number): Promise<Message | undefined> {
  demand(at + 8 <= source.size, `the file ends inside the head of a message at byte ${at}`);
  const start = await source.read(at, 8);
  const prefix = new DataView(start.buffer, start.byteOffset, 8);
  demand(prefix.getUint32(0, true) === MARK, `there is no message at byte ${at}`);
  const size = prefix.getInt32(4, true);
  if (size === 0) {
    return undefined;
  }
  const body = at + 8 + size;
  demand(size > 0 && body <= source.size, `the file ends inside the message at byte ${at}`);
  const message = FlatTable.root((await source.read(at + 8, size)).slice());
  const bodyLength = message.int64(3);
  demand(body + bodyLength <= source.size, `the file ends inside the data of the message at byte ${at}`);
  return { type: message.uint8(1), header: message.table(2), bodyLength, body, end: body + bodyLength };
}

async function readBatch(
  { type, header, body, bodyLength }: Message,
  names: readonly string[],
  source: ByteSource,
): Promise<ColumnBatch> {
  demand(type === HEADER.recordBatch, "a message is not a record batch");
  const rowCount = header.int64(0);
  const nodes = header.pairs(1);
  const buffers = header.pairs(2);
  demand(
    nodes.length === names.length && buffers.length === 2 * names.length,
    "a record batch has other columns",
  );
  demand(header.absent(3), "a record batch is compressed");
  for (const [length, nulls] of nodes) {
    demand(length === rowCount && nulls <= rowCount, "the columns of a record batch differ in length");
  }
  for (const [i, [offset, length]] of buffers.entries()) {
    // Of each column the bits of validity, which may be left out, and the values.
    const needed = i % 2 === 1 ? 8 * rowCount : nodes[i >> 1]![1] > 0 ? Math.ceil(rowCount / 8) : 0;
    demand(length >= needed && offset + length <= bodyLength, "a record batch is longer than its data");
  }
  const whole = bodyLength <= WHOLE_BODY ? await source.read(body, bodyLength) : undefined;
  const bytes = async (offset: number, length: number): Promise<Uint8Array> =>
    whole ? whole.subarray(offset, offset + length) : await source.read(body + offset, length);
  const columns = new Map<string, ColumnValues>();
  for (const [i, name] of names.entries()) {
    const nulls = nodes[i]![1];
    if (nulls === rowCount) {
      continue;
    }
    const values = new Float64Array(rowCount);
    new Uint8Array(values.buffer).set(await bytes(buffers[2 * i + 1]![0], 8 * rowCount));
    const present =
      nulls === 0 ? undefined : (await bytes(buffers[2 * i]![0], Math.ceil(rowCount / 8))).slice();
    columns.set(name, present ? { values, present } : { values });
  }
  return { rowCount, columns };
}

/** Whether row `i` of a column has a value. */
export function hasValue({ present }: ColumnValues, i: number): boolean {
  return present === undefined || ((present[i >> 3]! >> (i & 7)) & 1) === 1;
}

/** Bytes that are here. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    read: async (offset, length) => bytes.subarray(offset, offset + length),
  };
}
