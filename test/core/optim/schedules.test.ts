import "../../support/runtime.js";
import { adamw, constant, cosine, tensor } from "aronnax";
import { expect, it } from "vitest";

async function at(schedule: ReturnType<typeof cosine>, step: number, total: number): Promise<number> {
  return schedule(tensor(step), total).item();
}

it("rises linearly to the peak, falls as half a cosine to a tenth of it, and stays there", async () => {
  const schedule = cosine({ peak: 1, warmup: 4 });
  expect(await at(schedule, 0, 24)).toBeCloseTo(0.25, 6);
  expect(await at(schedule, 3, 24)).toBeCloseTo(1, 6);
  expect(await at(schedule, 14, 24)).toBeCloseTo(0.55, 6);
  expect(await at(schedule, 24, 24)).toBeCloseTo(0.1, 6);
  expect(await at(schedule, 99, 24)).toBeCloseTo(0.1, 6);
  expect(await at(constant(0.5), 7, 24)).toBe(0.5);
});

it("refuses values that make no sense, naming them", () => {
  expect(() => cosine({ peak: Number.NaN })).toThrow(/peak is NaN/);
  expect(() => constant(-1)).toThrow(/learningRate is -1/);
  expect(() => adamw({ learningRate: 1, beta2: 1 })).toThrow(/beta2 is 1/);
  expect(() => adamw({ learningRate: 1, clipNorm: 0 })).toThrow(/clipNorm is 0/);
});
