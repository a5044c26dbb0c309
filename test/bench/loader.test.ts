/** The loader's benchmark, tiny: so that it works when it is needed. Its figures say nothing here. */
import { expect, it } from "vitest";
import { measureLoader } from "../../bench/data/measure.js";

it("measures the waiting for a loader", async () => {
  const options = { workers: 1, batchSize: 2, prefetch: 2, side: 8, passes: 1, ratio: 1.2, steps: 5 };
  const result = await measureLoader(options);
  expect(result).toMatchObject({ benchmark: "loader", ...options });
  expect(result.stepMilliseconds).toBeGreaterThan(0);
  const { median, max } = result.waitShareOfStep as { median: number; max: number };
  expect(median).toBeGreaterThanOrEqual(0);
  expect(max).toBeGreaterThanOrEqual(median);
});
