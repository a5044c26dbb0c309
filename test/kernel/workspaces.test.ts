/** Named workspaces in the runtime outlive the kernel, however it ends. */
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { privateFolder, stopAll } from "../runtime/support.js";
import { KernelClient } from "./client.js";

const folder = privateFolder();
let kernel: KernelClient;
afterAll(async () => {
  await kernel.stop();
  await stopAll();
});

async function start(): Promise<void> {
  kernel = await KernelClient.start({ env: { ARONNAX_RUNTIME_DIR: folder, ARONNAX_DEVICES: "cpu" } });
}

const text = async (code: string) => {
  const { result, error } = await kernel.execute(code, {}, 60_000);
  expect(error).toBeUndefined();
  return result?.["text/plain"];
};

const SETUP = `
import { nn, tensor, workspace } from "aronnax";
const kept = workspace("experiment");
const model = nn.initialize(new nn.Linear(3, 2), SEED);`;

it("gives a restarted kernel, and one that was killed, the arrays that the one before had named", async () => {
  await start();
  await text(SETUP.replace("SEED", "7"));
  await text("await kept.set({ model, history: [tensor([1, 2, 3])] }, { step: 12 })");
  const weights = await text("JSON.stringify(await model.weight.array())");
  const runtime = join(folder, "cpu.lock");
  const pid = await text(`require("node:fs").readFileSync(${JSON.stringify(runtime)}, "utf8")`);

  for (const end of ["restart", "kill"]) {
    if (end === "kill") kernel.process.kill("SIGKILL");
    else await kernel.ask("control", "shutdown_request", { restart: true });
    await kernel.exit;
    await kernel.stop();
    await start();
    // Another seed: the weights can only come from the workspace.
    await text(SETUP.replace("SEED", "8"));
    expect(await text(`require("node:fs").readFileSync(${JSON.stringify(runtime)}, "utf8")`)).toBe(pid);
    expect(await text("JSON.stringify(await model.weight.array())")).not.toBe(weights);
    const like = "const found = await kept.get({ model, history: [tensor([0, 0, 0])] });";
    expect(await text(`${like}\nJSON.stringify(await found.model.weight.array())`)).toBe(weights);
    expect(
      await text(
        '[found.model.forward(tensor([[1, 2, 3]], { dtype: "int32" })).shape, await found.history[0]!.array()]',
      ),
    ).toBe("[ [ 1, 2 ], [ 1, 2, 3 ] ]");
    expect(await text("(await kept.info()).metadata")).toBe("{ step: 12 }");
    expect(await text("Object.keys(await kept.get())")).toBe("[ 'model.weight', 'history.0' ]");
  }

  const wrong = await kernel.execute("await kept.get({ history: [tensor([1, 2])] })");
  expect(wrong.error?.evalue).toMatch(/holds history\.0 as \w+\[3\], not as \w+\[2\]/);
  const missing = await kernel.execute("await kept.get({ other: tensor(1) })");
  expect(missing.error?.evalue).toMatch(/holds no other/);
  await text("await kept.delete()");
  expect(await text("Object.keys((await kept.info()).buffers).length")).toBe("0");
}, 180_000);
