import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { arrays, type Batch, EndOfData, type ShapedArray } from "../../../core/src/data/index.js";

async function all<F>(source: AsyncIterable<F>): Promise<F[]> {
  const out: F[] = [];
  for await (const batch of source) out.push(batch);
  return out;
}

const labels = (count: number) => Int32Array.from({ length: count }, (_, i) => i);
const ids = ({ label }: { label: ShapedArray }) => Array.from(label.data as Int32Array);

describe("arrays in memory", () => {
  test("give rows with their shapes, shared arrays and static values as they are", async () => {
    const table = { data: Float32Array.of(1, 2), shape: [2], batchAxis: null };
    const source = arrays(
      {
        image: { data: Uint8Array.from({ length: 24 }, (_, i) => i), shape: [4, 2, 3] },
        label: labels(4),
        points: Float32Array.from({ length: 8 }, (_, i) => i / 2),
        table,
        kind: "digits",
      },
      { batchSize: 3, shuffle: false },
    );
    const batch = await source.next();
    expect(batch.image).toEqual({ data: Uint8Array.from({ length: 18 }, (_, i) => i), shape: [3, 2, 3] });
    expect(batch.label).toEqual({ data: Int32Array.of(0, 1, 2), shape: [3] });
    expect(batch.points).toEqual({ data: Float32Array.of(0, 0.5, 1, 1.5, 2, 2.5), shape: [3, 2] });
    expect(batch.table).toBe(table);
    expect(batch.kind).toBe("digits");
    expect(ids(await source.next())).toEqual([3, 0, 1]);
    expect(await source.shapes()).toEqual([
      {
        batchSize: 3,
        fields: {
          kind: "digits",
          image: { shape: [3, 2, 3], dtype: "uint8" },
          label: { shape: [3], dtype: "int32" },
          points: { shape: [3, 2], dtype: "float32" },
          table: { shape: [2], dtype: "float32", batchAxis: null },
        },
      },
    ]);
  });

  test("give each row once an epoch, and are found again exactly", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 1, max: 7 }),
        fc.nat(10),
        fc.boolean(),
        fc.nat(99),
        fc.constantFrom("join", "keep") as fc.Arbitrary<"join" | "keep">,
        async (rows, batchSize, before, shuffle, seed, partial) => {
          const make = (epochs?: number) =>
            arrays({ label: labels(rows) }, { batchSize, shuffle, seed, partial, epochs });
          const read = (await all(make(2))).flatMap(ids);
          const sorted = (list: number[]) => [...list].sort((a, b) => a - b);
          expect(sorted(read.slice(0, rows))).toEqual([...labels(rows)]);
          expect(sorted(read.slice(rows))).toEqual([...labels(rows)]);
          const source = make();
          let last: Batch<{ label: ShapedArray }> | undefined;
          for (let i = 0; i < before; i++) last = await source.next();
          const position = JSON.parse(JSON.stringify(last?.after ?? source.position()));
          const expected = [await source.next(), await source.next(), await source.next()];
          const resumed = make();
          await resumed.restore(position);
          expect([await resumed.next(), await resumed.next(), await resumed.next()]).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("hold out the same rows for every batch size", async () => {
    const make = (batchSize: number) =>
      arrays({ label: labels(25) }, { batchSize, validation: 0.3, epochs: 1 });
    const held = (await all(make(1).validation())).flatMap(ids);
    expect(held).toHaveLength(8);
    for (const batchSize of [2, 3, 8, 100])
      expect((await all(make(batchSize).validation())).flatMap(ids)).toEqual(held);
    const trained = (await all(make(4))).flatMap(ids);
    expect([...held, ...trained].sort((a, b) => a - b)).toEqual([...labels(25)]);
  });

  test("end after their epochs", async () => {
    const source = arrays({ label: labels(5) }, { batchSize: 2, epochs: 1, partial: "drop" });
    expect((await all(source)).map(({ batchSize }) => batchSize)).toEqual([2, 2]);
    await expect(source.next()).rejects.toThrow(EndOfData);
  });

  test("are refused with what does not fit", async () => {
    expect(() => arrays({ a: new Float32Array(7), label: labels(3) }, { batchSize: 1 })).toThrow(
      "a has 7 elements, and there are 3 rows.",
    );
    expect(() => arrays({ a: { data: new Float32Array(6), shape: [3, 3] } }, { batchSize: 1 })).toThrow(
      /shape \[3, 3\]/,
    );
    expect(() => arrays({ a: [1, 2] }, { batchSize: 1 })).toThrow("The field a is a Array.");
    expect(() => arrays({ a: labels(3) }, { batchSize: 4, partial: "drop" })).toThrow(
      "There are 3 rows an epoch",
    );
    expect(() => arrays({ a: labels(3) }, { batchSize: 1, validation: 0.9 })).toThrow(/none are left/);
    expect(() => arrays({ after: labels(3) }, { batchSize: 1 })).toThrow(/named after/);
    const position = arrays({ a: labels(3) }, { batchSize: 1 }).position();
    await expect(arrays({ a: labels(4) }, { batchSize: 1 }).restore(position)).rejects.toThrow(/other data/);
  });
});
