/** The sidebar with devices and runtime: with the real runtime on CPU, and with what was recorded on an H200. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Locator } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { Browser } from "./support/browser.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";
import { asTwoGpus, installRecording, recordedLines, type WatchLine } from "./support/recordedRuntime.js";

let server: LabServer;
let browser: Browser;
let lab: LabPage;

vi.setConfig({ testTimeout: 300_000, hookTimeout: 180_000 });
const eventually = <T>(value: () => Promise<T> | T) => expect.poll(value, { timeout: 90_000, interval: 200 });

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

const panel = (): Locator => lab.page.locator(".aronnax-DevicesPanel");
const figure = (device: string, name: string): Locator =>
  panel().locator(`[data-device="${device}"] [data-figure="${name}"]`);

async function open(path: string, cells: readonly string[]): Promise<void> {
  await server.writeNotebook(path, cells);
  lab = await LabPage.open(browser, server, path.replace(/\W/g, "-"), path);
  await lab.kernelIsIdle();
  await lab.page
    .locator('.lm-TabBar-tab[title="Devices"], .lm-TabBar-tab[data-id="aronnax-devices"]')
    .first()
    .click();
  await panel().waitFor();
}

/** Opens the panel over a recording that is played in a folder of its own. */
async function play(folder: string, lines: readonly WatchLine[]): Promise<void> {
  await mkdir(join(server.root, folder), { recursive: true });
  await installRecording(join(server.root, folder), lines, 15);
  await open(`${folder}/devices.ipynb`, ["1"]);
}

it("starts, shows, restarts and stops the runtime, tells of one that was killed, and shows the host only", async () => {
  await open("devices.ipynb", [
    `import { random, workspace } from "aronnax";
await workspace("mine").set({ a: random.normal(0, [64, 64]) });`,
    "for (;;) {}",
  ]);
  await panel().locator('[data-runtime="absent"]', { hasText: "No runtime runs for cpu" }).waitFor();
  await panel().locator('[data-action="start"]').click();
  const line = panel().locator('[data-runtime="running"]', { hasText: /Running on cpu for .*, process \d+/ });
  await line.waitFor();
  const pid = async () => Number(/process (\d+)/.exec((await line.textContent())!)![1]);
  const first = await pid();
  await figure("host", "cpu").waitFor();
  expect(await panel().locator('[data-chart="device_utilization"]').count()).toBe(0);
  expect(await figure("0", "utilization").count()).toBe(0);

  await lab.runCell(0);
  await lab.cellHasRun(0);
  // Also while a cell keeps the kernel's thread busy.
  await lab.runCell(1);
  await panel()
    .locator('[data-part="holders"] tr', { hasText: /workspace mine.*16\.4 kB.*1 array/ })
    .waitFor();
  await panel().locator('[data-part="programs"] summary').click();
  expect(await panel().locator('[data-part="programs"] tr').count()).toBeGreaterThan(0);
  await panel().locator('[data-action="logs"]').click();
  await eventually(() => panel().locator("textarea").inputValue()).toMatch(/starts on cpu/);
  await lab.screenshot("devices-cpu");
  await lab.menu("Kernel", "Interrupt Kernel");
  await lab.cellHasRun(1);

  await panel().locator('[data-action="restart"]').click();
  // Arrays would be lost: that is asked first.
  await lab.page
    .locator(".jp-Dialog", { hasText: /holds \d+ arrays/ })
    .locator(".jp-mod-accept")
    .click();
  await eventually(async () => (await line.count()) === 1 && (await pid()) !== first).toBe(true);
  process.kill(await pid(), "SIGKILL");
  await panel()
    .locator('[data-runtime="absent"]', { hasText: /The last one: .*(SIGKILL|signal 9|killed)/i })
    .waitFor();
  await panel().locator('[data-action="start"]').click();
  await line.waitFor();
  // By the palette, as without a mouse.
  await lab.page.keyboard.press("Control+Shift+c");
  await lab.page.locator(".lm-CommandPalette-input").fill("Stop the Runtime");
  await lab.page.keyboard.press("Enter");
  await panel().locator('[data-runtime="absent"]', { hasText: "stopped on request" }).waitFor();
  expect(lab.errors).toEqual([]);
});

