/** One field of a protocol buffer message: the parts of the format that event files need. */
export function doubleField(number: number, value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return join(varint(number * 8 + 1), bytes);
}

/** A packed list. */
export function doublesField(number: number, values: readonly number[]): Uint8Array {
  return bytesField(number, new Uint8Array(Float64Array.from(values).buffer));
}

export function floatField(number: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return join(varint(number * 8 + 5), bytes);
}

/** A non-negative integer below 2^53. */
export function integerField(number: number, value: number): Uint8Array {
  return join(varint(number * 8), varint(value));
}

/** Text, bytes, or a message. */
export function bytesField(number: number, value: string | Uint8Array): Uint8Array {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return join(varint(number * 8 + 2), varint(bytes.length), bytes);
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}
