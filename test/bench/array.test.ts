/** The bench programs of the array language, once and small: that they run, and what they must show on any machine. */
import "../support/runtime.js";
import { expect, it } from "vitest";
import { measureDispatch } from "../../bench/array/dispatch.js";
import { measureGarbage } from "../../bench/array/garbage.js";
import { measureRandom } from "../../bench/array/random.js";

it("a loop that neither donates nor waits gives back what nobody holds", async () => {
  const { live } = await measureGarbage(1, 2500);
  expect(live).toBeLessThan(1100);
}, 300_000);

it("random programs of keys made of keys compile", async () => {
  const rows = await measureRandom("deep");
  expect(rows).toHaveLength(1);
  expect(rows[0]!.seconds).toBeLessThan(60);
}, 120_000);

it("a jitted call is measured", async () => {
  const { median, best } = await measureDispatch(8, 20);
  expect(best).toBeGreaterThan(0);
  expect(median).toBeGreaterThanOrEqual(best);
}, 120_000);
