import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as a from "aronnax";
import fc from "fast-check";
import { decode, decodeApng } from "fast-png";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readHistogram } from "../../../core/src/media/histogram.js";

const { media } = a;
const python = process.env.ARONNAX_PYTHON ?? new URL("../../../.venv/bin/python", import.meta.url).pathname;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "aronnax-media-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const bundleOf = (shown: object) =>
  (shown as { [key: symbol]: () => Promise<Record<string, unknown>> })[Symbol.for("Jupyter.display")]!();

/** The pixels of a picture, as an independent decoder reads them. */
async function pixels(value: a.media.MediaValue, options?: a.media.ImageOptions) {
  const { width, height, channels, data } = decode(await media.image(value, options).file);
  return { width, height, channels, data: Array.from(data) };
}

describe("images", () => {
  test("of floats are scaled from [0, 1], cut beyond it, and magenta where they are NaN", async () => {
    const values = Float32Array.of(0, 0.5, 1, -3, 2, 0.2);
    expect(await pixels({ data: values, shape: [2, 3] })).toEqual({
      width: 3,
      height: 2,
      channels: 1,
      data: [0, 128, 255, 0, 255, 51],
    });
    const broken = media.image(a.tensor([[0, Number.NaN, Number.POSITIVE_INFINITY]]));
    expect(Array.from(decode(await broken.file).data)).toEqual([0, 0, 0, 255, 0, 255, 255, 255, 255]);
    expect((await bundleOf(broken))["text/plain"]).toBe(
      "image 3 × 1, RGB; 1 NaN (magenta); 1 outside the range",
    );
  });

  test("take a range of one's own, or that of the finite numbers", async () => {
    const x = a.tensor([[-1, 0, 1, Number.NEGATIVE_INFINITY]]);
    expect((await pixels(x, { range: [-1, 1] })).data).toEqual([0, 128, 255, 0]);
    expect((await pixels(x, { range: "auto" })).data).toEqual([0, 128, 255, 0]);
    expect((await pixels(a.tensor([[7, 7]]), { range: "auto" })).data).toEqual([0, 0]);
    expect((await pixels(a.tensor([[Number.NaN]]), { range: "auto" })).data).toEqual([255, 0, 255]);
  });

  test("of bytes, other integers and booleans are what they are", async () => {
    for (const [data, expected] of [
      [Uint8Array.of(0, 7, 255), [0, 7, 255]],
      [Int32Array.of(-4, 7, 300), [0, 7, 255]],
    ] as const) {
      expect((await pixels({ data, shape: [1, 3] })).data).toEqual(expected);
    }
    expect((await pixels(a.tensor([[true, false]]))).data).toEqual([255, 0]);
    expect((await pixels(a.full([1, 2], 0.5, { dtype: "bfloat16" }))).data).toEqual([128, 128]);
  });

  test("in colour come back from another decoder as they were", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom(1, 3, 4),
        fc.infiniteStream(fc.nat(255)),
        async (height, width, channels, stream) => {
          const data = Uint8Array.from({ length: height * width * channels }, () => stream.next().value);
          expect(await pixels({ data, shape: [height, width, channels] })).toEqual({
            width,
            height,
            channels,
            data: Array.from(data),
          });
        },
      ),
      { numRuns: 40 },
    );
  });

  test("of a batch are a grid, channels may come first, small ones may be enlarged", async () => {
    const three = a.stack([a.ones([2, 2, 1]), a.full([2, 2, 1], 0.2), a.full([2, 2, 1], 0.6)]);
    const grid = await pixels(three);
    expect([grid.width, grid.height]).toEqual([6, 6]);
    expect(grid.data.slice(0, 6)).toEqual([255, 255, 0, 0, 51, 51]);
    expect(grid.data.slice(24, 30)).toEqual([153, 153, 0, 0, 0, 0]);
    expect(await pixels(three, { count: 2, columns: 2 })).toMatchObject({ width: 6, height: 2 });
    const first = a.tensor(Float32Array.of(1, 0, 0, 1, 0, 0), { shape: [3, 1, 2] });
    expect((await pixels(first, { layout: "chw" })).data).toEqual([255, 0, 0, 0, 255, 0]);
    expect(await pixels(a.tensor([[false, true]]), { scale: 2 })).toEqual({
      width: 4,
      height: 2,
      channels: 1,
      data: [0, 0, 255, 255, 0, 0, 255, 255],
    });
  });

  test("that are too large are reduced by means", async () => {
    const wide = a.reshape(a.arange(0, 4100, 1), [1, 4100]);
    const { width, height, data } = await pixels(wide, { range: [0, 4100] });
    expect([width, height]).toEqual([1366, 1]);
    expect(data[0]).toBe(0);
    expect(data[1000]).toBe(Math.round((3001 / 4100) * 255));
  });

  test("are taken at once: the Tensor may be freed", async () => {
    const x = a.tensor([[1, 0]], { dtype: "float32" });
    await x.wait();
    const shown = media.image(x);
    x.dispose();
    expect(Array.from(decode(await shown.file).data)).toEqual([255, 0]);
  });

  test("of another shape are refused with the fix", () => {
    expect(() => media.image(a.zeros([4]))).toThrow(/image of shape \[4\]/);
    expect(() => media.image(a.zeros([3, 8, 8]))).toThrow(/image of shape \[3, 8, 8\]/);
    expect(() => media.image(a.zeros([0, 8]))).toThrow(/it is empty/);
    expect(() => media.image(a.zeros([2, 2]), { scale: 0 })).toThrow(/scale is 0/);
    expect(() => media.image({} as never)).toThrow(/image of object/);
    expect(() =>
      a.jit((x: a.Tensor) => {
        media.image(x);
        return x;
      })(a.zeros([2, 2])),
    ).toThrow(a.TraceError);
  });
});

