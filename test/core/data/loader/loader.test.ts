/** Loaders with real worker threads, against what the order says when it is computed here from the start. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Batch,
  type DataPosition,
  EndOfData,
  type Loader,
  type LoaderOptions,
  loader,
  permutation,
  type ShapedArray,
} from "../../../../core/src/data/index.js";
import { interruptible } from "../../../support/interrupt.js";

interface Item {
  readonly id: number;
  readonly length: number;
  /** Milliseconds that decoding takes. */
  readonly delay?: number;
}

const itemsOf = (count: number, delay: (id: number) => number = () => 0): Item[] =>
  Array.from({ length: count }, (_, id) => ({ id, length: 1 + ((id * 7) % 5), delay: delay(id) }));

/** Self-contained: it is sent to workers. */
async function decode({ id, length, delay = 0 }: Item) {
  if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
  return { x: new Float32Array(length).fill(id + 1), id };
}

const base = { decode, pad: { x: { multiple: 1 } }, dtypes: { id: "int32" } } as const;

const ids = ({ id }: { id: ShapedArray }): number[] => Array.from(id.data as Int32Array);

async function take<F extends object>(
  source: { next(): Promise<Batch<F>> },
  count: number,
): Promise<Batch<F>[]> {
  const out: Batch<F>[] = [];
  for (let i = 0; i < count; i++) out.push(await source.next());
  return out;
}

async function all<F extends object>(source: AsyncIterable<F>): Promise<F[]> {
  const out: F[] = [];
  for await (const batch of source) out.push(batch);
  return out;
}

/** A batch without the fingerprint, and its arrays as lists. */
const plain = (batch: object) => JSON.parse(JSON.stringify(batch));

const open: { close(): void }[] = [];
/** Closed after the tests, which fail with theirs open. */
function opened<S extends { close(): void }>(source: S): S {
  open.push(source);
  return source;
}
afterAll(() => {
  for (const source of open) source.close();
});

describe("the order of a loader", () => {
  test("is that of its items without shuffling, whatever the workers' speed", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(6), { minLength: 5, maxLength: 30 }),
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 4 }),
        async (delays, workers, batchSize, prefetch) => {
          const items = itemsOf(delays.length, (id) => delays[id]!);
          using source = loader({ ...base, items, workers, batchSize, prefetch, shuffle: false, epochs: 2 });
          const read = (await all(source)).map(ids);
          const wanted = [...items, ...items].map(({ id }) => id);
          expect(read.flat()).toEqual(wanted);
          expect(read.slice(0, -1).every((batch) => batch.length === batchSize)).toBe(true);
        },
      ),
      { numRuns: 12 },
    );
  });

  test("is another permutation in each epoch, by the seed", async () => {
    const items = itemsOf(9);
    const read = async (seed: number) => {
      using source = loader({ ...base, items, workers: 2, batchSize: 3, seed, epochs: 3 });
      return (await all(source)).flatMap(ids);
    };
    const first = await read(5);
    const epochs = [0, 9, 18].map((at) => first.slice(at, at + 9));
    for (const [epoch, order] of epochs.entries())
      expect(order).toEqual([...permutation(9, [5, 0xe90c, epoch])]);
    expect(new Set(epochs.map(String)).size).toBe(3);
    expect(await read(5)).toEqual(first);
    expect(await read(6)).not.toEqual(first);
  });

  test("gives each share of the hosts its own items, and all the same number", async () => {
    const items = itemsOf(11);
    const shares = await Promise.all(
      [0, 1, 2].map(async (index) => {
        using source = loader({
          ...base,
          items,
          workers: 1,
          batchSize: 1,
          epochs: 1,
          shard: { index, count: 3 },
        });
        return (await all(source)).flatMap(ids);
      }),
    );
    expect(shares.map((share) => share.length)).toEqual([3, 3, 3]);
    const order = [...permutation(11, [0, 0xe90c, 0])];
    expect(shares).toEqual([0, 1, 2].map((index) => [0, 1, 2].map((i) => order[3 * i + index])));
  });
});

