import { type FileHandle, open } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { openRegular } from "../files/regular.js";
import { SafetensorsError } from "./errors.js";
import {
  byteLength,
  headerLength,
  layOut,
  parseHeader,
  type SafetensorsHeader,
  type TensorDescription,
  type TensorEntry,
} from "./safetensors-header.js";

/** A tensor whose bytes are fetched when they are written: dense, row-major, little-endian. */
export interface NamedTensor extends TensorDescription {
  bytes(): Promise<Uint8Array>;
}

const chunkBytes = 1 << 26;

/** An open safetensors file. Reading is by tensor; nothing but the header is kept in memory. */
export class SafetensorsFile {
  private constructor(
    readonly path: string,
    readonly header: SafetensorsHeader,
    private readonly file: FileHandle,
  ) {}

  /** Opens a file and checks its header. */
  static async open(path: string): Promise<SafetensorsFile> {
    const file = await openToRead(path);
    try {
      const { size } = await file.stat();
      const prefix = await readExactly(file, 0, Math.min(8, size));
      const header = await readExactly(file, 8, headerLength(prefix, size));
      return new SafetensorsFile(path, parseHeader(header, size), file);
    } catch (error) {
      await file.close();
      if (!(error instanceof SafetensorsError)) throw error;
      throw new SafetensorsError(`${path}: ${error.message}`, error.fix, { cause: error });
    }
  }

  get tensors(): ReadonlyMap<string, TensorEntry> {
    return this.header.tensors;
  }

  /** A tensor's bytes, in a buffer of their own. */
  async read(name: string): Promise<Uint8Array> {
    const entry = this.header.tensors.get(name);
    if (entry === undefined) {
      throw new SafetensorsError(`${this.path} has no tensor ${JSON.stringify(name)}.`);
    }
    return readExactly(this.file, entry.offset, entry.byteLength);
  }

  close(): Promise<void> {
    return this.file.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** What was written, to be checked when it is read again. */
export interface WrittenFile {
  bytes: number;
  /** CRC-32 (zlib's) of the whole file. */
  crc32: number;
}

/**
 * Writes and fsyncs a new file; fails if it exists. Tensors are fetched one by one, the next while one is written, so
 * about two of them are in memory at a time.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly NamedTensor[],
  metadata?: Readonly<Record<string, string>>,
): Promise<WrittenFile> {
  const { head, ordered, fileSize } = layOut(tensors, metadata);
  const file = await open(path, "wx");
  try {
    let checksum = 0;
    const write = async (bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await file.write(bytes, at, Math.min(chunkBytes, bytes.length - at));
        checksum = crc32(bytes.subarray(at, at + bytesWritten), checksum);
        at += bytesWritten;
      }
    };
    await write(head);
    let fetching = ordered[0]?.bytes();
    for (const [i, tensor] of ordered.entries()) {
      const bytes = await fetching!;
      fetching = ordered[i + 1]?.bytes();
      // A rejection is seen by the next turn of the loop, or not at all if this turn throws.
      fetching?.catch(() => {});
      if (bytes.byteLength !== byteLength(tensor)) {
        throw new SafetensorsError(
          `Tensor ${JSON.stringify(tensor.name)} of shape [${tensor.shape}] and type ${tensor.dtype} gave ` +
            `${bytes.byteLength} bytes instead of ${byteLength(tensor)}.`,
        );
      }
      await write(bytes);
    }
    await file.sync();
    return { bytes: fileSize, crc32: checksum };
  } finally {
    await file.close();
  }
}

/** The CRC-32 of a file. */
export async function fileChecksum(path: string): Promise<number> {
  const file = await openToRead(path);
  try {
    const buffer = new Uint8Array(1 << 22);
    let checksum = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer);
      if (bytesRead === 0) return checksum;
      checksum = crc32(buffer.subarray(0, bytesRead), checksum);
    }
  } finally {
    await file.close();
  }
}

async function openToRead(path: string): Promise<FileHandle> {
  try {
    return await openRegular(path);
  } catch (error) {
    throw new SafetensorsError(`${path} cannot be opened: ${(error as Error).message}`, undefined, {
      cause: error,
    });
  }
}

async function readExactly(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, Math.min(chunkBytes, length - at), offset + at);
    if (bytesRead === 0) throw new SafetensorsError(`The file became shorter while it was read.`);
    at += bytesRead;
  }
  return bytes;
}
