/** Augmentation against torchvision's functions (fixtures/image/augment.py). */
import "../../support/runtime.js";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { image, jit, random, type Tensor, tensor } from "aronnax";
import { describe, expect, it } from "vitest";

const fixture = fileURLToPath(new URL("../../fixtures/image/augment.json", import.meta.url));
const wanted = JSON.parse(readFileSync(fixture, "utf8")) as Record<string, number[]>;
const pictures = tensor(Float32Array.from(wanted.pictures!), { shape: [2, 9, 11, 3] });
const of = (...values: number[]): Tensor => tensor(Float32Array.from(values));
const turn = (degrees: number) => {
  // torchvision turns against the clock; places are looked up the other way round.
  const a = (degrees * Math.PI) / 180;
  return [Math.cos(a), -Math.sin(a), 0, Math.sin(a), Math.cos(a), 0];
};
const matrices = (...rows: number[][]): Tensor => tensor(Float32Array.from(rows.flat()), { shape: [2, 6] });

describe("operations on pictures", () => {
  it.each([
    [
      "resizedCrop",
      (x) => image.resizedCrop(x, { top: of(1, 0), left: of(2, 3), height: of(7, 3), width: of(8, 4) }, 5, 6),
    ],
    ["brightness", (x) => image.adjustBrightness(x, of(0.6, 1.7))],
    ["contrast", (x) => image.adjustContrast(x, of(0.6, 1.7))],
    ["saturation", (x) => image.adjustSaturation(x, of(0.6, 1.7))],
    ["hue", (x) => image.adjustHue(x, of(-0.3, 0.21))],
    ["sharpness", (x) => image.adjustSharpness(x, of(0.4, 1.9))],
    ["posterize", (x) => image.posterize(x, of(3, 5))],
    ["solarize", (x) => image.solarize(x, of(0.3, 0.8))],
    ["autoContrast", (x) => image.autoContrast(x)],
    ["translated", (x) => image.affine(x, matrices([1, 0, -2, 0, 1, 1], [1, 0, 3, 0, 1, -2]))],
    ["rotated", (x) => image.affine(x, matrices(turn(20), turn(-35)))],
  ] as const satisfies [string, (x: Tensor) => Tensor][])(
    "give what torchvision gives: %s",
    async (name, f) => {
      const found = await jit(f)(pictures).data();
      expect(found.length).toBe(wanted[name]!.length);
      for (const [i, value] of wanted[name]!.entries()) expect(found[i]).toBeCloseTo(value, 4);
    },
  );
});

describe("augment", () => {
  const bytes = tensor(
    Uint8Array.from(wanted.pictures!, (x) => Math.round(255 * x)),
    {
      shape: [2, 9, 11, 3],
      dtype: "uint8",
    },
  );
  const options = {
    crop: { size: 6 },
    flip: 0.5,
    jitter: { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
    randAugment: { operations: 2, magnitude: 10 },
    erase: 0.3,
  };
  const run = jit((x: Tensor, seeds: Tensor) => image.augment(x, seeds, options));
  const seeded = (...seeds: number[]) => tensor(Uint32Array.from(seeds));

  it("draws from each picture's seed alone", async () => {
    const rows = async (x: Tensor) => {
      const data = Array.from(await x.data(), Number);
      return [data.slice(0, 108), data.slice(108)];
    };
    const [a, b] = await rows(run(bytes, seeded(4, 9)));
    const [c, d] = await rows(run(bytes, seeded(4, 10)));
    expect(c).toEqual(a);
    expect(d).not.toEqual(b);
    for (const value of [...a!, ...b!]) expect(value >= 0 && value <= 1).toBe(true);
  });

  it("changes nothing without options but the type", async () => {
    const still = await image.augment(bytes, seeded(1, 2), {}).data();
    for (const [i, value] of wanted.pictures!.entries()) expect(still[i]).toBeCloseTo(value, 2);
  });

  it("mirrors as often as asked", async () => {
    const many = bytes.slice([0, 1]).broadcastTo([200, 9, 11, 3]);
    const seeds = tensor(Uint32Array.from({ length: 200 }, (_, i) => i));
    const first = await image.augment(many, seeds, { flip: 0.25 }).slice(null, 0, 0, 0).data();
    const changed = Array.from(first, Number).filter((x) => Math.abs(x - wanted.pictures![0]!) > 0.01).length;
    expect(changed).toBeGreaterThan(30);
    expect(changed).toBeLessThan(70);
  });

  it("refuses other layouts and unknown options", () => {
    expect(() => image.augment(bytes.transpose([0, 3, 1, 2]), seeded(1, 2), {})).toThrow(/\[2, 3, 9, 11\]/);
    expect(() => image.augment(bytes, seeded(1), {})).toThrow(/seeds \[1\]/);
    expect(() => image.augment(bytes, seeded(1, 2), { flipp: 1 } as never)).toThrow(/flipp/);
  });
});

describe("mix", () => {
  const labels = tensor(Int32Array.of(0, 2));

  it("weighs pictures and labels by one share", async () => {
    const { pixels, targets } = image.mix(pictures, labels, {
      classes: 3,
      kind: "mixup",
      share: of(0.75).sum(),
    });
    const [found, told] = [await pixels.data(), await targets.array()];
    expect(told).toEqual([
      [0.75, 0, 0.25],
      [0.25, 0, 0.75],
    ]);
    const size = 9 * 11 * 3;
    for (const i of [0, 17, size - 1])
      expect(found[i]).toBeCloseTo(0.75 * wanted.pictures![i]! + 0.25 * wanted.pictures![size + i]!, 5);
  });

  it("puts a rectangle of the other in, and labels by the area that is left", async () => {
    const place = of(0.5, 0.5);
    const { pixels, targets } = image.mix(pictures, labels, {
      classes: 3,
      kind: "cutmix",
      share: of(0.5).sum(),
      place,
    });
    const [found, told] = [await pixels.data(), (await targets.array()) as number[][]];
    let other = 0;
    for (let i = 0; i < 99; i++) other += Number(found[3 * i] !== Math.fround(wanted.pictures![3 * i]!));
    expect(told[0]![2]).toBeCloseTo(other / 99, 5);
    expect(other).toBeGreaterThan(20);
  });

  it("draws shares of a beta distribution", async () => {
    const draw = jit((key: Tensor) => image.mixingShare(key as never, 0.4));
    const shares = await Promise.all(random.splitKeys(5, 200).map((key) => draw(key as never).item()));
    const mean = shares.reduce((a, b) => a + Number(b), 0) / 200;
    const variance = shares.reduce((a, b) => a + (Number(b) - mean) ** 2, 0) / 200;
    expect(mean).toBeGreaterThan(0.4);
    expect(mean).toBeLessThan(0.6);
    // 1 / (4 (2 · 0.4 + 1)) = 0.139
    expect(variance).toBeGreaterThan(0.11);
    expect(variance).toBeLessThan(0.17);
  });
});