describe("videos", () => {
  test("are animated PNG, frame for frame", async () => {
    const frames = Uint8Array.from({ length: 3 * 4 * 5 * 3 }, (_, i) => (i * 37) % 256);
    const file = await media.video({ data: frames, shape: [3, 4, 5, 3] }, { fps: 4 }).file;
    const read = decodeApng(file);
    expect(read.frames.map(({ delayNumber, delayDenominator }) => delayNumber / delayDenominator)).toEqual([
      0.25, 0.25, 0.25,
    ]);
    expect(read.frames.flatMap(({ data }) => Array.from(data))).toEqual(Array.from(frames));
    expect(() => media.video(a.zeros([4, 4, 3]))).toThrow(/video of shape \[4, 4, 3\]/);
  });
});

describe("audio", () => {
  test("is WAV that Python reads", async () => {
    const samples = Float32Array.of(0, 0.5, -1, 3, Number.NaN, 1);
    const shown = media.audio({ data: samples, shape: [3, 2] }, { sampleRate: 16_000 });
    const file = join(folder, "sound.wav");
    writeFileSync(file, await shown.file);
    const read = execFileSync(
      python,
      [
        "-c",
        "import sys, wave, struct, json; w = wave.open(sys.argv[1]); d = w.readframes(99);" +
          "print(json.dumps([w.getnchannels(), w.getframerate(), w.getsampwidth(), struct.unpack(f'<{len(d)//2}h', d)]))",
        file,
      ],
      { encoding: "utf8" },
    );
    expect(JSON.parse(read)).toEqual([2, 16_000, 2, [0, 16384, -32767, 32767, 0, 32767]]);
    const bundle = await bundleOf(shown);
    expect(bundle["text/plain"]).toBe(
      "audio, 0.00 s, 2 channels, 16000 Hz; 1 NaN (silent); 1 outside [-1, 1]",
    );
    expect(bundle["text/html"]).toContain('<audio controls src="data:audio/wav;base64,UklGR');
  });

  test("of int16 is what it is, and floats may be made as loud as can be", async () => {
    const raw = await media.audio(Int16Array.of(1, -2, 32767), { sampleRate: 8000 }).file;
    expect(Array.from(new Int16Array(raw.slice(44).buffer))).toEqual([1, -2, 32767]);
    const loud = await media.audio(a.tensor([0.1, -0.2]), { sampleRate: 8000, normalize: true }).file;
    expect(Array.from(new Int16Array(loud.slice(44).buffer))).toEqual([16384, -32767]);
    expect(() => media.audio(a.zeros([2, 100]), { sampleRate: 8000 })).toThrow(/audio of shape \[2, 100\]/);
    expect(() => media.audio(a.zeros([9]), {} as never)).toThrow(/sampleRate is undefined/);
  });
});

describe("histograms", () => {
  test("count as a loop does", async () => {
    const number = fc.oneof(
      fc.float({ min: -(2 ** 100), max: 2 ** 100 }),
      fc.integer({ min: -9, max: 9 }),
      fc.constantFrom(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(number, { minLength: 1, maxLength: 200 }),
        fc.integer({ min: 1, max: 9 }),
        async (numbers, bins) => {
          const data = Float32Array.from(numbers);
          const { counts, edges, count, nan, infinite } = await readHistogram(data, { bins });
          const finite = data.filter(Number.isFinite);
          expect([count, nan, infinite]).toEqual([
            finite.length,
            data.filter(Number.isNaN).length,
            data.length - finite.length - data.filter(Number.isNaN).length,
          ]);
          expect(counts.reduce((sum, n) => sum + n, 0)).toBe(count);
          expect(edges).toHaveLength(bins + 1);
          if (count === 0) return;
          const span = Math.max(...finite) - Math.min(...finite);
          // Numbers may be beyond a border by rounding in float32.
          const slack = span * 1e-5;
          let below = 0;
          for (const [i, n] of counts.entries()) {
            below += n;
            const edge = edges[i + 1]!;
            expect(below).toBeGreaterThanOrEqual(finite.filter((x) => x < edge - slack).length);
            expect(below).toBeLessThanOrEqual(finite.filter((x) => x <= edge + slack).length);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
