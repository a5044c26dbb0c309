import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bestFit } from "../../../../core/src/data/text/best-fit.js";
import { type Batch, byteTokenizer, packed } from "../../../../core/src/data/text/index.js";

const tokenizer = byteTokenizer();
const lengths = fc.array(fc.integer({ min: 1, max: 90 }), { maxLength: 60 });

function ends(sizes: readonly number[]): number[] {
  let end = 0;
  return sizes.map((size) => (end += size));
}

/** Best fit by looking at every bin: the room left in each. */
function roomsByHand(sizes: readonly number[], length: number): number[] {
  const rooms: number[] = [];
  const places = sizes.flatMap((size) => {
    const whole = Math.floor((size - 1) / length);
    return [
      ...new Array<number>(whole).fill(length),
      ...((size - 1) % length > 0 ? [(size - 1) % length] : []),
    ];
  });
  for (const size of places.sort((a, b) => b - a)) {
    let best = -1;
    for (const [i, room] of rooms.entries()) if (room >= size && (best < 0 || room < rooms[best]!)) best = i;
    if (best < 0) rooms.push(length - size);
    else rooms[best]! -= size;
  }
  return rooms.sort((a, b) => a - b);
}

describe("best fit", () => {
  test("puts every piece where it leaves the least room", () => {
    fc.assert(
      fc.property(lengths, fc.integer({ min: 1, max: 70 }), (sizes, length) => {
        const bins = bestFit(ends(sizes), length);
        const rooms = Array.from({ length: bins.count }, (_, bin) =>
          bins.pieces(bin).reduce((room, { start, end }) => room - (end - start - 1), length),
        );
        expect(rooms.sort((a, b) => a - b)).toEqual(roomsByHand(sizes, length));
      }),
      { numRuns: 300 },
    );
  });

  test("makes each token but a document's first one a target once, and cuts only what is too long", () => {
    fc.assert(
      fc.property(lengths, fc.integer({ min: 1, max: 70 }), (sizes, length) => {
        const documentEnds = ends(sizes);
        const bins = bestFit(documentEnds, length);
        const pieces = Array.from({ length: bins.count }, (_, bin) => bins.pieces(bin)).flat();
        const targets = pieces.flatMap(({ start, end }) =>
          Array.from({ length: end - start - 1 }, (_, i) => start + 1 + i),
        );
        const begins = new Set([0, ...documentEnds]);
        const expected = Array.from({ length: documentEnds.at(-1) ?? 0 }, (_, i) => i).filter(
          (i) => !begins.has(i),
        );
        expect(targets.sort((a, b) => a - b)).toEqual(expected);
        for (const { start } of pieces) {
          const document = documentEnds.findIndex((end) => start < end);
          const begin = document === 0 ? 0 : documentEnds[document - 1]!;
          expect(start === begin || sizes[document]! - 1 > length).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("fills nearly everything with texts of natural lengths", () => {
    // Many short, few long ones.
    const sizes = Array.from(
      { length: 20_000 },
      (_, i) => 2 + Math.floor(4000 * (((i * 7919) % 20_000) / 20_000) ** 4),
    );
    const bins = bestFit(ends(sizes), 2048);
    const used = sizes.reduce((sum, size) => sum + size - 1, 0);
    expect(used / (bins.count * 2048)).toBeGreaterThan(0.99);
  });
});

describe("packed by best fit", () => {
  const texts = Array.from(
    { length: 40 },
    (_, i) => `${i}: ${"abcdefghij".repeat(3).slice(0, (i * 7) % 30)}`,
  );
  const base = { tokenizer, sequenceLength: 16, batchSize: 2, packing: "best-fit" } as const;

  /** The texts of a batch, by segment. */
  function documentsOf({ inputs, targets, segments, positions, weights, sequenceLength }: Batch): string[] {
    const found: string[] = [];
    for (let at = 0; at < inputs.length; ) {
      const segment = segments![at]!;
      let end = at;
      while (
        end < inputs.length &&
        segments![end] === segment &&
        (end === at || end % sequenceLength !== 0)
      ) {
        expect(positions![end]).toBe(segment === 0 ? 0 : end - at);
        expect(weights![end]).toBe(segment === 0 ? 0 : 1);
        end++;
      }
      if (segment > 0) found.push(tokenizer.decode([inputs[at]!, ...targets.subarray(at, end)]));
      at = end;
    }
    return found;
  }

  test("gives whole documents with their end, each once an epoch", async () => {
    const short = texts.filter((text) => text.length <= 16);
    const source = packed(short, { ...base, batchSize: 1 });
    const found: string[] = [];
    await source.prepare();
    while (source.progress()[0]!.epochs < 1) found.push(...documentsOf(await source.next()));
    expect(found.sort()).toEqual(short.map((text) => `${text}<|endoftext|>`).sort());
  });

  test("goes on from a position, and refuses that of another packing", async () => {
    const make = () => packed(texts, { ...base, validation: 0.2 });
    const source = make();
    for (let i = 0; i < 7; i++) await source.next();
    const position = JSON.parse(JSON.stringify(source.position()));
    const resumed = make();
    await resumed.restore(position);
    for (let i = 0; i < 30; i++) expect(await resumed.next()).toEqual(await source.next());
    const other = packed(texts, { ...base, validation: 0.2, packing: "concatenate" });
    await expect(other.restore(position)).rejects.toThrow(/packing or validation differ/);
  });

  test("validates on whole documents that it never trains on", async () => {
    const source = packed(
      [texts.slice(0, 20), texts.slice(20)].map((part) => ({ source: part, weight: 1 })),
      {
        ...base,
        batchSize: 1,
        sequenceLength: 40,
        validation: 0.2,
      },
    );
    await source.prepare();
    const held: string[] = [];
    for await (const batch of source.validation()) held.push(...documentsOf(batch));
    const trained = new Set<string>();
    while (source.progress().some(({ epochs }) => epochs < 1))
      for (const text of documentsOf(await source.next())) trained.add(text);
    expect([...held, ...trained].sort()).toEqual(texts.map((text) => `${text}<|endoftext|>`).sort());
  });

  test("is refused by another name", () => {
    expect(() => packed(texts, { ...base, packing: "bfd" as never })).toThrow(/packing must be .* "bfd"/);
  });
});