/** What a batch should be, computed from the order, the lengths and the buckets alone. */
function bruteForce(
  items: readonly Item[],
  order: readonly number[],
  bounds: readonly number[],
  rows: (bound: number) => number,
) {
  const held = bounds.map(() => [] as Item[]);
  const made: { ids: number[]; length: number }[] = [];
  for (const at of order) {
    const item = items[at]!;
    const bucket = bounds.findIndex((bound) => item.length <= bound);
    held[bucket]!.push(item);
    if (held[bucket]!.length < rows(bounds[bucket]!)) continue;
    made.push({ ids: held[bucket]!.map(({ id }) => id), length: bounds[bucket]! });
    held[bucket] = [];
  }
  return { made, held };
}

describe("a loader's position", () => {
  const kinds = fc.record({
    count: fc.integer({ min: 6, max: 40 }),
    workers: fc.integer({ min: 0, max: 2 }),
    batchSize: fc.integer({ min: 1, max: 5 }),
    shuffle: fc.boolean(),
    seed: fc.nat(1000),
    stream: fc.boolean(),
    buckets: fc.constantFrom(undefined, { bounds: [2, 5] }, { bounds: [1, 3, 5] }),
    partial: fc.constantFrom("join", "keep") as fc.Arbitrary<"join" | "keep">,
    delays: fc.array(fc.nat(4), { minLength: 3, maxLength: 7 }),
  });

  test("is found again exactly, at any batch, with what waits in buckets", async () => {
    await fc.assert(
      fc.asyncProperty(kinds, fc.nat(12), fc.nat(6), async (kind, before, prefetched) => {
        const { count, delays, stream, ...options } = kind;
        const made = itemsOf(count, (id) => delays[id % delays.length]!);
        const items = stream ? () => made : made;
        const make = () => loader({ ...base, ...options, items, shuffleWindow: 7, prefetch: 1 + prefetched });
        using whole = make();
        const passed = await take(whole, before);
        const position: DataPosition = JSON.parse(JSON.stringify(passed.at(-1)?.after ?? whole.position()));
        expect(whole.position()).toEqual(position);
        const expected = (await take(whole, 8)).map(plain);
        using resumed = make();
        await resumed.restore(position);
        expect((await take(resumed, 8)).map(plain)).toEqual(expected);
        // And in the source that is already further on.
        await whole.restore(position);
        expect((await take(whole, 8)).map(plain)).toEqual(expected);
      }),
      { numRuns: 25 },
    );
  });

  test("counts rows: the batch size may change", async () => {
    const items = itemsOf(10);
    using source = loader({ ...base, items, workers: 1, batchSize: 4 });
    await source.next();
    using other = loader({ ...base, items, workers: 1, batchSize: 2 });
    await other.restore(source.position());
    expect((await take(other, 2)).flatMap(ids)).toEqual(ids(await source.next()));
  });

  test("of other data is refused", async () => {
    const items = itemsOf(10);
    const position = loader({ ...base, items, batchSize: 4 }).position();
    for (const other of [
      loader({ ...base, items: items.slice(1), batchSize: 4 }),
      loader({ ...base, items, batchSize: 4, seed: 1 }),
      loader({ ...base, items, batchSize: 4, shuffle: false }),
      loader({ ...base, items: () => items, batchSize: 4 }),
    ])
      await expect(other.restore(position)).rejects.toThrow(/belongs to other data/);
    await expect(
      loader({ ...base, items, batchSize: 4 }).restore({ version: 1, kind: "packed", samples: 0 }),
    ).rejects.toThrow(/kind "packed" does not belong to a loader/);
  });

  test("after the end is the end", async () => {
    const items = itemsOf(5);
    using source = loader({ ...base, items, workers: 1, batchSize: 2, epochs: 1 });
    expect((await all(source)).map(({ batchSize }) => batchSize)).toEqual([2, 2, 1]);
    await expect(source.next()).rejects.toThrow(EndOfData);
    using resumed = loader({ ...base, items, workers: 1, batchSize: 2, epochs: 1 });
    await resumed.restore(source.position());
    await expect(resumed.next()).rejects.toThrow(/ended after 1 epochs, 5 rows/);
  });
});

