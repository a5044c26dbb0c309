import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { Browser } from "./support/browser.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";

let server: LabServer;
let browser: Browser;
let lab: LabPage;

// For a machine that is busy with other tests.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 180_000 });

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") {
    await lab.screenshot(`failed ${task.name}`);
    console.log(server.log);
  }
  await lab.page.close();
  await server.shutDownKernels();
});

afterAll(async () => {
  await browser?.stop();
  await server?.stop();
});

async function open(name: string, cells: readonly string[]): Promise<void> {
  await server.writeNotebook(`${name}.ipynb`, cells);
  lab = await LabPage.open(browser, server, name, `${name}.ipynb`);
  await lab.kernelIsIdle();
  await lab.showRuns();
}

/** Two GPUs as a runtime on a GPU host tells of them; the second gives no power. */
const GPUS = `
const hub = (globalThis as any)[Symbol.for("aronnax.devices")];
let tick = 0;
hub.provide((publish: (event: object) => void) => {
  const timer = setInterval(() => {
    tick += 1;
    publish({
      node: 0, platform: "cuda", devices: [{ id: 0, kind: "NVIDIA H200" }, { id: 1, kind: "NVIDIA H200" }],
      sample: {
        time: Date.now(),
        host: { cpuUtilization: 0.31, cpuCount: 64, availableBytes: 3e11, totalBytes: 5e11, processBytes: 4e9 },
        devices: [
          { id: 0, utilization: 0.97, memoryUsed: 6.1e10 + 1e9 * Math.sin(tick / 5), memoryTotal: 1.5e11, powerWatts: 612, powerLimitWatts: 700, temperatureCelsius: 58 },
          { id: 1, utilization: 0.42, memoryUsed: 2.2e10, memoryTotal: 1.5e11, temperatureCelsius: 51 },
        ],
      },
    });
  }, 100);
  return () => clearInterval(timer);
});`;

it("shows the host of a runtime on CPU, without figures of GPUs that are not there, and its history after a reload", async () => {
  await open("devices-cpu", ["import { ones } from 'aronnax';\nawait ones([2]).sum().item()"]);
  const host = lab.panel.locator(".aronnax-Host");
  expect(await host.count()).toBe(0);
  await lab.runCell(0);
  await host.waitFor();
  await lab.hasPoints("host_cpu", 4);
  expect(await host.locator('[data-host="memory"]').textContent()).toMatch(/^Memory [\d.]+ [GT]B \/ /);
  expect(await host.locator("table").count()).toBe(0);
  expect(
    await host.locator("[data-chart]").evaluateAll((all) => all.map((e) => (e as HTMLElement).dataset.chart)),
  ).toEqual(["host_cpu", "host_memory"]);
  const { x } = await lab.points("host_cpu");

  await lab.reloadWithPanel();
  await host.waitFor();
  await lab.hasPoints("host_cpu", x.length + 3);
  const after = (await lab.points("host_cpu")).x;
  expect(after.slice(0, x.length)).toEqual(x);
  // While the page was away the kernel went on: no gap.
  for (let i = 1; i < after.length; i += 1) expect(after[i]! - after[i - 1]!).toBeLessThan(2.5);
  await lab.screenshot("devices-cpu");
  expect(lab.errors).toEqual([]);
});

it("shows the GPUs that a runtime has, figure by figure, and ends with the kernel", async () => {
  await open("devices-gpu", [GPUS]);
  await lab.runCell(0);
  const cell = (device: number, figure: string) =>
    lab.panel.locator(`[data-device="${device}"] [data-figure="${figure}"]`);
  await lab.hasPoints("device_memory", 20);
  expect(await cell(0, "utilization").textContent()).toBe("97%");
  expect(await cell(0, "power").textContent()).toBe("612 / 700 W");
  expect(await cell(1, "power").textContent()).toBe("–");
  expect(await cell(1, "memory").textContent()).toBe("22 GB / 150 GB");
  // No figure at all, no column.
  expect(await cell(0, "clock").count()).toBe(0);
  expect((await lab.points("device_utilization", 1)).y.every((value) => value === 0.42)).toBe(true);
  expect(await lab.chart("device_power").locator(".aronnax-Legend-item").count()).toBe(1);
  await lab.screenshot("devices-gpu");

  await lab.restartKernel();
  await lab.panel.locator(".aronnax-Host").waitFor({ state: "detached" });
  expect(lab.errors).toEqual([]);
});
