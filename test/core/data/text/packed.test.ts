import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Batch,
  bigramCrossEntropy,
  byteTokenizer,
  packed,
  permutation,
  Sfc32,
  streamed,
  type TextSource,
  unigramCrossEntropy,
} from "../../../../core/src/data/text/index.js";

import { interruptible } from "../../../support/interrupt.js";

const tokenizer = byteTokenizer();
const base = { tokenizer, sequenceLength: 8, batchSize: 3 };
const texts = Array.from({ length: 40 }, (_, i) => `document ${i}: ${"abcdefghij".slice(0, i % 10)}`);

async function take(source: { next(): Promise<Batch> }, count: number): Promise<Batch[]> {
  const out: Batch[] = [];
  for (let i = 0; i < count; i++) out.push(await source.next());
  return out;
}

function rows({ inputs, sequenceLength }: Batch): string[] {
  return Array.from({ length: inputs.length / sequenceLength }, (_, i) =>
    inputs.subarray(i * sequenceLength, (i + 1) * sequenceLength).join(),
  );
}

describe("packed text", () => {
  test("gives each token as a target once an epoch, in order without shuffling", async () => {
    const source = packed(texts, { ...base, batchSize: 1, shuffle: false });
    const stream = Array.from(await source.trainTokens());
    const sequences = Math.floor((stream.length - 1) / 8);
    const inputs: number[] = [];
    const targets: number[] = [];
    for (const batch of await take(source, sequences)) {
      inputs.push(...batch.inputs);
      targets.push(...batch.targets);
    }
    expect(inputs).toEqual(stream.slice(0, sequences * 8));
    expect(targets).toEqual(stream.slice(1, sequences * 8 + 1));
    expect(Array.from((await source.next()).inputs)).toEqual(stream.slice(0, 8));
  });

  test("shuffles each epoch anew, and gives every sequence once an epoch", async () => {
    const source = packed(texts, { ...base, batchSize: 1 });
    const sequences = Math.floor(((await source.trainTokens()).length - 1) / 8);
    const first = (await take(source, sequences)).flatMap(rows);
    const second = (await take(source, sequences)).flatMap(rows);
    expect(first).not.toEqual(second);
    expect([...first].sort()).toEqual([...second].sort());
    const again = packed(texts, { ...base, batchSize: 1 });
    expect((await take(again, sequences)).flatMap(rows)).toEqual(first);
    const other = packed(texts, { ...base, batchSize: 1, seed: 1 });
    expect((await take(other, sequences)).flatMap(rows)).not.toEqual(first);
  });

  test("continues from a position bit for bit, also across epochs and mixtures", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(80),
        fc.nat(20),
        fc.nat(1000),
        fc.boolean(),
        async (before, after, seed, mixed) => {
          const make = () =>
            packed(
              mixed
                ? [
                    { source: texts.slice(0, 9), weight: 0.3 },
                    { source: texts.slice(9), weight: 1 },
                  ]
                : texts,
              { ...base, seed, validation: 0.1, segments: true },
            );
          const source = make();
          await source.prepare();
          const passed = await take(source, before);
          const position = JSON.parse(JSON.stringify(passed.at(-1)?.after ?? source.position()));
          const expected = await take(source, after);
          const resumed = make();
          await resumed.restore(position);
          expect(await take(resumed, after)).toEqual(expected);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("refuses the position of other data", async () => {
    const source = packed(texts, base);
    await source.next();
    const position = source.position();
    for (const other of [
      packed(texts.slice(1), base),
      packed(texts, { ...base, seed: 2 }),
      packed(texts, { ...base, sequenceLength: 4 }),
      packed(texts, { ...base, validation: 0.2 }),
    ]) {
      await expect(other.restore(position)).rejects.toThrow(/belongs to other data/);
    }
    // The batch size may change: a position counts sequences.
    await expect(packed(texts, { ...base, batchSize: 2 }).restore(position)).resolves.toBeUndefined();
  });

  test("keeps whole documents for validation, and never trains on them", async () => {
    const source = packed(texts, { ...base, batchSize: 1, validation: 0.25 });
    const held = tokenizer
      .decode(await source.validationTokens())
      .split("<|endoftext|>")
      .slice(0, -1);
    const trained = tokenizer
      .decode(await source.trainTokens())
      .split("<|endoftext|>")
      .slice(0, -1);
    expect([...held, ...trained].sort()).toEqual([...texts].sort());
    const fraction = (await source.validationTokens()).length / texts.join("|").length;
    expect(fraction).toBeGreaterThanOrEqual(0.25);
    expect(fraction).toBeLessThan(0.32);
    const collect = async () => {
      const out: string[] = [];
      for await (const batch of source.validation()) out.push(...rows(batch));
      return out;
    };
    const first = await collect();
    expect(first.length).toBe(Math.floor(((await source.validationTokens()).length - 1) / 8));
    expect(await collect()).toEqual(first);
    const two: Batch[] = [];
    for await (const batch of source.validation(2)) two.push(batch);
    expect(two).toHaveLength(2);
  });

  test.each([{ packing: "concatenate" }, { packing: "best-fit" }] as const)(
    "gives all rows of validation whatever the batch size, packing by $packing",
    async ({ packing }) => {
      const all = async (batchSize: number) => {
        const source = packed(texts, { ...base, batchSize, packing, validation: 0.25 });
        const sizes: number[] = [];
        const out: string[] = [];
        for await (const batch of source.validation()) {
          expect(batch.inputs.length).toBe(batch.batchSize * batch.sequenceLength);
          sizes.push(batch.batchSize);
          out.push(...rows(batch));
        }
        return { sizes, rows: out };
      };
      const one = await all(1);
      for (const batchSize of [2, 3, 4, 1000]) {
        const { sizes, rows } = await all(batchSize);
        expect(rows).toEqual(one.rows);
        expect(sizes.slice(0, -1).every((size) => size === batchSize)).toBe(true);
        expect(sizes.at(-1)).toBe(one.rows.length % batchSize || batchSize);
      }
    },
  );

  test("can be read in a loop", async () => {
    const [source, other] = [packed(texts, base), packed(texts, base)];
    const read: Batch[] = [];
    for await (const batch of source) if (read.push(batch) === 4) break;
    expect(read).toEqual(await take(other, 4));
    expect(source.position()).toEqual(other.position());
  });

  test("keeps the end of a single document for validation", async () => {
    const source = packed(["abcdefghij".repeat(50)], { ...base, validation: 0.1 });
    expect(await source.validationTokens()).toHaveLength(51);
    expect(await source.trainTokens()).toHaveLength(450);
  });

  test("takes validation text of its own", async () => {
    const source = packed(texts, { ...base, validation: ["held out ".repeat(20)] });
    expect(tokenizer.decode(await source.validationTokens())).toBe(`${"held out ".repeat(20)}<|endoftext|>`);
  });

  test("tells how much of each source was read", async () => {
    const source = packed(
      [
        { source: ["a".repeat(100)], weight: 3 },
        { source: ["b".repeat(400)], weight: 1 },
      ],
      { ...base, batchSize: 8 },
    );
    expect(source.progress()).toEqual([]);
    await take(source, 4);
    // 12 sequences in the first one, 50 in the second.
    expect(source.progress()).toEqual([
      { name: "documents", weight: 3, sequences: 24, epochs: 2 },
      { name: "documents", weight: 1, sequences: 8, epochs: 8 / 50 },
    ]);
    const streaming = streamed([{ source: ["a".repeat(100)], weight: 1 }], { ...base, batchSize: 8 });
    await take(streaming, 4);
    expect(streaming.progress()).toEqual([{ name: "documents", weight: 1, sequences: 32, epochs: 2 }]);
    streaming.close();
  });

  test("stops tokenizing when the notebook interrupts the cell", async () => {
    const notebook = interruptible();
    try {
      const endless: TextSource = {
        name: "documents",
        size: undefined,
        async *documents() {
          for (let i = 1; ; i++) yield { text: "abcdefghij".repeat(300), consumed: i };
        },
      };
      const source = packed(endless, base);
      const onProgress = (): void => notebook.interrupt();
      await expect(source.prepare({ onProgress })).rejects.toThrow(/tokenizing documents was stopped/);
      expect(notebook.observers).toBe(0);
    } finally {
      notebook.end();
    }
  });

  test("mixes by weight to within one sequence at any moment", async () => {
    const source = packed(
      [
        { source: ["a".repeat(100)], weight: 3 },
        { source: ["b".repeat(400)], weight: 1 },
      ],
      { ...base, batchSize: 1 },
    );
    let a = 0;
    for (let n = 1; n <= 200; n++) {
      if ((await source.next()).inputs.filter((id) => id === 97).length > 4) a++;
      expect(Math.abs(a - 0.75 * n)).toBeLessThanOrEqual(1);
    }
  });

  test.each([
    ["packed", packed],
    ["streamed", streamed],
  ] as const)("gives several ranks the rows of one batch: %s", async (_, make) => {
    const whole = await take(make(texts, { ...base, batchSize: 6 }), 10);
    const ranks = [0, 1, 2].map((rank) => make(texts, { ...base, batchSize: 2, shard: { rank, count: 3 } }));
    for (const batch of whole) {
      const parts = await Promise.all(ranks.map((rank) => rank.next()));
      expect(parts.flatMap(rows)).toEqual(rows(batch));
      for (const part of parts) expect(part.after).toEqual(batch.after);
    }
    expect(() => make(texts, { ...base, shard: { rank: 2, count: 2 } })).toThrow(/shard .* 2 of 2/);
  });

  test("numbers the documents in a sequence and leaves out targets across their border", async () => {
    const source = packed(["abc", "de", "fghijklmnop"], {
      ...base,
      batchSize: 1,
      segments: true,
      shuffle: false,
    });
    const { inputs, segments, positions, weights } = await source.next();
    expect(tokenizer.decode(inputs)).toBe("abc<|endoftext|>de<|endoftext|>f");
    expect(Array.from(segments!)).toEqual([1, 1, 1, 1, 2, 2, 2, 3]);
    expect(Array.from(positions!)).toEqual([0, 1, 2, 3, 0, 1, 2, 0]);
    expect(Array.from(weights!)).toEqual([1, 1, 1, 0, 1, 1, 0, 1]);
  });

  test("refuses bad options and too little text by name", async () => {
    expect(() => packed(texts, { ...base, sequenceLength: 0 })).toThrow(/sequenceLength .* it is 0/);
    expect(() => packed(texts, { ...base, batchSize: 1.5 })).toThrow(/batchSize .* it is 1.5/);
    expect(() => packed([{ source: texts, weight: 0 }], base)).toThrow(/weight of part 0/);
    for (const [wrong, message] of [
      [{ shufle: true }, /no option shufle/],
      [{ tokenizer: undefined }, /no tokenizer/],
      [{ seed: "a" }, /seed must be an integer; it is "a"/],
      [{ segments: "yes" }, /segments must be true or false/],
      [{ special: "parsed" }, /special must be "parse" or "text"/],
    ] as const)
      expect(() => packed(texts, { ...base, ...wrong } as typeof base)).toThrow(message);
    expect(() => packed([{ source: texts }] as never, base)).toThrow(/weight of part 0 .* it is undefined/);
    await expect(packed(5 as never, base).next()).rejects.toThrow(/A source of text is number/);
    await expect(packed("corpus.json", base).next()).rejects.toThrow(/corpus.json holds records/);
    await expect(packed(["hi"], base).next()).rejects.toThrow(/3 tokens: 0 sequences of 8, and 1 is needed/);
    await expect(packed(texts, { ...base, validation: 1.5 }).next()).rejects.toThrow(
      /validation .* it is 1.5/,
    );
    await expect(packed(texts, { ...base, validation: ["hi"] }).next()).rejects.toThrow(
      /validation split .* 0 sequences of 8, and 1 is needed/,
    );
  });

  test("can be prepared again after it was stopped", async () => {
    const source = packed(texts, base);
    const abort = new AbortController();
    abort.abort();
    await expect(source.prepare({ signal: abort.signal })).rejects.toThrow(/abort/i);
    await expect(source.prepare()).resolves.toBeUndefined();
  });
});

describe("random numbers", () => {
  test("are those of sfc32 as published", () => {
    // PractRand's sfc32 with the state a, b, c = 1, 2, 3 and counter 4, worked out with 32-bit arithmetic by BigInt.
    const random = new Sfc32([0]);
    Object.assign(random, { a: 1, b: 2, c: 3, counter: 4 });
    const mask = 0xffffffffn;
    let [a, b, c, counter] = [1n, 2n, 3n, 4n];
    for (let i = 0; i < 1000; i++) {
      const sum = (a + b + counter) & mask;
      counter = (counter + 1n) & mask;
      a = b ^ (b >> 9n);
      b = (c + (c << 3n)) & mask;
      c = ((((c << 21n) & mask) | (c >> 11n)) + sum) & mask;
      expect(random.uint32()).toBe(Number(sum));
    }
  });

  test("do not change: runs must be repeatable with later versions", () => {
    expect(Array.from(permutation(10, [7, 0, 3]))).toMatchInlineSnapshot(`
      [
        0,
        8,
        3,
        5,
        4,
        7,
        1,
        6,
        9,
        2,
      ]
    `);
  });

  test("are uniform below a bound", () => {
    const random = new Sfc32([1]);
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) counts[random.below(7)]!++;
    // Chi-squared with 6 degrees of freedom: above 30 once in 25,000.
    expect(counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0)).toBeLessThan(30);
  });

  test("permute without loss", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 300 }), fc.integer(), (count, seed) => {
        const order = Array.from(permutation(count, [seed]));
        expect([...order].sort((x, y) => x - y)).toEqual(Array.from({ length: count }, (_, i) => i));
      }),
    );
  });
});