describe("batches", () => {
  test("of buckets are those that the order and the lengths give", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 8, maxLength: 40 }),
        fc.constantFrom([9], [3, 9], [2, 5, 9]),
        fc.integer({ min: 9, max: 30 }),
        async (lengths, bounds, batchBudget) => {
          const items = lengths.map((length, id) => ({ id, length }));
          using source = loader({ ...base, items, workers: 2, batchBudget, buckets: { bounds }, epochs: 1 });
          const read = await all(source);
          const order = [...permutation(items.length, [0, 0xe90c, 0])];
          const { made, held } = bruteForce(items, order, bounds, (bound) => Math.floor(batchBudget / bound));
          const left = held.map((row, i) => ({ ids: row.map(({ id }) => id), length: bounds[i]! }));
          const wanted = [...made, ...left.filter((batch) => batch.ids.length > 0)];
          expect(read.map((batch) => ({ ids: ids(batch), length: batch.x.shape[1] }))).toEqual(wanted);
          for (const batch of read) {
            expect(batch.x.data.length).toBeLessThanOrEqual(batchBudget);
            const rows = ids(batch).flatMap((id) =>
              Array.from({ length: batch.x.shape[1]! }, (_, i) => (i < items[id]!.length ? id + 1 : 0)),
            );
            expect([...batch.x.data]).toEqual(rows);
            expect([...batch.xLengths!.data]).toEqual(ids(batch).map((id) => items[id]!.length));
          }
        },
      ),
      { numRuns: 12 },
    );
  });

  test("of made buckets fill up less than the share that is said, with every shape known before", async () => {
    const items = itemsOf(400).map(({ id }) => ({ id, length: 1 + ((id * 37) % 97) }));
    using source = loader({
      ...base,
      items,
      workers: 2,
      batchBudget: 400,
      batchMultiple: 2,
      buckets: { padding: 0.1 },
      epochs: 1,
    });
    const shapes = await source.shapes();
    const known = shapes!.map(({ fields }) => JSON.stringify((fields.x as ShapedArray).shape));
    let [places, filled] = [0, 0];
    for await (const batch of source) {
      const bound = batch.x.shape[1]!;
      if (batch.batchSize! % 2 === 0 && known.includes(JSON.stringify(batch.x.shape))) {
        places += batch.x.data.length;
        filled += [...batch.xLengths!.data].reduce((sum: number, n) => sum + Number(n), 0);
      } else expect(known.some((shape) => JSON.parse(shape)[1] === bound)).toBe(true);
    }
    expect(1 - filled / places).toBeLessThan(0.1);
    expect(known.length).toBeGreaterThan(1);
    expect(known.length).toBeLessThan(16);
    expect(source.batchSize).toBe(Math.max(...shapes!.map(({ batchSize }) => batchSize)));
    expect(shapes!.map(({ fields }) => fields.xLengths)).toEqual(
      shapes!.map(({ batchSize }) => ({ shape: [batchSize], dtype: "int32" })),
    );
  });

  test("hold nested fields, padding on another axis, static fields and counts", async () => {
    using source = loader({
      items: [1, 2, 3],
      workers: 1,
      batchSize: 3,
      shuffle: false,
      decode: (n: number) => ({
        spectrum: { data: Int16Array.from({ length: 2 * n }, (_, i) => 10 * n + i), shape: [2, n] },
        inner: {
          label: n % 2 === 0,
          mask: { data: new Uint8Array([1]), shape: [1], dtype: "bool" as const },
        },
        kind: "speech",
      }),
      pad: { spectrum: { axis: 1, value: -1, lengths: "frames" } },
      counts: ({ spectrum }) => ({ seconds: spectrum.shape[1]! / 100 }),
    });
    // Truth values are static: they may not differ.
    await expect(source.next()).rejects.toThrow(
      /inner.label is true in item 1 \(2\) and false in item 0 \(1\)/,
    );
    using same = loader({
      items: [1, 2, 3],
      workers: 1,
      batchSize: 3,
      shuffle: false,
      decode: (n: number) => ({
        spectrum: { data: Int16Array.from({ length: 2 * n }, (_, i) => 10 * n + i), shape: [2, n] },
        inner: { mask: { data: new Uint8Array([1]), shape: [1], dtype: "bool" as const } },
        kind: "speech",
      }),
      pad: { spectrum: { axis: 1, value: -1, lengths: "frames" } },
      counts: ({ spectrum }) => ({ seconds: spectrum.shape[1]! }),
    });
    const batch = await same.next();
    expect(batch.spectrum).toEqual({
      data: Int16Array.of(10, -1, -1, 11, -1, -1, 20, 21, -1, 22, 23, -1, 30, 31, 32, 33, 34, 35),
      shape: [3, 2, 3],
    });
    expect(batch.frames).toEqual({ data: Int32Array.of(1, 2, 3), shape: [3] });
    expect(batch.inner.mask).toEqual({ data: Uint8Array.of(1, 1, 1), shape: [3, 1], dtype: "bool" });
    expect(batch.kind).toBe("speech");
    expect(batch.counts).toEqual({ samples: 3, seconds: 6 });
  });

  test("left over at an epoch's end are joined to the next, kept or dropped", async () => {
    const items = itemsOf(5);
    const sizes = async (partial: "join" | "keep" | "drop", epochs: number) => {
      using source = loader({ ...base, items, workers: 1, batchSize: 2, epochs, partial });
      return (await all(source)).map(({ batchSize }) => batchSize);
    };
    expect(await sizes("join", 2)).toEqual([2, 2, 2, 2, 2]);
    expect(await sizes("keep", 2)).toEqual([2, 2, 1, 2, 2, 1]);
    expect(await sizes("drop", 2)).toEqual([2, 2, 2, 2]);
    using none = loader({ ...base, items, workers: 1, batchSize: 6, partial: "drop" });
    await expect(none.next()).rejects.toThrow(/5 items of an epoch fill no batch/);
  });

  test("of validation are all rows held out, never trained on and never augmented", async () => {
    const items = itemsOf(23);
    const decode = ({ id }: Item, { training }: { training: boolean }) => ({ id, training });
    using source = loader({
      ...base,
      pad: {},
      decode,
      items,
      workers: 2,
      batchSize: 4,
      validation: 0.3,
      epochs: 1,
    });
    const held = await all(source.validation());
    const trained = (await all(source)).flatMap(ids);
    expect(held.map(({ batchSize }) => batchSize)).toEqual([4, 3]);
    expect(held.every(({ training }) => training === false)).toBe(true);
    expect([...held.flatMap(ids), ...trained].sort((a, b) => a - b)).toEqual(items.map(({ id }) => id));
    expect((await all(source.validation())).map(plain)).toEqual(held.map(plain));
    expect(await all(source.validation(1))).toHaveLength(1);
  });

  test("draw the same numbers in every worker, others in each epoch", async () => {
    const items = itemsOf(6);
    const draw = ({ id }: Item, { random, seed }: { random: { uint32(): number }; seed: number }) => ({
      id,
      drawn: Int32Array.of(random.uint32() | 0, seed | 0),
    });
    const read = async (workers: number) => {
      using source = loader({
        ...base,
        pad: {},
        decode: draw,
        items,
        workers,
        batchSize: 6,
        epochs: 2,
        shuffle: false,
      });
      return (await all(source)).map((batch) => [...batch.drawn.data]);
    };
    const [first, second] = await read(0);
    expect(await read(2)).toEqual([first, second]);
    expect(new Set([...first!, ...second!]).size).toBe(24);
  });
});

