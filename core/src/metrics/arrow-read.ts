import type { RowsSlice } from "./columns.js";

/**
 * Reads the Arrow IPC streams that `MetricsEncoder` writes, message by message, from a file that may still grow. Counts
 * and lengths are held against what is there before anything is allocated: a damaged file must not make the reader
 * allocate without bound. Only a schema of float64 columns and record batches of them pass.
 */
export class MetricsStream {
  readonly columns: string[];
  /** The schema's metadata. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Bytes of the whole messages so far. */
  #at: number;
  #damage: string | undefined;

  /** @throws Error where the stream does not begin with a schema of metrics. */
  constructor(private readonly source: ByteSource) {
    const message = readMessage(source, 0);
    require(message !== undefined, "it is empty");
    ({ columns: this.columns, metadata: this.metadata } = readSchema(message));
    this.#at = message.end;
  }

  /** Why reading stopped before the end of the bytes, if it did. */
  get damage(): string | undefined {
    return this.#damage;
  }

  /** Bytes of the messages that were read. */
  get position(): number {
    return this.#at;
  }

  /** The next record batch; undefined at the end of what is whole. Asked again, it reads what has been appended since. */
  next(): RowsSlice | undefined {
    this.#damage = undefined;
    try {
      if (this.#at >= this.source.size) return undefined;
      const message = readMessage(this.source, this.#at);
      if (message === undefined) return undefined;
      const rows = readBatch(message, this.columns, this.source);
      this.#at = message.end;
      return rows;
    } catch (error) {
      this.#damage = (error as Error).message;
      return undefined;
    }
  }
}

/** Bytes that are read by ranges. */
export interface ByteSource {
  readonly size: number;
  /** These bytes, which lie within `size`. They may be overwritten by the next call. */
  read(offset: number, length: number): Uint8Array;
}

/** Codes of the Arrow format (Message.fbs, Schema.fbs). */
const headerType = { schema: 1, recordBatch: 3 };
const floatingPoint = 3;
const double = 2;
const utf8 = new TextDecoder();

interface Message {
  type: number;
  header: Table;
  bodyLength: number;
  /** Where its data begin, and where the next message does. */
  body: number;
  end: number;
}

/** Undefined at an end-of-stream mark. */
function readMessage(source: ByteSource, at: number): Message | undefined {
  require(at + 8 <= source.size, `the file ends inside the head of a message at byte ${at}`);
  const prefix = viewOf(source.read(at, 8));
  require(prefix.getUint32(0, true) === 0xffffffff, `there is no message at byte ${at}`);
  const size = prefix.getInt32(4, true);
  if (size === 0) return undefined;
  const body = at + 8 + size;
  require(size > 0 && body <= source.size, `the file ends inside the message at byte ${at}`);
  const metadata = viewOf(source.read(at + 8, size).slice());
  const message = new Table(metadata, metadata.getUint32(0, true));
  const bodyLength = message.int64(3);
  require(body + bodyLength <= source.size, `the file ends inside the data of the message at byte ${at}`);
  return { type: message.uint8(1), header: message.table(2), bodyLength, body, end: body + bodyLength };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function readSchema({ type, header, bodyLength }: Message): {
  columns: string[];
  metadata: Map<string, string>;
} {
  require(type === headerType.schema && bodyLength === 0, "it does not begin with a schema");
  const columns = header.tables(1).map((field) => {
    const name = field.text(0);
    const plain = field.uint8(2) === floatingPoint && field.table(3).int16(0) === double;
    require(plain &&
      field.absent(4) &&
      field.count(5) === 0 &&
      field.count(6) === 0, "a column is not float64");
    return name;
  });
  const metadata = new Map(header.tables(2).map((pair) => [pair.text(0), pair.text(1)] as const));
  return { columns, metadata };
}

function readBatch(
  { type, header, body, bodyLength }: Message,
  columns: string[],
  source: ByteSource,
): RowsSlice {
  require(type === headerType.recordBatch, "a message is not a record batch");
  const count = header.int64(0);
  const nodes = header.pairs(1);
  const buffers = header.pairs(2);
  require(nodes.length === columns.length &&
    buffers.length === 2 * columns.length, "a record batch has other columns");
  require(header.absent(3), "a record batch is compressed");
  for (const [length, nulls] of nodes) {
    require(length === count && nulls <= count, "the columns of a record batch differ in length");
  }
  for (const [i, [offset, length]] of buffers.entries()) {
    // Of each column the bits of validity, which may be left out, and the values.
    const needed = i % 2 === 1 ? 8 * count : nodes[i >> 1]![1] > 0 ? Math.ceil(count / 8) : 0;
    require(length >= needed && offset + length <= bodyLength, "a record batch is longer than its data");
  }
  const data = source.read(body, bodyLength);
  const slice: Record<string, { values: Float64Array; present?: Uint8Array }> = {};
  for (const [i, name] of columns.entries()) {
    const nulls = nodes[i]![1];
    if (nulls === count) continue;
    const values = new Float64Array(count);
    new Uint8Array(values.buffer).set(data.subarray(buffers[2 * i + 1]![0]).subarray(0, 8 * count));
    const bits = data.subarray(buffers[2 * i]![0]).subarray(0, (count + 7) >> 3);
    slice[name] = nulls === 0 ? { values } : { values, present: bits.slice() };
  }
  return { count, columns: slice };
}

/** A table of a flatbuffer; reading outside of the buffer throws a RangeError. */
class Table {
  private readonly vtable: number;

  constructor(
    private readonly view: DataView,
    private readonly at: number,
  ) {
    this.vtable = at - view.getInt32(at, true);
  }

  absent(field: number): boolean {
    return this.place(field) === 0;
  }

  uint8(field: number): number {
    const at = this.place(field);
    return at === 0 ? 0 : this.view.getUint8(at);
  }

  int16(field: number): number {
    const at = this.place(field);
    return at === 0 ? 0 : this.view.getInt16(at, true);
  }

  /** Refuses negative ones and those beyond 2^53. */
  int64(field: number): number {
    const at = this.place(field);
    return at === 0 ? 0 : size(this.view, at);
  }

  table(field: number): Table {
    return new Table(this.view, this.target(field));
  }

  text(field: number): string {
    const { at, count } = this.vector(field, 1);
    return utf8.decode(new Uint8Array(this.view.buffer, this.view.byteOffset + at, count));
  }

  /** The entries of a vector; 0 if it is absent. */
  count(field: number): number {
    return this.absent(field) ? 0 : this.vector(field, 4).count;
  }

  tables(field: number): Table[] {
    if (this.absent(field)) return [];
    const { at, count } = this.vector(field, 4);
    return Array.from({ length: count }, (_, i) => {
      const entry = at + 4 * i;
      return new Table(this.view, entry + this.view.getUint32(entry, true));
    });
  }

  /** A vector of structs of two int64. */
  pairs(field: number): [number, number][] {
    if (this.absent(field)) return [];
    const { at, count } = this.vector(field, 16);
    return Array.from({ length: count }, (_, i) => [
      size(this.view, at + 16 * i),
      size(this.view, at + 16 * i + 8),
    ]);
  }

  private vector(field: number, entryBytes: number): { at: number; count: number } {
    const at = this.target(field);
    const count = this.view.getUint32(at, true);
    require(at + 4 + count * entryBytes <= this.view.byteLength, "a list is longer than its message");
    return { at: at + 4, count };
  }

  private target(field: number): number {
    const at = this.place(field);
    require(at !== 0, "a part of a message is missing");
    return at + this.view.getUint32(at, true);
  }

  /** Where a field lies; 0 if it is absent. */
  private place(field: number): number {
    const entry = 4 + 2 * field;
    if (entry >= this.view.getUint16(this.vtable, true)) return 0;
    const offset = this.view.getUint16(this.vtable + entry, true);
    return offset === 0 ? 0 : this.at + offset;
  }
}

function size(view: DataView, at: number): number {
  const value = Number(view.getBigInt64(at, true));
  require(value >= 0 && value <= Number.MAX_SAFE_INTEGER, "a size is negative or absurd");
  return value;
}

function require(condition: boolean, problem: string): asserts condition {
  if (!condition) throw new Error(problem);
}
