import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createMetricsHub, RunWriter } from "../../core/src/metrics/index.js";
import { arrowStream, type Row, trainingRows } from "./support/arrow.js";
import { Browser } from "./support/browser.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";

let server: LabServer;
let browser: Browser;

vi.setConfig({ testTimeout: 300_000, hookTimeout: 180_000 });

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
});

afterAll(async () => {
  await browser?.stop();
  await server?.stop();
});

/** Writes a run's folder as the framework does. */
async function writeRun(name: string, rows: readonly Row[], status: string): Promise<string> {
  const folder = join("runs", name);
  await mkdir(join(server.root, folder), { recursive: true });
  const run = { id: name, name, startedAt: 1_790_000_000_000, totalSteps: 500 };
  await writeFile(join(server.root, folder, "metrics.arrow"), arrowStream(rows, run));
  await writeFile(join(server.root, folder, "run.json"), JSON.stringify({ ...run, status }));
  return join(folder, "metrics.arrow");
}

describe("a run's file", () => {
  it("opens with the run's header and charts", async () => {
    const path = await writeRun("tiny-llama", trainingRows(500), "finished");
    const lab = await LabPage.open(browser, server, "file", path);
    await lab.panel.locator("h2", { hasText: "tiny-llama" }).waitFor();
    await lab.panel.locator(".aronnax-Status", { hasText: "Finished" }).waitFor();
    expect(await lab.tile("step")).toBe("500/ 500");
    await lab.hasPoints("loss", 500);
    expect((await lab.points("loss", 1)).x).toHaveLength(10);
    await lab.screenshot("file-light");
    expect(lab.errors).toEqual([]);
  });

  it("has each chart on its own too, with all its values, drawn by plotly", async () => {
    const rows = trainingRows(300);
    const path = await writeRun("explored", rows, "finished");
    const lab = await LabPage.open(browser, server, "explored", path);
    await lab.hasPoints("loss", 300);
    await lab.panel.getByRole("button", { name: "Explore Loss" }).first().click();
    const plot = lab.page.locator(".aronnax-Explore .js-plotly-plot");
    await plot.waitFor();
    const drawn = await plot.evaluate((element) => {
      const { data } = element as HTMLElement & { data: { name: string; x: number[]; y: number[] }[] };
      return data.map(({ name, x, y }) => ({ name, x: [...x], y: [...y] }));
    });
    const training = drawn.find(({ name }) => name === "Training")!;
    const logged = rows.filter(({ loss }) => typeof loss === "number" && Number.isFinite(loss));
    expect(training.x.length).toBeGreaterThanOrEqual(logged.length);
    const last = logged.at(-1)!;
    expect(training.y[training.x.indexOf(last.step!)]).toBe(last.loss);
    await plot.locator(".modebar").waitFor({ state: "attached" });
    await lab.screenshot("explore");
    expect(lab.errors).toEqual([]);
  });

  it("follows a run that another process is still training", async () => {
    const path = await writeRun("going", trainingRows(40), "running");
    const lab = await LabPage.open(browser, server, "going", path);
    await lab.hasPoints("loss", 40);
    await lab.panel.locator(".aronnax-Status", { hasText: "Running" }).waitFor();
    await writeRun("going", trainingRows(90), "running");
    await lab.hasPoints("loss", 90);
    await writeRun("going", trainingRows(90), "finished");
    await lab.panel.locator(".aronnax-Status", { hasText: "Finished" }).waitFor();
  });

  it("follows a run whose later rows are in further segments, and one that was resumed", async () => {
    const root = join(server.root, "runs");
    const begin = (resumeAfterStep?: number) =>
      new RunWriter({ name: "segments", root, totalSteps: 90, resumeAfterStep, hub: createMetricsHub() });
    const first = begin();
    for (const row of trainingRows(40)) first.log(row);
    first.flush();
    const lab = await LabPage.open(browser, server, "segments", join("runs", "segments", "metrics.arrow"));
    await lab.hasPoints("loss", 40);
    for (const row of trainingRows(20, { from: 40 })) first.log({ ...row, accuracy: row.step! / 100 });
    first.flush();
    await lab.hasPoints("loss", 60);
    first.close("interrupted");
    const second = begin(50);
    for (const row of trainingRows(40, { from: 50 })) second.log(row);
    second.status("finished");
    await lab.hasPoints("loss", 90);
    await lab.panel.locator(".aronnax-Status", { hasText: "Finished" }).waitFor();
    const { x } = await lab.points("loss");
    expect(x).toEqual(Array.from({ length: 90 }, (_, i) => i + 1));
    second.close();
  });

  it("says what an Arrow file is that holds no run", async () => {
    await writeFile(join(server.root, "table.arrow"), arrowStream([{ height: 1, width: 2 }]));
    const lab = await LabPage.open(browser, server, "table", "table.arrow");
    await lab.panel.getByText('it has no column "step"').waitFor();
  });
});