describe("n-gram baselines", () => {
  const [a, b] = [0, 1];

  test("equal a calculation by hand", () => {
    // Counts of a a b a: a 3, b 1; pairs aa 1, ab 1, ba 1. Evaluated: a b b, that is, P(b) P(b).
    const train = [a, a, b, a];
    const unigram = unigramCrossEntropy(train, [a, b, b], { vocabSize: 2, smoothing: 1 });
    expect(unigram).toBeCloseTo(-Math.log(2 / 6), 12);
    const bigram = bigramCrossEntropy(train, [a, b, b], { vocabSize: 2, smoothing: 1 });
    expect(bigram).toBeCloseTo(-(Math.log(2 / 4) + Math.log(1 / 3)) / 2, 12);
  });

  test("are the logarithm of the vocabulary for text without any pattern", () => {
    const random = new Sfc32([3]);
    const tokens = Array.from({ length: 60_000 }, () => random.below(8));
    const options = { vocabSize: 8 };
    expect(unigramCrossEntropy(tokens.slice(0, 50_000), tokens.slice(50_000), options)).toBeCloseTo(
      Math.log(8),
      2,
    );
    expect(bigramCrossEntropy(tokens.slice(0, 50_000), tokens.slice(50_000), options)).toBeCloseTo(
      Math.log(8),
      2,
    );
  });

  test("refuse ids outside the vocabulary", () => {
    expect(() => unigramCrossEntropy([0, 9], [0, 1], { vocabSize: 2 })).toThrow(/Token id 9 at 1/);
    expect(() => bigramCrossEntropy([0], [0, 1], { vocabSize: 2 })).toThrow(/at least 2 tokens/);
  });
});
