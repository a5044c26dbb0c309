/** Memory for very large arrays. */
import { open } from "node:fs/promises";
import { availableParallelism } from "node:os";

/** Threads of Node's pool, by default. */
const threads = 4;
/** What one read gives at most. */
const mostAtOnce = 2 ** 30;

/**
 * Has the system provide the pages of new memory, and zeroes it, on several threads. The first touch of a page costs three times what
 * copying into it does, and would else happen on the main thread, within the reads of the socket. Never rejects.
 */
export async function touchPages(memory: Uint8Array, processors = availableParallelism()): Promise<void> {
  // The runtime's thread that sends, and this main thread, want a processor each.
  if (processors < threads) return;
  const size = Math.min(mostAtOnce, Math.ceil(memory.byteLength / threads));
  try {
    await using zeros = await open("/dev/zero");
    const parts: Promise<unknown>[] = [];
    for (let start = 0; start < memory.byteLength; start += size) {
      const part = memory.subarray(start, start + size);
      parts.push(zeros.read(part, 0, part.byteLength, null));
    }
    await Promise.all(parts);
  } catch {
    // Then each page is touched when it is filled.
  }
}
