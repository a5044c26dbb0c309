/** NF4 as bitsandbytes keeps it, bit for bit (fixtures/quantize/make.py). */
import "../../support/runtime.js";
import { fileURLToPath } from "node:url";
import { checkpoint, quantize, tensor } from "aronnax";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decode } from "../../../core/src/array/hostdata.js";
import type { DType } from "../../../core/src/graph/dtype.js";

const path = fileURLToPath(new URL("../../fixtures/quantize/nf4.safetensors", import.meta.url));
let file: checkpoint.SafetensorsFile;
beforeAll(async () => {
  file = await checkpoint.SafetensorsFile.open(path);
});
afterAll(() => file.close());

const read = async (name: string) => {
  const { dtype, shape } = file.tensors.get(name)!;
  const bytes = await file.read(name);
  return { shape, bytes: Buffer.from(bytes), values: Array.from(decode(bytes, dtype as DType), Number) };
};

it("has the tables of bitsandbytes", async () => {
  const bytes = (x: Float32Array) => Buffer.from(x.buffer);
  expect(bytes(quantize.nf4Codes).equals((await read("codes")).bytes)).toBe(true);
  expect(bytes(quantize.dynamicCodes).equals((await read("dynamic")).bytes)).toBe(true);
});

describe.each(["square", "many", "partial"])("%s", (name) => {
  it.each([true, false])("is quantized and taken back as by bitsandbytes, double: %s", async (double) => {
    const weight = await read(`${name}.weight`);
    const x = tensor(Float32Array.from(weight.values), { shape: weight.shape as number[] });
    const ours = quantize.Nf4Weight.of(x, { double });
    const key = `${name}.${double ? "double" : "single"}`;
    const numbers = async (t: { data(): Promise<ArrayLike<number | bigint>> }) =>
      Array.from(await t.data(), Number);
    const stored = async (part: string) => (await read(`${key}.${part}`)).values;
    expect((await numbers(ours.codes)).flat()).toEqual(await stored("packed"));
    const absmax = await stored("absmax");
    if (double) {
      // Their mean is summed in another order.
      expect(await ours.offset!.item()).toBeCloseTo((await stored("offset"))[0]!, 7);
      const nested = await stored("nested_absmax");
      for (const [i, x] of (await numbers(ours.nestedAbsmax!)).entries())
        expect(x).toBeCloseTo(nested[i]!, 6);
      const moved = (await numbers(ours.absmax)).map((q, i) => Math.abs(q - absmax[i]!));
      expect(Math.max(...moved)).toBeLessThanOrEqual(1);
      expect(moved.filter((d) => d > 0).length).toBeLessThan(moved.length / 50);
    } else {
      expect(await numbers(ours.absmax)).toEqual(absmax);
    }
    const parts = {
      codes: ours.codes,
      absmax: tensor(double ? Uint8Array.from(absmax) : Float32Array.from(absmax)),
      nested: double
        ? {
            absmax: tensor(Float32Array.from(await stored("nested_absmax"))),
            offset: tensor(Float32Array.from(await stored("offset")), { shape: [] }),
          }
        : null,
    };
    const theirs = new quantize.Nf4Weight(parts, weight.shape as [number, number], "float32");
    const value = await stored("value");
    expect((await numbers(theirs.value("float32"))).slice(0, value.length)).toEqual(value);
  });
});