describe("memory", () => {
  test("is bounded by prefetch: no more is decoded than asked for and ahead", async () => {
    let decoded = 0;
    const decode = async (id: number) => {
      decoded++;
      await sleep(1);
      return { id };
    };
    using source = loader({
      items: Array.from({ length: 1000 }, (_, i) => i),
      decode,
      workers: 0,
      batchSize: 4,
      prefetch: 3,
    });
    for (let given = 1; given <= 5; given++) {
      await source.next();
      await sleep(100);
      // Batches given out, made ahead and one under way, and the items of one more that are being decoded.
      expect(decoded).toBeGreaterThanOrEqual(4 * (given + 3));
      expect(decoded).toBeLessThanOrEqual(4 * (given + 3 + 1 + 1));
    }
  });
});

describe("errors", () => {
  const items = itemsOf(8);
  const failing = ({ id }: Item) => {
    if (id === 5) throw new RangeError("no such file: five.wav");
    return { id };
  };
  const options = { ...base, pad: {}, decode: failing, items, batchSize: 2, shuffle: false } as const;

  test.each([0, 2])("name the item, after the batches before it (%i workers)", async (workers) => {
    using source = loader({ ...options, workers });
    expect((await take(source, 2)).flatMap(ids)).toEqual([0, 1, 2, 3]);
    for (let again = 0; again < 2; again++)
      await expect(source.next()).rejects.toThrow(
        'item 5 ({"id":5,"length":1,"delay":0}) of epoch 0 cannot be decoded: RangeError: no such file: five.wav',
      );
    expect(source.position().samples).toBe(4);
  });

  test.each([0, 2])("can leave items out, counted and told (%i workers)", async (workers) => {
    const warnings: string[] = [];
    const { warn } = console;
    console.warn = (text: string) => void warnings.push(text);
    try {
      using source = loader({ ...options, workers, onError: "skip", epochs: 2 });
      expect((await all(source)).map(ids)).toEqual([
        [0, 1],
        [2, 3],
        [4, 6],
        [7, 0],
        [1, 2],
        [3, 4],
        [6, 7],
      ]);
      expect(source.skipped.count).toBe(2);
      expect(source.skipped.items.map(({ index, epoch }) => [index, epoch])).toEqual([
        [5, 0],
        [5, 1],
      ]);
      expect(source.columns()).toMatchObject({ data_skipped: 2 });
      expect(warnings).toHaveLength(1);
      expect(warnings[0]).toContain("five.wav");
    } finally {
      console.warn = warn;
    }
  });

  test("can be answered with another sample", async () => {
    using source = loader({
      ...options,
      workers: 1,
      onError: (_, { index }) => ({ id: 100 + index }),
      epochs: 1,
    });
    expect((await all(source)).flatMap(ids)).toEqual([0, 1, 2, 3, 4, 105, 6, 7]);
  });

  test("name a worker that ends with its item, and another takes its place", async () => {
    const decode = async ({ id }: Item) => {
      if (id === 3) process.exit(7);
      await new Promise((resolve) => setTimeout(resolve, 5));
      return { id };
    };
    using refusing = loader({ ...options, decode, workers: 2 });
    await refusing.next();
    await expect(refusing.next()).rejects.toThrow(/item 3 .*: the worker thread ended \(exit code 7\)/);
    using skipping = loader({ ...options, decode, workers: 2, onError: "skip", epochs: 3 });
    expect((await all(skipping)).flatMap(ids)).toEqual(Array(3).fill([0, 1, 2, 4, 5, 6, 7]).flat());
    expect(skipping.skipped.count).toBe(3);
  });

  test("name a worker that has no memory left", async () => {
    const decode = ({ id }: Item) => {
      const kept: number[][] = [];
      while (id === 2) kept.push(Array.from({ length: 100_000 }, (_, i) => i * 1.5));
      return { id };
    };
    using source = loader({ ...options, decode, workers: 1, workerMemory: 30, onError: "skip", epochs: 1 });
    expect((await all(source)).flatMap(ids)).toEqual([0, 1, 3, 4, 5, 6, 7]);
    expect(source.skipped.items[0]!.message).toContain("no memory left");
  });

  test("say what is no sample, and where samples differ", async () => {
    const next = (decode: (item: Item) => object, more: object = {}) => {
      const source = opened(
        loader({ ...base, pad: {}, items, workers: 1, batchSize: 4, shuffle: false, ...more, decode }),
      );
      return source.next();
    };
    await expect(next(() => [1])).rejects.toThrow(/item 0 .* decode gave a value of class Array/);
    await expect(next(() => ({ a: new Map() }))).rejects.toThrow(/a is a value of class Map/);
    await expect(next(() => ({ a: { data: new Float32Array(3), shape: [2] } }))).rejects.toThrow(
      /3 elements and the shape \[2\]/,
    );
    await expect(next(() => ({ batchSize: 1 }))).rejects.toThrow(/a field is named batchSize/);
    await expect(next(({ length }) => ({ a: new Float32Array(length) }))).rejects.toThrow(
      /a is \[3\] in item 1 .* and \[1\] in item 0/,
    );
    await expect(
      next(({ id }) => ({ a: id === 2 ? new Int8Array(1) : new Float32Array(1) })),
    ).rejects.toThrow(/a is int8 in item 2 .* and float32 in item 0/);
    await expect(next(({ id }) => (id === 1 ? { a: 1, b: 2 } : { a: 1 }))).rejects.toThrow(/differ in b/);
    await expect(next(() => ({ id: 0.5 }))).rejects.toThrow(/id is 0.5, and dtypes says int32/);
    await expect(next(decode, { pad: { y: true } })).rejects.toThrow(
      /pad names y, which decode does not give/,
    );
    await expect(next(decode, { pad: { x: true }, buckets: { bounds: [2, 4] } })).rejects.toThrow(
      /item 2 .* is longer than the last bucket takes, 4/,
    );
  });

  test("of options are refused with the fix", () => {
    const make = (options: object) => () => loader({ items, decode: failing, batchSize: 2, ...options });
    expect(make({ batchsize: 3 })).toThrow(/no option batchsize/);
    expect(make({ batchSize: 0 })).toThrow("batchSize is 0.");
    expect(make({ batchSize: undefined })).toThrow("There is no batchSize.");
    expect(make({ workers: -1 })).toThrow("workers is -1.");
    expect(make({ items: "files" })).toThrow("items is of type string.");
    expect(make({ items: [] })).toThrow("There are 0 items");
    expect(make({ decode: 3 })).toThrow("decode is 3.");
    expect(make({ buckets: { bounds: [3] } })).toThrow("buckets need a padded field.");
    expect(make({ pad: { x: true }, buckets: { bounds: [3, 2] } })).toThrow("buckets.bounds are [3,2].");
    expect(make({ shard: { index: 2, count: 2 } })).toThrow(/shard is/);
    expect(make({ items: () => items, validation: 0.1 })).toThrow("validation is a share of a stream.");
  });
});