it("shows a GPU as it was recorded, with who holds its memory, and keeps the history over a reload", async () => {
  const lines = await recordedLines();
  // Up to the workspace: what comes after is the end.
  const last = lines.findLastIndex((line) => line.type === "state" && line.state.running);
  await play("one", lines.slice(0, last + 1));
  const state = (
    lines[last] as unknown as { state: { holders: { name: string; devices: { bytes: number }[] }[] } }
  ).state;
  const samples = lines
    .slice(0, last + 1)
    .flatMap((line) => (line.type === "telemetry" ? [line.event.sample] : []));
  const figures = samples.at(-1)!.devices[0]!;
  await panel().locator('[data-part="holders"] tr', { hasText: "workspace kept" }).waitFor();
  await eventually(() => figure("0", "power").innerText()).toContain(
    `${Math.round(figures.powerWatts!)} / ${figures.powerLimitWatts} W`,
  );
  expect(await panel().locator('[data-device="0"] h4').innerText()).toBe("GPU 0 NVIDIA H200");
  expect(await figure("0", "utilization").innerText()).toContain(`${100 * figures.utilization!}%`);
  expect(await figure("0", "memory").innerText()).toContain(
    `${Number((figures.memoryUsed! / 1e9).toPrecision(3))} GB / ${Number((figures.memoryTotal! / 1e9).toPrecision(3))} GB`,
  );
  const kept = state.holders.find(({ name }) => name === "kept")!.devices[0]!.bytes;
  const parts = figure("0", "memory").locator("i");
  expect(await parts.evaluateAll((all) => all.map((part) => (part as HTMLElement).title))).toContain(
    `workspace kept: ${Number((kept / 1e6).toPrecision(3))} MB`,
  );
  expect(await figure("0", "temperature").innerText()).toContain(`${figures.temperatureCelsius} °C`);
  expect(await figure("0", "clock").innerText()).toContain(
    `SM ${figures.smClockMegahertz!.toLocaleString("en")}`,
  );
  expect(await figure("0", "pcie").innerText()).toMatch(/↑ .*B\/s {2}↓ .*B\/s/);
  expect(await figure("0", "nvlink").count()).toBe(0);
  for (const chart of ["utilization", "memory", "power", "temperature", "clock", "pcie", "pcie_received"])
    await panel().locator(`[data-chart="device_${chart}"]`).waitFor();
  await lab.screenshot("devices-h200");
  expect(await lab.violations(".aronnax-DevicesSidebar, .aronnax-Devices")).toEqual([]);
  // What the kernel has of the hour is there at once.
  await lab.page.reload();
  await panel().locator('[data-chart="device_power"]').waitFor();
  await figure("0", "power").waitFor();
  expect(lab.errors).toEqual([]);
});

it("shows NVLink between two GPUs, says which one the driver has lost, and that a runtime is gone", async () => {
  const lines = await recordedLines();
  await play("two", asTwoGpus(lines, 60));
  await figure("0", "nvlink").waitFor();
  await panel().locator('[data-device="1"] [role="alert"]', { hasText: "lost this GPU" }).waitFor();
  expect(await figure("1", "power").count()).toBe(0);
  await panel().locator('[data-chart="device_nvlink"]').waitFor();
  // The first goes on.
  await figure("0", "power").waitFor();
  await panel().locator('[data-runtime="absent"]', { hasText: "stopped on request" }).waitFor();
  await panel().locator(".aronnax-HostCards.aronnax-mod-ended .aronnax-Cards").waitFor();
  await panel().locator('[data-action="start"]').click();
  await eventually(() =>
    readFile(join(server.root, "two/node_modules/aronnax/asked.txt"), "utf8").catch(() => ""),
  ).toBe("start\n");
  await lab.screenshot("devices-two-gpus");
  expect(lab.errors).toEqual([]);
});

it("says what is missing: a kernel of another language, and no notebook", async () => {
  await server.writeNotebook("python.ipynb", ["1"], { name: "python3", language: "python" });
  lab = await LabPage.open(browser, server, "python", "python.ipynb");
  await lab.page
    .locator('.lm-TabBar-tab[data-id="aronnax-devices"], .lm-TabBar-tab[title="Devices"]')
    .first()
    .click();
  await panel().getByText("knows no runtime").waitFor();
  await lab.menu("File", "Close All Tabs");
  // JupyterLab has noted the kernel in the notebook.
  await lab.page.locator(".jp-Dialog .jp-mod-warn").click();
  await panel().getByText("Open a notebook with the Aronnax kernel").waitFor();
});
