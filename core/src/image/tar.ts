/** What lies where in a tar file (POSIX ustar, with GNU and pax long names): nothing is unpacked. */
import { open } from "node:fs/promises";
import { DataError } from "../data/errors.js";

export interface TarEntry {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
}

const block = 512;

/** The regular files of a tar file, in their order. @throws DataError for what is no tar file, or cut short */
export async function* tarEntries(path: string): AsyncGenerator<TarEntry> {
  const file = await open(path, "r").catch((error: unknown) => {
    throw new DataError(
      `${path} cannot be read: ${(error as Error).message}`,
      "Give the path of a tar file.",
      {
        cause: error,
      },
    );
  });
  try {
    const { size } = await file.stat();
    const read = async (offset: number, length: number): Promise<Buffer> => {
      const bytes = Buffer.alloc(length);
      const { bytesRead } = await file.read(bytes, 0, length, offset);
      if (bytesRead === length) return bytes;
      throw new DataError(`${path} ends within a file, at byte ${offset + bytesRead}.`, "Fetch it again.");
    };
    let longName: string | undefined;
    for (let at = 0; at + block <= size; ) {
      const header = await read(at, block);
      if (header.every((byte) => byte === 0)) return;
      const text = (from: number, length: number) =>
        header.toString("utf8", from, from + length).split("\0")[0]!;
      const written = Number.parseInt(text(148, 8).trim(), 8);
      const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
      if (sum !== written)
        throw new DataError(
          `${path} is no tar file: byte ${at} begins no header.`,
          "Compressed ones: unpack the gzip first.",
        );
      const length = Number.parseInt(text(124, 12).trim(), 8) || 0;
      const kind = text(156, 1);
      const offset = at + block;
      if (kind === "L" || kind === "x") {
        const content = (await read(offset, length)).toString("utf8");
        longName =
          kind === "L" ? content.split("\0")[0] : (/\d+ path=([^\n]*)\n/.exec(content)?.[1] ?? longName);
      } else {
        const prefix = header.toString("utf8", 257, 262) === "ustar" ? text(345, 155) : "";
        const name = longName ?? (prefix === "" ? text(0, 100) : `${prefix}/${text(0, 100)}`);
        longName = undefined;
        if (offset + length > size) throw new DataError(`${path} ends within ${name}.`, "Fetch it again.");
        if (kind === "0" || kind === "" || kind === "7") yield { name, offset, length };
      }
      at = offset + Math.ceil(length / block) * block;
    }
    throw new DataError(`${path} ends within a file, at byte ${size}.`, "Fetch it again.");
  } finally {
    await file.close();
  }
}

/** The bytes of an entry. */
export async function readEntry(path: string, { offset, length }: TarEntry): Promise<Uint8Array> {
  const file = await open(path, "r");
  try {
    const bytes = new Uint8Array(length);
    await file.read(bytes, 0, length, offset);
    return bytes;
  } finally {
    await file.close();
  }
}
