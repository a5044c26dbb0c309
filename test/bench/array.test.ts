/** The bench programs of the array language, once and small: that they run, and what they must show on any machine. */
import "../support/runtime.js";
import { expect, it } from "vitest";
import { measureGarbage } from "../../bench/array/garbage.js";

it("a loop that neither donates nor waits gives back what nobody holds", async () => {
  const { live } = await measureGarbage(1, 2500);
  expect(live).toBeLessThan(1100);
}, 300_000);
