/**
 * Packing whole documents into sequences of a fixed length by best fit (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"):
 * the longest first, each into the fullest sequence that still has room for it.
 */

/** A run of tokens; all but the last one are inputs, all but the first one targets. */
export interface Piece {
  readonly start: number;
  readonly end: number;
}

/** The pieces of each sequence. */
export interface Bins {
  readonly count: number;
  /** The pieces of a sequence, longest first. */
  pieces(index: number): Piece[];
}

/**
 * Packs documents, given by where each ends (the first begins at 0), into sequences of `length` inputs. A document of n tokens takes n - 1
 * places; one that is too long is cut into pieces that fill a sequence, which share a token with the next piece, so that each token is a
 * target once. Equal input gives equal bins.
 */
export function bestFit(documentEnds: ArrayLike<number>, length: number): Bins {
  const starts: number[] = [];
  const sizes: number[] = [];
  for (let d = 0; d < documentEnds.length; d++) {
    const last = documentEnds[d]! - 1;
    for (let start = d === 0 ? 0 : documentEnds[d - 1]!; start < last; start += length) {
      starts.push(start);
      sizes.push(Math.min(length, last - start));
    }
  }
  const order = bySize(sizes, length);
  const rooms = new RoomIndex(length);
  const binOf = new Int32Array(sizes.length);
  let count = 0;
  for (const piece of order) {
    const size = sizes[piece]!;
    const room = rooms.smallestFrom(size);
    const bin = room === undefined ? count++ : rooms.take(room);
    binOf[piece] = bin;
    const left = (room ?? length) - size;
    if (left > 0) rooms.put(left, bin);
  }
  // Pieces by bin, in the order in which they were placed.
  const first = new Int32Array(count + 1);
  for (const bin of binOf) first[bin + 1]!++;
  for (let bin = 0; bin < count; bin++) first[bin + 1]! += first[bin]!;
  const next = first.slice();
  const members = new Int32Array(sizes.length);
  for (const piece of order) members[next[binOf[piece]!]!++] = piece;
  return {
    count,
    pieces: (bin) =>
      Array.from(members.subarray(first[bin]!, first[bin + 1]!), (piece) => ({
        start: starts[piece]!,
        end: starts[piece]! + sizes[piece]! + 1,
      })),
  };
}

/** Numbers of the pieces, the longest first, equally long ones in the order of the text (a counting sort). */
function bySize(sizes: readonly number[], length: number): Int32Array {
  const first = new Int32Array(length + 2);
  for (const size of sizes) first[length - size + 1]!++;
  for (let i = 0; i <= length; i++) first[i + 1]! += first[i]!;
  const order = new Int32Array(sizes.length);
  sizes.forEach((size, piece) => {
    order[first[length - size]!++] = piece;
  });
  return order;
}

/** Open sequences by the room they have, and a bit for each room that some sequence has. */
class RoomIndex {
  private readonly bins: number[][] = [];
  private readonly bits: Uint32Array;

  constructor(length: number) {
    this.bits = new Uint32Array((length >> 5) + 1);
  }

  put(room: number, bin: number): void {
    this.bins[room] ??= [];
    this.bins[room].push(bin);
    this.bits[room >> 5]! |= 1 << (room & 31);
  }

  /** The sequence that was put last. */
  take(room: number): number {
    const bins = this.bins[room]!;
    const bin = bins.pop()!;
    if (bins.length === 0) this.bits[room >> 5]! &= ~(1 << (room & 31));
    return bin;
  }

  smallestFrom(size: number): number | undefined {
    let word = size >> 5;
    let found = this.bits[word]! & (-1 << (size & 31));
    while (found === 0) {
      if (++word === this.bits.length) return undefined;
      found = this.bits[word]!;
    }
    // The lowest bit that is set.
    return (word << 5) + 31 - Math.clz32(found & -found);
  }
}
