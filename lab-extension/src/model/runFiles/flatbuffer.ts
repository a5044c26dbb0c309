/** Tables of a flatbuffer, read with every offset held against the buffer: outside of it a RangeError is thrown. */
export class FlatTable {
  private readonly vtable: number;

  constructor(
    private readonly view: DataView,
    private readonly at: number,
  ) {
    this.vtable = at - view.getInt32(at, true);
  }

  static root(bytes: Uint8Array): FlatTable {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return new FlatTable(view, view.getUint32(0, true));
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
    return at === 0 ? 0 : sizeAt(this.view, at);
  }

  table(field: number): FlatTable {
    return new FlatTable(this.view, this.target(field));
  }

  text(field: number): string {
    const { at, count } = this.vector(field, 1);
    return utf8.decode(new Uint8Array(this.view.buffer, this.view.byteOffset + at, count));
  }

  /** The entries of a vector; 0 if it is absent. */
  count(field: number): number {
    return this.absent(field) ? 0 : this.vector(field, 4).count;
  }

  tables(field: number): FlatTable[] {
    if (this.absent(field)) {
      return [];
    }
    const { at, count } = this.vector(field, 4);
    return Array.from({ length: count }, (_, i) => {
      const entry = at + 4 * i;
      return new FlatTable(this.view, entry + this.view.getUint32(entry, true));
    });
  }

  /** A vector of structs of two int64. */
  pairs(field: number): [number, number][] {
    if (this.absent(field)) {
      return [];
    }
    const { at, count } = this.vector(field, 16);
    return Array.from({ length: count }, (_, i) => [
      sizeAt(this.view, at + 16 * i),
      sizeAt(this.view, at + 16 * i + 8),
    ]);
  }

  private vector(field: number, entryBytes: number): { at: number; count: number } {
    const at = this.target(field);
    const count = this.view.getUint32(at, true);
    demand(at + 4 + count * entryBytes <= this.view.byteLength, "a list is longer than its message");
    return { at: at + 4, count };
  }

  private target(field: number): number {
    const at = this.place(field);
    demand(at !== 0, "a part of a message is missing");
    return at + this.view.getUint32(at, true);
  }

  /** Where a field lies; 0 if it is absent. */
  private place(field: number): number {
    const entry = 4 + 2 * field;
    if (entry >= this.view.getUint16(this.vtable, true)) {
      return 0;
    }
    const offset = this.view.getUint16(this.vtable + entry, true);
    return offset === 0 ? 0 : this.at + offset;
  }
}

const utf8 = new TextDecoder();

function sizeAt(view: DataView, at: number): number {
  const value = Number(view.getBigInt64(at, true));
  demand(value >= 0 && value <= Number.MAX_SAFE_INTEGER, "a size is negative or absurd");
  return value;
}

/** @throws Error with the problem where the condition does not hold. */
export function demand(condition: boolean, problem: string): asserts condition {
  if (!condition) {
    throw new Error(problem);
  }
}
