/** Two notebooks on one runtime, one of which starts a program that does not end. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { privateFolder, stopAll } from "../runtime/support.js";
import { KernelClient } from "./client.js";

const env = { ARONNAX_RUNTIME_DIR: privateFolder(), ARONNAX_DEVICES: "cpu" };
let first: KernelClient;
let second: KernelClient;

beforeAll(async () => {
  [first, second] = await Promise.all([KernelClient.start({ env }), KernelClient.start({ env })]);
});
afterAll(async () => {
  await Promise.all([first.stop(), second.stop()]);
  await stopAll();
});

const ENDLESS = `
import { jit, ones, type Tensor, whileLoop } from "aronnax";
const kept = ones([3]).mul(2); await kept.data();
const count = (x: Tensor) => whileLoop((v: Tensor) => v.min().greater(0), (v: Tensor) => v.add(1), x);
const started = jit(count)(ones([4]));
console.log("started");
await started.data();`;

it("says after the interrupt what holds the device and what to do; the other goes on, and that brings all back", async () => {
  const id = first.startExecution(ENDLESS);
  await first.until(
    (m) => m.parent.msg_id === id && String(m.content.text ?? "").includes("started"),
    60_000,
  );
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const other = await second.execute(
    'import { ones } from "aronnax"; await ones([5]).sum().item()',
    {},
    60_000,
  );
  expect(other.result?.["text/plain"]).toBe("5");

  await first.interrupt();
  const executed = await first.finish(id, 60_000);
  expect(executed.error?.ename).toBe("Interrupted");
  expect(executed.stderr).toMatch(/count/);
  expect(executed.stderr).toMatch(/recoverRuntime\(\)/);

  const recovered = await first.execute(
    'import { recoverRuntime } from "aronnax"; await recoverRuntime(); await kept.array()',
    {},
    120_000,
  );
  expect(recovered.error).toBeUndefined();
  expect(recovered.result?.["text/plain"]).toBe("[ 2, 2, 2 ]");
  const after = await second.execute("await ones([6]).sum().item()", {}, 120_000);
  expect(after.result?.["text/plain"]).toBe("6");
}, 300_000);
