/** What a compiled function is after its runtime process was killed. */
import "../../support/runtime.js";
import { jit, type Tensor, tensor } from "aronnax";
import { expect, it } from "vitest";
import { Runtime } from "../../../core/src/runtime/runtime.js";

it("compiles again in the next runtime, and sends the user's arrays there again", async () => {
  const weights = tensor(Float32Array.of(1, 2, 3));
  const scaled = jit((x: Tensor) => x.mul(weights).sum());
  const call = () => scaled(tensor([1, 1, 2], { dtype: "float32" })).item();
  expect(await call()).toBe(9);

  const lost = Runtime.default();
  process.kill((await lost.ready).pid, "SIGKILL");
  await expect(lost.ping()).rejects.toThrow(/SIGKILL/);
  expect(await call()).toBe(9);
  expect(await weights.add(1).array()).toEqual([2, 3, 4]);
  expect(scaled.traces).toBe(1);
  expect(Runtime.default()).not.toBe(lost);
});