describe("decode", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "aronnax-loader-"));
    writeFileSync(
      join(folder, "decode.mjs"),
      "const k = 3;\nexport const decode = (n) => ({ y: n * k });\nexport const other = (n) => ({ y: n });\n",
    );
    writeFileSync(join(folder, "broken.mjs"), "throw new Error('broken at the top');\n");
    writeFileSync(join(folder, "decode.ts"), "export const decode = (n: number) => ({ y: n });\n");
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const options = { items: [1, 2, 3], batchSize: 3, shuffle: false } as const;
  const ys = async (source: Loader<{ y?: ShapedArray }>) => [...(await opened(source).next()).y!.data];
  type Ys = { y?: ShapedArray };

  test.each([0, 1])("can be a module's export (%i workers)", async (workers) => {
    const of = (name: string, more: Partial<LoaderOptions<number, never>> & { export?: string } = {}) =>
      loader<Ys>({ ...options, workers, decode: { module: join(folder, name), ...more } });
    expect(await ys(of("decode.mjs"))).toEqual([3, 6, 9]);
    expect(await ys(of("decode.mjs", { export: "other" }))).toEqual([1, 2, 3]);
    await expect(of("decode.mjs", { export: "nix" }).next()).rejects.toThrow(/exports no function nix/);
    await expect(of("broken.mjs").next()).rejects.toThrow(/broken at the top/);
    const measured = { pad: { y: true }, buckets: {} } as const;
    await expect(of("broken.mjs", measured as never).next()).rejects.toThrow(/broken at the top/);
    await expect(of("missing.mjs").next()).rejects.toThrow(/there is no file .*missing.mjs/);
    if (process.features.typescript) expect(await ys(of("decode.ts"))).toEqual([1, 2, 3]);
    else await expect(of("decode.ts").next()).rejects.toThrow(/TypeScript.* which Node .* does not run/);
    await expect(loader<Ys>({ ...options, decode: { module: "cell://notebook/3" } }).next()).rejects.toThrow(
      /is no file/,
    );
  });

  test("that is self-contained may be any kind of function, and import", async () => {
    const context = { add: 1, map: new Map([[2, 20]]) };
    const make = <S extends object>(
      decode: (n: number, info: { context: typeof context }) => S | Promise<S>,
    ) => ys(loader({ ...options, workers: 1, context, decode }) as Loader<Ys>);
    expect(await make((n, { context: { add } }) => ({ y: n + add }))).toEqual([2, 3, 4]);
    expect(await make((n, { context: { map } }) => ({ y: map.get(n) ?? Math.sqrt(n * n) }))).toEqual([
      1, 20, 3,
    ]);
    const holder = {
      decode(n: number) {
        function twice(k: number): number {
          return k > 4 ? k : twice(k * 2);
        }
        const { length, ...rest } = [twice(n)];
        for (const [key, value] of Object.entries(rest))
          if (key === "0") return { y: (value as number) + length };
        throw new Error("never");
      },
      async imports(n: number) {
        const { join } = await import("node:path");
        return { y: join("a", String(n)).length };
      },
    };
    expect(await make(holder.decode)).toEqual([9, 9, 7]);
    expect(await make(holder.imports)).toEqual([3, 3, 3]);
  });

  test("that takes names from around it is refused by their names", async () => {
    const [scale, offset] = [2, 3];
    const refused = (decode: (n: number) => object, pattern: RegExp) =>
      expect(opened(loader({ ...options, workers: 1, decode })).next()).rejects.toThrow(pattern);
    await refused(
      (n) => ({ y: n * scale + offset }),
      /takes `scale`, `offset` from around it, which do not exist/,
    );
    await refused(function decode(n) {
      const inner = () => ({ y: n + scale });
      return inner();
    }, /decode takes `scale` from around it/);
    await refused(ids.bind(null) as never, /native or bound function/);
    // What is only named, and not taken, is not.
    expect(
      await ys(
        loader({
          ...options,
          workers: 1,
          decode: (n: number) => ({ scale: 1, y: { scale: n }.scale }),
        }) as Loader<Ys>,
      ),
    ).toEqual([1, 2, 3]);
    // In this thread it may.
    expect(
      await ys(loader({ ...options, workers: 0, decode: (n: number) => ({ y: n * scale }) }) as Loader<Ys>),
    ).toEqual([2, 4, 6]);
  });

  test("gets constants that can be copied, and nothing else", async () => {
    const source = loader({
      ...options,
      workers: 1,
      context: { f: () => 1 },
      decode: (n: number) => ({ y: n }),
    });
    await expect(source.next()).rejects.toThrow(/context cannot be copied/);
  });

  test("may write into what it returned before", async () => {
    const read = async (workers: number) => {
      const decode = (n: number) => {
        const shared = (globalThis as { shared?: Float32Array }).shared ?? new Float32Array(2);
        (globalThis as { shared?: Float32Array }).shared = shared;
        return { y: shared.fill(n) };
      };
      return ys(loader({ ...options, workers, decode }) as Loader<Ys>);
    };
    expect(await read(1)).toEqual([1, 1, 2, 2, 3, 3]);
    expect(await read(0)).toEqual([1, 1, 2, 2, 3, 3]);
  });
});

