import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  alternating,
  arrays,
  type Batch,
  generated,
  loader,
  mixture,
  type ShapedArray,
} from "../../../core/src/data/index.js";
import { byteTokenizer, packed } from "../../../core/src/data/text/index.js";

const plain = (batch: object) => JSON.parse(JSON.stringify(batch));

async function take<F extends object>(
  source: { next(): Promise<Batch<F>> },
  count: number,
): Promise<Batch<F>[]> {
  const out: Batch<F>[] = [];
  for (let i = 0; i < count; i++) out.push(await source.next());
  return out;
}

const numbers = (batchSize: number, batches?: number) =>
  generated({
    batchSize,
    batches,
    validation: 2,
    make: ({ index, random, training }) => ({
      x: Float32Array.from({ length: batchSize }, () => random.uniform()),
      at: Int32Array.of(training ? index : -index),
    }),
  });

describe("generated data", () => {
  test("are a function of the batch's number", async () => {
    const [source, other] = [numbers(3), numbers(3)];
    const read = await take(source, 5);
    expect(read.map(({ at }) => at[0])).toEqual([0, 1, 2, 3, 4]);
    expect(new Set(read.flatMap(({ x }) => [...x])).size).toBe(15);
    await other.restore(JSON.parse(JSON.stringify(read[2]!.after)));
    expect(await take(other, 2)).toEqual(read.slice(3));
    expect(read[4]!.after).toMatchObject({ samples: 15 });
    const overlapping = numbers(3);
    expect(await Promise.all([overlapping.next(), overlapping.next()])).toEqual(read.slice(0, 2));
  });

  test("end, and have a validation split of their own", async () => {
    const read: number[] = [];
    for await (const { at } of numbers(1, 3)) read.push(at[0]!);
    expect(read).toEqual([0, 1, 2]);
    const held: Float32Array[] = [];
    for await (const { x } of numbers(1, 3).validation()) held.push(x);
    expect(held).toHaveLength(2);
    await expect(numbers(1).restore({ version: 1, kind: "packed", samples: 0 })).rejects.toThrow(
      /kind "packed"/,
    );
  });
});

describe("sources together", () => {
  const text = () =>
    packed(["the quick brown fox jumps over the lazy dog ".repeat(20)], {
      tokenizer: byteTokenizer(),
      sequenceLength: 8,
      batchSize: 2,
      validation: 0.2,
    });
  const images = () =>
    arrays({ image: Float32Array.from({ length: 20 }, (_, i) => i) }, { batchSize: 3, validation: 0.2 });
  const clips = () =>
    loader({
      items: Array.from({ length: 12 }, (_, i) => i),
      workers: 1,
      batchSize: 4,
      pad: { clip: true },
      buckets: { bounds: [2, 4] },
      decode: async (i: number) => {
        await new Promise((resolve) => setTimeout(resolve, i % 3));
        return { clip: new Int16Array(1 + (i % 4)).fill(i) };
      },
    });

  test("come in the pattern, each batch with its source's name and fields", async () => {
    using both = alternating({ text: text(), images: images() }, { pattern: ["text", "text", "images"] });
    const read = await take(both, 7);
    expect(read.map(({ source }) => source)).toEqual([
      "text",
      "text",
      "images",
      "text",
      "text",
      "images",
      "text",
    ]);
    for (const batch of read) {
      if (batch.source === "text") expect(batch.inputs.length).toBe(16);
      else expect(batch.image.shape).toEqual([3]);
    }
    const [first] = await take(text(), 1);
    expect(read[0]!).toMatchObject({ inputs: (first as { inputs: Int32Array }).inputs });
    expect(both.batchSize).toBe(3);
    expect(both.progress().map(({ name, sequences }) => [name, sequences])).toEqual([
      ["text", 10],
      ["images", 6],
    ]);
  });

  test("are mixed by their weights, to within one batch", async () => {
    const make = () =>
      mixture({ a: numbers(1), b: numbers(1), c: numbers(1) }, { weights: { a: 5, b: 3, c: 1 } });
    const read = await take(make(), 90);
    for (let n = 1; n <= read.length; n++) {
      for (const [name, weight] of [
        ["a", 5],
        ["b", 3],
        ["c", 1],
      ] as const) {
        const given = read.slice(0, n).filter(({ source }) => source === name).length;
        expect(Math.abs(given - (weight / 9) * n)).toBeLessThanOrEqual(1);
      }
    }
  });

  test("are found again exactly, one in another too, with workers and buckets", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(10), async (before) => {
        const make = () =>
          mixture(
            { clips: clips(), pair: alternating({ text: text(), images: images() }) },
            { weights: { clips: 2, pair: 1 } },
          );
        using source = make();
        await source.prepare();
        const passed = await take(source, before);
        const position = JSON.parse(JSON.stringify(passed.at(-1)?.after ?? source.position()));
        const next = await take(source, 8);
        expect(new Set(next.map(({ source }) => source))).toEqual(
          new Set(["clips", "pair.text", "pair.images"]),
        );
        const expected = next.map(plain);
        using resumed = make();
        await resumed.restore(position);
        expect((await take(resumed, 8)).map(plain)).toEqual(expected);
      }),
      { numRuns: 6 },
    );
  });

  test("validate by turns until all have ended", async () => {
    using both = alternating({ text: text(), images: images() });
    const names: string[] = [];
    let rows = 0;
    for await (const batch of both.validation()) {
      names.push(batch.source);
      rows += batch.batchSize!;
    }
    const counted = { text: 0, images: 0 };
    for await (const { batchSize } of text().validation()) counted.text += batchSize;
    for await (const { batchSize } of images().validation()) counted.images += batchSize!;
    expect(rows).toBe(counted.text + counted.images);
    expect(names.slice(0, 2)).toEqual(["text", "images"]);
  });

  test("know the shapes of all, and end with the first", async () => {
    using both = mixture({ clips: clips(), images: images() }, { weights: { clips: 1, images: 1 } });
    const shapes = (await both.shapes())!;
    expect(shapes.map(({ fields }) => fields.source)).toEqual(["clips", "clips", "images"]);
    expect(shapes.map(({ fields }) => ((fields.clip ?? fields.image) as ShapedArray).shape)).toEqual([
      [4, 2],
      [4, 4],
      [3],
    ]);
    const read: string[] = [];
    for await (const { source } of alternating({ a: numbers(1, 2), b: numbers(1) })) read.push(source);
    expect(read).toEqual(["a", "b", "a", "b"]);
  });

  test("are refused with what does not fit", async () => {
    expect(() => mixture({ a: numbers(1), b: numbers(1) }, { weights: { a: 1, b: 0 } })).toThrow(
      "The weight of b is 0.",
    );
    expect(() => alternating({ a: numbers(1), b: numbers(1) }, { pattern: ["a"] })).toThrow(/never takes b/);
    expect(() => alternating({ a: numbers(1) }, { pattern: ["c" as "a"] })).toThrow(/no source c/);
    const position = alternating({ a: numbers(1) }).position();
    await expect(alternating({ b: numbers(1) }).restore(position)).rejects.toThrow(
      /belongs to the sources a; these are b/,
    );
    await expect(mixture({ a: numbers(1) }, { weights: { a: 1 } }).restore(position)).rejects.toThrow(
      /kind "alternating"/,
    );
  });
});
