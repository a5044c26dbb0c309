import "../../support/runtime.js";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { crc32, gunzipSync } from "node:zlib";
import { image } from "aronnax";
import { beforeAll, describe, expect, it, test } from "vitest";

const folder = fileURLToPath(new URL("../../fixtures/image/", import.meta.url));
// Made by test/fixtures/image/make.py with Pillow and transformers.
const reference = JSON.parse(gunzipSync(await readFile(join(folder, "pictures.json.gz"))).toString()) as {
  resized: { filter: image.Resampling; size: [number, number]; data: string }[];
  decoded: Record<string, { size: [number, number]; data: string }>;
  processed: Record<string, { config: image.ProcessorConfig; shape: number[]; data: string[] }>;
};
const bytes = (text: string) => new Uint8Array(Buffer.from(text, "base64"));
const file = (name: string) => join(folder, name);

let plain: image.Picture;
let tall: image.Picture;
beforeAll(async () => {
  [plain, tall] = await Promise.all([image.decode(file("plain.png")), image.decode(file("tall.png"))]);
});

/** The largest and the mean difference of bytes. */
function difference(a: Uint8Array, b: Uint8Array): { most: number; mean: number } {
  expect(a.length).toBe(b.length);
  let [most, sum] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    const by = Math.abs(a[i]! - b[i]!);
    most = Math.max(most, by);
    sum += by;
  }
  return { most, mean: sum / a.length };
}

describe("pictures are decoded as Pillow decodes them", () => {
  test.each(Object.entries(reference.decoded))("%s", async (name, { size, data }) => {
    const picture = await image.decode(file(name));
    expect([picture.width, picture.height]).toEqual(size);
    const { most, mean } = difference(picture.data, bytes(data));
    // Lossless files to the bit, but 16 bits, which are rounded; JPEG's decoders round differently; CMYK goes through a profile here.
    if (name === "cmyk.jpg") expect(mean).toBeLessThan(40);
    else if (name.endsWith(".jpg")) expect(most).toBeLessThanOrEqual(4);
    else expect(most).toBeLessThanOrEqual(name === "deep.png" ? 1 : 0);
  });

  it("takes bytes as well as a path", async () => {
    const picture = await image.decode(await readFile(file("plain.png")));
    expect(picture).toEqual(plain);
  });
});

test.each(reference.resized)("resizes to the bytes that Pillow gives: $filter, $size", (expected) => {
  const { filter, size, data } = expected;
  expect(difference(image.resize(plain, ...size, filter).data, bytes(data)).most).toBe(0);
});

describe("image processors", () => {
  test.each(Object.entries(reference.processed))(
    "give what transformers' give: %s",
    async (_, { config, shape, data }) => {
      const processor = new image.ImageProcessor(config);
      for (const [i, picture] of [plain, tall].entries()) {
        const made = processor.process([picture]);
        expect(made.shape).toEqual([1, ...shape]);
        const expected = new Float32Array(bytes(data[i]!).buffer);
        const found = (await made.data()) as Float32Array;
        const most = found.reduce((worst, value, k) => Math.max(worst, Math.abs(value - expected[k]!)), 0);
        expect(most).toBeLessThan(1e-5);
      }
      expect(processor.size).toEqual({ width: shape[2], height: shape[1] });
    },
  );

  it("come from a folder, and are refused where they are not known", async () => {
    const own = await mkdtemp(join(tmpdir(), "aronnax-image-"));
    try {
      const at = join(own, "preprocessor_config.json");
      await writeFile(at, JSON.stringify(reference.processed.CLIP!.config));
      expect((await image.ImageProcessor.load(own)).size).toEqual({ width: 20, height: 20 });
      await writeFile(at, '{ "image_processor_type": "SamImageProcessor" }');
      await expect(image.ImageProcessor.load(own)).rejects.toThrow(/"SamImageProcessor" is not known/);
      await writeFile(at, "{");
      await expect(image.ImageProcessor.load(own)).rejects.toThrow(/is not valid JSON/);
    } finally {
      await rm(own, { recursive: true });
    }
  });

  it("makes batches of pictures of one size only", () => {
    const processor = new image.ImageProcessor({
      image_processor_type: "ViTImageProcessor",
      do_resize: false,
    });
    expect(() => processor.process([plain, tall])).toThrow(
      /picture 1 of a batch is 31 x 52, the first 61 x 47/,
    );
    expect(() => processor.process([])).toThrow(/no pictures/);
  });
});

describe("what is no picture", () => {
  const refused = async (what: Uint8Array | string, message: RegExp, options?: image.DecodeOptions) =>
    expect(image.decode(what, options)).rejects.toThrow(message);

  it("is refused by name: cut off, empty, something else, missing", async () => {
    const whole = await readFile(file("progressive.jpg"));
    await refused(whole.subarray(0, whole.length / 2), /The picture a\.jpg cannot be decoded/, {
      name: "a.jpg",
    });
    await refused(new Uint8Array(), /is empty/);
    await refused(Buffer.from("GIF89a but no picture"), /cannot be decoded/);
    await refused(file("nothing.png"), /nothing\.png cannot be read: ENOENT/);
  });

  it("is refused where it would fill the memory, before it is unpacked", async () => {
    // A small file that says it is 60,000 pixels wide and high.
    const bomb = await readFile(file("plain.png"));
    bomb.writeUInt32BE(60_000, 16);
    bomb.writeUInt32BE(60_000, 20);
    bomb.writeUInt32BE(crc32(bomb.subarray(12, 29)), 29);
    await refused(bomb, /more than 178956970 pixels/);
    await refused(file("plain.png"), /more than 100 pixels/, { maxPixels: 100 });
  });
});

it("cuts and pads as asked", () => {
  const cut = image.crop(plain, -1, -1, 3, 3);
  expect([...cut.data.subarray(0, 12)]).toEqual(new Array(12).fill(0));
  expect([...cut.data.subarray(12, 18)]).toEqual([...plain.data.subarray(0, 6)]);
  const padded = image.padToSquare(tall, [1, 2, 3]);
  expect([padded.width, padded.height]).toEqual([52, 52]);
  expect([...padded.data.subarray(0, 3)]).toEqual([1, 2, 3]);
  expect(() => image.resize(plain, 0, 3)).toThrow(/the width is 0/);
  expect(() => image.resize({ ...plain, width: 3 }, 2, 2)).toThrow(/3 x 47 has 8601 bytes/);
});
