/**
 * Checks the messages of a metrics file before the Arrow library reads them. The library trusts the counts and lengths in
 * a message; a damaged one makes it allocate without bound. Only what `MetricsEncoder` writes passes: a schema of float64
 * columns and record batches of them.
 */
export function checkedLength(bytes: Uint8Array): { length: number; damage?: string } {
  let at = 0;
  let columns = -1;
  try {
    while (at < bytes.length) {
      const message = readMessage(bytes, at);
      if (message === undefined) break;
      if (columns < 0) {
        columns = checkSchema(message);
      } else {
        checkBatch(message, columns);
      }
      at = message.end;
    }
  } catch (error) {
    return { length: at, damage: (error as Error).message };
  }
  return { length: at };
}

/** Codes of the Arrow format (Message.fbs, Schema.fbs). */
const headerType = { schema: 1, recordBatch: 3 };
const floatingPoint = 3;
const double = 2;

interface Message {
  type: number;
  header: Table;
  bodyLength: number;
  /** Where the next message begins. */
  end: number;
}

/** Undefined at an end-of-stream mark. */
function readMessage(bytes: Uint8Array, at: number): Message | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  require(at + 8 <= bytes.length, `the file ends inside the head of a message at byte ${at}`);
  require(view.getUint32(at, true) === 0xffffffff, `there is no message at byte ${at}`);
  const size = view.getInt32(at + 4, true);
  if (size === 0) return undefined;
  require(size > 0 && at + 8 + size <= bytes.length, `the file ends inside the message at byte ${at}`);
  const metadata = new DataView(bytes.buffer, bytes.byteOffset + at + 8, size);
  const message = new Table(metadata, metadata.getUint32(0, true));
  const bodyLength = message.int64(3);
  const end = at + 8 + size + bodyLength;
  require(end <= bytes.length, `the file ends inside the data of the message at byte ${at}`);
  return { type: message.uint8(1), header: message.table(2), bodyLength, end };
}

/** The number of columns. */
function checkSchema({ type, header, bodyLength }: Message): number {
  require(type === headerType.schema && bodyLength === 0, "it does not begin with a schema");
  const fields = header.tables(1);
  for (const field of fields) {
    field.text(0);
    const plain = field.uint8(2) === floatingPoint && field.table(3).int16(0) === double;
    require(plain &&
      field.absent(4) &&
      field.count(5) === 0 &&
      field.count(6) === 0, "a column is not float64");
  }
  for (const pair of header.tables(2)) {
    pair.text(0);
    pair.text(1);
  }
  return fields.length;
}

function checkBatch({ type, header, bodyLength }: Message, columns: number): void {
  require(type === headerType.recordBatch, "a message is not a record batch");
  const rows = header.int64(0);
  const nodes = header.pairs(1);
  const buffers = header.pairs(2);
  require(nodes.length === columns && buffers.length === 2 * columns, "a record batch has other columns");
  require(header.absent(3), "a record batch is compressed");
  for (const [length, nulls] of nodes) {
    require(length === rows && nulls <= rows, "the columns of a record batch differ in length");
  }
  for (const [i, [offset, length]] of buffers.entries()) {
    // Of each column the bits of validity, which may be left out, and the values.
    const needed = i % 2 === 1 ? 8 * rows : nodes[i >> 1]![1] > 0 ? Math.ceil(rows / 8) : 0;
    require(length >= needed && offset + length <= bodyLength, "a record batch is longer than its data");
  }
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

  text(field: number): void {
    this.vector(field, 1);
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