describe("a loader", () => {
  test("stops waiting at once when it is told to", async () => {
    const abort = new AbortController();
    const items = itemsOf(4, () => 30_000);
    using source = loader({ ...base, items, workers: 1, batchSize: 4, signal: abort.signal });
    const waiting = source.next();
    setTimeout(() => abort.abort(new Error("enough")), 20);
    const before = performance.now();
    await expect(waiting).rejects.toThrow("enough");
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(source.position().samples).toBe(0);
  });

  test("is interrupted by the notebook, and goes on with the same batch", async () => {
    const items = itemsOf(4, () => 200);
    using source = loader({ ...base, items, workers: 1, batchSize: 4, shuffle: false });
    await source.prepare();
    const notebook = interruptible();
    try {
      const waiting = source.next();
      setTimeout(notebook.interrupt, 20);
      await expect(waiting).rejects.toThrow("Waiting for a batch was stopped");
      expect(notebook.observers).toBe(0);
    } finally {
      notebook.end();
    }
    expect(source.position().samples).toBe(0);
    expect(ids(await source.next())).toEqual([0, 1, 2, 3]);
  });

  test("tells how long it was waited for, and how much was read", async () => {
    using source = loader({ ...base, items: itemsOf(4, () => 30), workers: 1, batchSize: 2, prefetch: 1 });
    await source.next();
    expect(source.columns().data_wait_seconds).toBeGreaterThan(0.05);
    await take(source, 2);
    expect(source.progress()).toEqual([{ name: "items", weight: 1, sequences: 6, epochs: 1.5 }]);
  });

  test("can be used again after it was closed", async () => {
    const source = opened(loader({ ...base, items: itemsOf(6), workers: 2, batchSize: 2, shuffle: false }));
    expect(ids(await source.next())).toEqual([0, 1]);
    source.close();
    expect(ids(await source.next())).toEqual([2, 3]);
    const waiting = source.next();
    await expect(source.next()).resolves.toBeDefined();
    await waiting;
  });
});
