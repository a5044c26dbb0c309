import { afterAll, expect, it, vi } from "vitest";
import type { RuntimeHub } from "../../../core/src/runtime/activity-hub.js";
import { runtimeCommand } from "../../../core/src/runtime/cli.js";
import { recoverRuntime } from "../../../core/src/runtime/info.js";
import { Runtime } from "../../../core/src/runtime/runtime.js";
import type { Wait } from "../../../core/src/runtime/waiting.js";
import { floats, privateFolder, stopAll, until } from "../../runtime/support.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });
const t = "tensor<4xf32>";
const endless = `func.func @main(%a: ${t}) -> ${t} {
  %0 = stablehlo.while(%x = %a) : ${t}
    cond { %c = stablehlo.constant dense<true> : tensor<i1>
      stablehlo.return %c : tensor<i1> }
    do { %y = stablehlo.add %x, %x : ${t}
      stablehlo.return %y : ${t} }
  return %0 : ${t} }`;

const { ARONNAX_RUNTIME_DIR, ARONNAX_DEVICES } = process.env;

afterAll(async () => {
  for (const [name, value] of Object.entries({ ARONNAX_RUNTIME_DIR, ARONNAX_DEVICES })) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  vi.restoreAllMocks();
  await stopAll();
});

it("says in the cell what holds it up, and to the kernel after an interrupt, with the action that ends it", async () => {
  process.env.ARONNAX_RUNTIME_DIR = privateFolder();
  process.env.ARONNAX_DEVICES = "cpu";
  const said: string[] = [];
  vi.spyOn(console, "warn").mockImplementation((text: string) => said.push(text));
  vi.spyOn(console, "log").mockImplementation((text: string) => said.push(text));
  const runtime = Runtime.default();
  const hub = (globalThis as unknown as Record<symbol, RuntimeHub>)[Symbol.for("aronnax.runtime")]!;
  const waits: Wait[] = [];
  runtime.onWait((wait) => waits.push(wait));
  const one = runtime.put(new Float32Array(4).fill(1), f32([4]));
  expect(await floats(runtime, one)).toEqual([1, 1, 1, 1]);
  expect(await hub.interrupted()).toBeUndefined();
  expect(await hub.waiting()).toBeUndefined();
  const program = runtime.compile({ text: endless, outputs: [f32([4])], name: "forever" });
  await program.info;
  const [never] = runtime.execute(program, [one]);
  await until(async () => (await runtime.activity()).running.length === 1, 60);
  // A later cell waits for it, though its own program is another.
  await until(async () => (await runtime.activity()).running[0]!.seconds > 3, 60);
  const waiting = runtime.get(never!).catch((error: unknown) => error);
  await until(() => waits.length > 0, 60);
  expect(waits[0]!.seconds).toBeGreaterThan(4);
  expect(waits[0]!.activity.running[0]).toMatchObject({ program: "forever", own: true });
  const words =
    /the program forever of this notebook runs since \d\d:\d\d:\d\d UTC, for \d+ s.*recoverRuntime\(\)/;
  await until(() => said.some((text) => words.test(text)), 60);
  expect(await hub.interrupted()).toMatch(words);
  expect(await hub.waiting()).toMatch(/forever of this notebook/);
  expect(await runtimeCommand(["status"])).toBe(0);
  expect(said.at(-1)).toMatch(/the program forever of node v\S+ pid \d+ runs since/);
  expect(await recoverRuntime()).toMatch(/Ended: forever of node .*Back: 1 buffers \(\d+ bytes\)/);
  expect(await waiting).toBeInstanceOf(Error);
  expect(Runtime.default()).toBe(runtime);
  expect(await floats(runtime, one)).toEqual([1, 1, 1, 1]);
  expect(await hub.interrupted()).toBeUndefined();
  // The same by the command line, for what another has left.
  runtime.execute(program, [one]);
  await until(async () => (await runtime.activity()).running.length === 1, 60);
  expect(await runtimeCommand(["recover"])).toBe(0);
  expect(said.at(-1)).toContain("Ended: forever");
  expect(await floats(runtime, one)).toEqual([1, 1, 1, 1]);
}, 180_000);
