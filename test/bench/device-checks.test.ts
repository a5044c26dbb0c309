/** The checks that are run on GPUs by hand, every eighth of them on the CPU: so that they work when they are needed. */
import "../support/runtime.js";
import { expect, it } from "vitest";
import { families } from "../../bench/checks/array.js";
import { runChecks } from "../../bench/checks/check.js";

it.each(Object.entries(families))("the %s of the array language", async (_, checks) => {
  const rows = await runChecks(checks.filter((_, i) => i % 8 === 0));
  expect(rows.length).toBeGreaterThan(0);
  expect(rows.filter((row) => !(row.relativeError <= row.limit))).toEqual([]);
});
