import { type ByteSource, Unreachable } from "./metricsStream.js";

/** A part of a file, and how long the whole is at this moment. Empty beyond the end. */
export interface FileRange {
  readonly bytes: Uint8Array;
  readonly size: number;
}

/** Fetches a part of a file; it may be shorter than asked for. */
export type FetchRange = (offset: number, length: number) => Promise<FileRange>;

/** What one request asks for: many small messages are few requests, and a file never lies in memory whole. */
const CHUNK = 4 << 20;
/** Chunks that are kept: the one being read, its neighbours, and the next, which is fetched meanwhile. */
const KEPT = 3;

/** A file elsewhere, read in chunks of which the next is fetched while one is worked on. */
export class RangeSource implements ByteSource {
  static async open(fetchRange: FetchRange): Promise<RangeSource> {
    const first = await fetchRange(0, CHUNK);
    return new RangeSource(fetchRange, first);
  }

  private constructor(
    private readonly fetchRange: FetchRange,
    first: FileRange,
  ) {
    this.#size = first.size;
    this.#keep(0, Promise.resolve(first.bytes));
  }

  get size(): number {
    return this.#size;
  }

  /** Looks how far the file has grown. @returns false where it is shorter than `position` now: it is another file. */
  async refresh(position: number): Promise<boolean> {
    // A byte before: a range beyond the end is an error in a browser's console.
    const start = Math.max(0, position - 1);
    const { bytes, size } = await this.fetchRange(start, CHUNK);
    this.#chunks.clear();
    this.#size = size;
    this.#tail = { start, bytes };
    return size >= position;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const { start, bytes } = this.#tail;
    if (offset >= start && offset + length <= start + bytes.length) {
      return bytes.subarray(offset - start, offset - start + length);
    }
    const first = Math.floor(offset / CHUNK);
    const last = Math.floor((offset + length - 1) / CHUNK);
    if (length === 0) {
      return new Uint8Array();
    }
    if (first === last) {
      const chunk = await this.#chunk(first);
      return this.#part(chunk, offset - first * CHUNK, length);
    }
    const whole = new Uint8Array(length);
    for (let index = first; index <= last; index++) {
      const chunk = await this.#chunk(index);
      const from = Math.max(0, offset - index * CHUNK);
      const to = Math.min(CHUNK, offset + length - index * CHUNK);
      whole.set(this.#part(chunk, from, to - from), index * CHUNK + from - offset);
    }
    return whole;
  }

  #part(chunk: Uint8Array, from: number, length: number): Uint8Array {
    if (from + length > chunk.length) {
      throw new Unreachable("the file became shorter while it was read");
    }
    return chunk.subarray(from, from + length);
  }

  #chunk(index: number): Promise<Uint8Array> {
    const chunk = this.#request(index);
    if ((index + 1) * CHUNK < this.#size) {
      // Its failure is told to whoever reads it.
      this.#request(index + 1).catch(() => this.#chunks.delete(index + 1));
    }
    return chunk;
  }

  #request(index: number): Promise<Uint8Array> {
    let chunk = this.#chunks.get(index);
    if (!chunk) {
      chunk = this.#fetch(index);
      this.#keep(index, chunk);
      chunk.catch(() => this.#chunks.delete(index));
    }
    return chunk;
  }

  async #fetch(index: number): Promise<Uint8Array> {
    const start = index * CHUNK;
    const wanted = Math.min(CHUNK, this.#size - start);
    const { bytes } = await this.fetchRange(start, wanted);
    if (bytes.length >= wanted) {
      return bytes;
    }
    // An answer of the kernel has at most 1 MiB.
    const parts = [bytes];
    let done = bytes.length;
    while (done < wanted) {
      const more = await this.fetchRange(start + done, wanted - done);
      if (more.bytes.length === 0) {
        break;
      }
      parts.push(more.bytes);
      done += more.bytes.length;
    }
    const whole = new Uint8Array(done);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  #keep(index: number, chunk: Promise<Uint8Array>): void {
    this.#chunks.set(index, chunk);
    for (const other of this.#chunks.keys()) {
      if (this.#chunks.size > KEPT) {
        this.#chunks.delete(other);
      }
    }
  }

  #size: number;
  #tail: { readonly start: number; readonly bytes: Uint8Array } = { start: 0, bytes: new Uint8Array() };
  readonly #chunks = new Map<number, Promise<Uint8Array>>();
}

/** Where a file is fetched from over HTTP. */
export interface FileAddress {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Fetches by HTTP ranges, as the server of Jupyter answers them for files. A server that does not sends the whole file each time; it
 * is kept then.
 */
export function httpRanges({ url, headers }: FileAddress): FetchRange {
  let whole: Uint8Array | undefined;
  return async (offset, length) => {
    if (whole && offset + length <= whole.length) {
      return { bytes: whole.subarray(offset, offset + length), size: whole.length };
    }
    let response: Response;
    try {
      response = await fetch(url, {
        headers: { ...headers, Range: `bytes=${offset}-${offset + Math.max(1, length) - 1}` },
        cache: "no-store",
        credentials: "same-origin",
      });
    } catch (error) {
      throw new Unreachable(`the server does not answer (${(error as Error).message})`);
    }
    const range = response.headers.get("Content-Range") ?? "";
    if (response.status === 206) {
      const size = Number(/\/(\d+)$/.exec(range)?.[1] ?? Number.NaN);
      const bytes = new Uint8Array(await response.arrayBuffer());
      return { bytes, size: Number.isFinite(size) ? size : offset + bytes.length };
    }
    if (response.status === 416) {
      const size = Number(/\/(\d+)$/.exec(range)?.[1] ?? 0);
      return { bytes: new Uint8Array(), size };
    }
    if (!response.ok) {
      throw new Unreachable(
        response.status === 404
          ? "there is no such file"
          : `the server refuses it: ${response.status} ${response.statusText}`,
      );
    }
    whole = new Uint8Array(await response.arrayBuffer());
    const { length: size } = whole;
    const bytes = whole.subarray(Math.min(offset, size), Math.min(offset + length, size));
    if (size <= CHUNK) {
      whole = undefined; // small, and it may grow
    }
    return { bytes, size };
  };
}
