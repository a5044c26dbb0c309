import "../../support/runtime.js";
import {
  adamw,
  constant,
  cosine,
  inverseSquareRoot,
  linear,
  previewSchedule,
  sgd,
  tensor,
  warmupStableDecay,
} from "aronnax";
import { expect, it } from "vitest";

async function at(schedule: ReturnType<typeof cosine>, step: number, total: number): Promise<number> {
  return schedule(tensor(step, { dtype: "int32" }), total).item();
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

it("falls in a straight line, or stays and falls at the end, or falls as the inverse square root", async () => {
  expect(await at(linear({ peak: 1, warmup: 4 }), 1, 24)).toBeCloseTo(0.5, 6);
  expect(await at(linear({ peak: 1, warmup: 4 }), 9, 24)).toBeCloseTo(0.75, 6);
  const stable = warmupStableDecay({ peak: 2, warmup: 2, decay: 10 });
  expect(await at(stable, 89, 100)).toBeCloseTo(2, 6);
  expect(await at(stable, 95, 100)).toBeCloseTo(1, 6);
  expect(await at(stable, 100, 100)).toBeCloseTo(0, 6);
  const root = inverseSquareRoot({ peak: 1, warmup: 4 });
  expect(await at(root, 3, 100)).toBeCloseTo(1, 6);
  expect(await at(root, 15, 100)).toBeCloseTo(0.5, 6);
});

it("refuses values that make no sense, naming them", () => {
  expect(() => cosine({ peak: Number.NaN })).toThrow(/peak is NaN/);
  expect(() => constant(-1)).toThrow(/learningRate is -1/);
  expect(() => adamw({ learningRate: 1, beta2: 1 })).toThrow(/beta2 is 1/);
  expect(() => adamw({ learningRate: 1, clipNorm: 0 })).toThrow(/clipNorm is 0/);
  expect(() => adamw({ learningRate: 1, weightDecay: "0.1" as never })).toThrow(/weightDecay is 0.1/);
  expect(() => adamw(undefined as never)).toThrow(/options are undefined/);
  expect(() => sgd({ learningRate: 1, nesterov: true })).toThrow(/nesterov is true without a momentum/);
  // A share of the training would be next to no step.
  expect(() => cosine({ peak: 1, warmup: 0.1 })).toThrow(/warmup is 0.1/);
  expect(() => linear({ peak: 1, steps: -5 })).toThrow(/steps is -5/);
  expect(() => warmupStableDecay({ peak: 1, decay: 0.2 })).toThrow(/decay is 0.2/);
  expect(() => constant(1, { warmUp: 5 } as never)).toThrow(/no option warmUp/);
});

it("is drawn for every step before a training begins", async () => {
  const rates = await previewSchedule(linear({ peak: 1, warmup: 2 }), 4);
  expect([...rates].map((x) => x.toFixed(3))).toEqual(["0.500", "1.000", "1.000", "0.500"]);
  expect([...(await previewSchedule(constant(0.5, { warmup: 2 }), 3))]).toEqual([0.25, 0.5, 0.5]);
  expect([...(await previewSchedule(constant(0.5), 2))]).toEqual([0.5, 0.5]);
});
