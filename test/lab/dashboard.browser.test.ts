import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { createMetricsHub, RunWriter, readRun } from "../../core/src/metrics/index.js";
import { trainingRows } from "./support/arrow.js";
import { Browser } from "./support/browser.js";
import { fitCell } from "./support/cells.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";

let server: LabServer;
let browser: Browser;
let lab: LabPage;

vi.setConfig({ testTimeout: 300_000, hookTimeout: 180_000 });

/** `expect` of what becomes true. */
const eventually = <T>(value: () => Promise<T> | T) => expect.poll(value, { timeout: 60_000, interval: 100 });

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
  await writeSweep();
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") {
    await lab.screenshot(`failed ${task.name}`);
    console.log(server.log.slice(-4000));
  }
  await lab.page.close();
  await server.shutDownKernels();
});

afterAll(async () => {
  await browser?.stop();
  await server?.stop();
});

const RATES = [1e-4, 1e-3];
const SEEDS = [1, 2, 3];

/** Two learning rates with three seeds each, and a run with samples of every kind. */
async function writeSweep(): Promise<void> {
  const root = join(server.root, "runs");
  const hub = createMetricsHub();
  for (const lr of RATES) {
    for (const seed of SEEDS) {
      const config = { optimizer: { name: "adamw", lr }, seed, batchSize: 32 };
      const run = new RunWriter({ name: `lr${lr}-seed${seed}`, root, hub, totalSteps: 300, config });
      for (const row of trainingRows(seed === 3 ? 200 : 300, { seed: seed + Math.round(lr * 1e5) })) {
        run.log({ ...row, memory_activations: 60e6 });
      }
      run.close();
    }
  }
  const run = new RunWriter({ name: "sampled", root, hub, totalSteps: 40, config: { seed: 9 } });
  for (const row of trainingRows(40)) {
    run.log(row);
    const { step } = row;
    if (step! % 20 === 0) {
      const at = { step };
      const pixels = { data: Float32Array.from({ length: 64 }, (_, i) => i / 64), shape: [8, 8] };
      await run.media.image("picture", pixels, { ...at, caption: `picture of ${step}` });
      await run.media.audio(
        "voice",
        { data: new Float32Array(4000), shape: [4000] },
        { sampleRate: 8000, ...at },
      );
      const frames = { data: Float32Array.from({ length: 256 }, (_, i) => i / 256), shape: [4, 8, 8] };
      await run.media.video("clip", { data: frames.data, shape: [4, 8, 8, 1] }, { fps: 2, ...at });
      await run.media.histogram("weights", { data: Float32Array.of(-1, 0, 0.5, 1, 1), shape: [5] }, at);
      await run.media.table("answers", { columns: ["prompt", "answer"], rows: [["2+2", `${step}`]] }, at);
      await run.media.text("said", `There she blows! ${step}`, at);
    }
  }
  run.close();
}

async function openDashboard(workspace: string): Promise<LabPage> {
  lab = await LabPage.open(browser, server, workspace, "");
  await lab.menu("View", "Open Run Dashboard");
  await lab.panel.waitFor();
  await lab.panel.locator(".aronnax-RunList-row").first().waitFor();
  return lab;
}

const row = (name: string) => lab.panel.locator(".aronnax-RunList-row", { hasText: name });

async function choose(name: string): Promise<void> {
  await row(name).locator("button").click();
  await lab.panel.locator("h2", { hasText: name }).waitFor();
}

async function downloaded(kind: string): Promise<string> {
  const download = lab.page.waitForEvent("download");
  await lab.panel.locator('[data-control="export"]').click();
  await lab.panel.locator(`[data-export="${kind}"]`).click();
  return (await download).path();
}

describe("the dashboard of a folder", () => {
  it("lists the runs, shows the numbers of their files, and comes back with the layout", async () => {
    await openDashboard("folder");
    await eventually(() => lab.panel.locator(".aronnax-RunList-row").count()).toBe(7);
    await choose("lr0.001-seed1");
    await lab.hasPoints("loss", 300);
    const { table } = readRun(join(server.root, "runs", "lr0.001-seed1"));
    const { x, y } = await lab.points("loss");
    expect(x).toEqual(Array.from(table.column("step")));
    expect(y).toEqual(Array.from(table.column("loss")));
    // The tile is the top of the chart's stack.
    expect(await lab.tile("memory")).toMatch(/^73\.\d MB$/);
    const memory = await lab.drawing("memory");
    const data = table.get("memory_data", 299)!;
    expect(memory.lines.at(-1)!.points.y.at(-1)).toBeCloseTo(4.2e6 + 8.4e6 + 60e6 + data, 3);
    await lab.screenshot("dashboard-light");
    expect(await lab.violations(".aronnax-RunView")).toEqual([]);
    for (const theme of ["JupyterLab Dark High Contrast", "JupyterLab Dark", "JupyterLab Light"]) {
      await lab.menu("Settings", "Theme", theme);
      await lab.page.locator(`body[data-jp-theme-name="${theme}"]`).waitFor({ state: "attached" });
      await lab.screenshot(`dashboard ${theme}`);
      expect([theme, await lab.violations(".aronnax-RunView")]).toEqual([theme, []]);
    }

    // The search finds by name, configuration and metric.
    await lab.panel.getByRole("searchbox", { name: "Search runs" }).fill("lr=0.0001 seed<3");
    await eventually(() => lab.panel.locator(".aronnax-RunList-row").count()).toBe(2);
    await lab.panel.getByRole("searchbox", { name: "Search runs" }).fill("");

    await lab.panel.locator('[data-control="robust"]').check();
    await lab.layoutHolds('"robust":true');
    await lab.page.reload();
    await lab.panel.locator("h2", { hasText: "lr0.001-seed1" }).waitFor();
    expect(await lab.panel.locator('[data-control="robust"]').isChecked()).toBe(true);
    expect(lab.errors).toEqual([]);
  });

  it("compares: what differs, averages over seeds, a baseline with differences, parallel coordinates", async () => {
    await openDashboard("compare");
    await choose("lr0.001-seed1");
    for (const rate of RATES) {
      for (const seed of SEEDS) {
        await row(`lr${rate}-seed${seed}`).getByRole("checkbox").check();
      }
    }
    await lab.panel.locator('[data-tab="configuration"]').click();
    const differing = lab.panel.locator(".aronnax-Config tr[data-differs]");
    await eventually(() =>
      differing.evaluateAll((rows) => rows.map((one) => (one as HTMLElement).dataset.key)),
    ).toEqual(["optimizer.lr", "seed"]);
    expect(await lab.violations(".aronnax-RunView")).toEqual([]);

    await lab.panel.locator('[data-tab="charts"]').click();
    await eventually(async () => (await lab.drawing("loss")).lines.length).toBe(12);
    await lab.panel
      .locator('select[data-control="group-by"], [data-control="group-by"] select')
      .first()
      .selectOption("optimizer.lr");
    await lab.panel.locator(".aronnax-RunLegend", { hasText: "mean of 3 runs" }).waitFor();
    await eventually(async () => (await lab.drawing("loss")).lines.map(({ style }) => style)).toContain(
      "band",
    );
    // The mean at the first step is that of the three files.
    const firsts = SEEDS.map(
      (seed) => readRun(join(server.root, "runs", `lr0.001-seed${seed}`)).table.get("loss", 0)!,
    );
    const drawn = await lab.drawing("loss");
    expect(drawn.lines.find(({ style }) => style === "solid")!.points.y[0]).toBeCloseTo(
      firsts.reduce((sum, loss) => sum + loss, 0) / 3,
      9,
    );
    await lab.screenshot("seed-averages-light");

    await lab.panel.locator('[data-tab="compare"]').click();
    const table = lab.panel.locator(".aronnax-CompareTable");
    await table.locator("tbody tr[data-run]").first().waitFor();
    expect(await table.locator("tbody tr[data-run]").count()).toBe(7);
    await table.getByRole("button", { name: "loss", exact: true }).click();
    const cells = () =>
      table
        .locator('td[data-metric="loss"]')
        .evaluateAll((all) => all.map((one) => Number.parseFloat(one.textContent ?? "")));
    const losses = await cells();
    expect(losses).toEqual([...losses].sort((a, b) => a - b));
    await table.getByRole("button", { name: "lr0.0001-seed1 is the baseline" }).click();
    await table.locator("tr[data-baseline]", { hasText: "lr0.0001-seed1" }).waitFor();
    const last = (name: string) => {
      const { table: rows } = readRun(join(server.root, "runs", name));
      return rows.get("loss", rows.rowCount - 1)!;
    };
    const delta = await table
      .locator("tr", { hasText: "lr0.001-seed2" })
      .locator('td[data-metric="loss"] .aronnax-Delta')
      .textContent();
    expect(Number((delta ?? "").replace("−", "-"))).toBeCloseTo(
      last("lr0.001-seed2") - last("lr0.0001-seed1"),
      3,
    );
    expect(await lab.panel.locator(".aronnax-Parallel polyline").count()).toBe(7);
    await lab.screenshot("compare-table-light");
    expect(await lab.violations(".aronnax-RunView")).toEqual([]);
    await lab.panel.getByRole("searchbox", { name: "Filter runs" }).fill("seed=1");
    await eventually(() => table.locator("tbody tr[data-run]").count()).toBe(2);
    expect(lab.errors).toEqual([]);
  });

  it("shows samples of every kind by step", async () => {
    await openDashboard("samples");
    await choose("sampled");
    await lab.panel.locator('[data-tab="samples"]').click();
    const samples = lab.panel.locator(".aronnax-Samples");
    await samples.getByText("There she blows! 40").waitFor();
    await eventually(() =>
      samples.locator("img").evaluateAll((all) => all.map((one) => (one as HTMLImageElement).naturalWidth)),
    ).toEqual([8, 8]);
    expect(await samples.locator("audio").count()).toBe(1);
    expect(await samples.locator(".aronnax-Histogram rect").count()).toBeGreaterThan(1);
    expect(await samples.locator("td", { hasText: /^40$/ }).count()).toBe(1);
    await samples.locator('[data-control="sample-step"]').press("ArrowLeft");
    await samples.getByText("There she blows! 20").waitFor();
    await samples.getByText("picture of 20").waitFor();
    await lab.screenshot("samples-light");
    expect(await lab.violations(".aronnax-RunView")).toEqual([]);
    expect(lab.errors).toEqual([]);
  });

  it("is used by the keyboard, and exports what it shows", async () => {
    await openDashboard("keyboard");
    await choose("lr0.001-seed1");
    await lab.hasPoints("loss", 300);
    // Arrows go from tab to tab; a chart is zoomed, moved, read and left by keys.
    await lab.panel.locator('[role="tab"][aria-selected="true"]').press("ArrowRight");
    await lab.panel.locator('[data-tab="configuration"][aria-selected="true"]').waitFor();
    await lab.panel.locator('[role="tab"][aria-selected="true"]').press("ArrowLeft");
    const plot = lab.chart("loss").locator(".aronnax-Chart-plot");
    await plot.press("+");
    await eventually(
      async () => (await lab.drawing("throughput")).x[1] - (await lab.drawing("throughput")).x[0],
    ).toBeLessThan(250);
    const [before] = (await lab.drawing("loss")).x;
    await plot.press("PageUp");
    await eventually(async () => (await lab.drawing("loss")).x[0]).toBeLessThan(before);
    await plot.press("Escape");
    await eventually(async () => (await lab.drawing("loss")).x).toEqual([1, 300]);
    await plot.press("Home");
    const { table, columns } = readRun(join(server.root, "runs", "lr0.001-seed1"));
    await eventually(() => plot.getAttribute("aria-label")).toContain(
      `Training ${Number(table.get("loss", 0)!.toPrecision(4))}`,
    );
    await plot.press("Escape");

    // A drag in both directions zooms the height of this chart alone, a drag with Shift moves all.
    const box = (await plot.boundingBox())!;
    await lab.page.mouse.move(box.x + box.width * 0.3, box.y + box.height * 0.3);
    await lab.page.mouse.down();
    await lab.page.mouse.move(box.x + box.width * 0.7, box.y + box.height * 0.6, { steps: 4 });
    await lab.page.mouse.up();
    await eventually(async () => (await lab.drawing("throughput")).x[0]).toBeGreaterThan(60);
    const zoomed = await lab.drawing("loss");
    expect(zoomed.y[0]).toBeGreaterThan(2);
    expect((await lab.drawing("throughput")).y[0]).toBe(0);
    await lab.panel.getByText("Reset zoom").click();
    await eventually(async () => (await lab.drawing("loss")).x).toEqual([1, 300]);

    const csv = (await readFile(await downloaded("csv"), "utf8")).trimEnd().split("\r\n");
    expect(csv).toHaveLength(301);
    const at = csv[0]!.split(",").indexOf("loss");
    expect(csv.slice(1).map((line) => Number(line.split(",")[at]))).toEqual(Array.from(table.column("loss")));
    const parquet = await parquetReadObjects({
      file: await asyncBufferFromFile(await downloaded("parquet")),
    });
    expect(parquet).toHaveLength(300);
    for (const column of columns.filter((name) => table.get(name, 299) !== undefined)) {
      expect(parquet[299]![column]).toBe(table.get(column, 299));
    }
    expect(parquet[0]!.valid_loss).toBeNull();
    const svg = await readFile(await downloaded("svg"), "utf8");
    expect(svg).toContain("Gradient norm");
    expect(svg.match(/<path/g)!.length).toBeGreaterThan(10);
    const png = await readFile(await downloaded("png"));
    expect(png.subarray(1, 4).toString()).toBe("PNG");
    expect(png.length).toBeGreaterThan(20_000);
    const report = await readFile(await downloaded("report"), "utf8");
    expect(report).toContain("optimizer.lr");
    expect(report).not.toMatch(/(?:src|href)="(?!data:)/);
    if (process.env.SCREENSHOTS) {
      await writeFile(join(process.env.SCREENSHOTS, "report.html"), report);
    }
    expect(lab.errors).toEqual([]);
  });
});

describe("a folder of odd runs", () => {
  it("has two runs of one name, one that was killed, and damaged ones, each with what is to be said", async () => {
    const root = join(server.root, "odd", "runs");
    await mkdir(root, { recursive: true });
    const hub = createMetricsHub();
    for (const steps of [30, 50]) {
      const run = new RunWriter({ name: "twice", root, hub });
      for (const one of trainingRows(steps)) run.log(one);
      run.close();
    }
    const dead = new RunWriter({ name: "killed", root, hub, totalSteps: 100 });
    for (const one of trainingRows(40)) dead.log(one);
    dead.close();
    const path = join(dead.folder, "run.json");
    const state = JSON.parse(await readFile(path, "utf8"));
    // As its process left it: that id is above any that the system gives.
    await writeFile(
      path,
      JSON.stringify({ ...state, status: "running", pid: 2 ** 22 + 1, updatedAt: Date.now() }),
    );
    await mkdir(join(root, "garbage"));
    await writeFile(join(root, "garbage", "metrics.arrow"), "hello, this is no arrow at all\n".repeat(20));
    await mkdir(join(root, "no-run"));

    await server.writeNotebook("odd/odd.ipynb", [fitCell({ id: "live", to: 20, status: "finished" })]);
    lab = await LabPage.open(browser, server, "odd", "odd/odd.ipynb");
    await lab.kernelIsIdle();
    await lab.showRuns();
    // Without a run of its kernel the panel lives from the folder.
    await row("twice").first().waitFor();
    await choose("killed");
    await lab.panel.locator(".aronnax-Status", { hasText: "Gone" }).waitFor();
    expect(await lab.panel.locator('[data-tile="left"]').count()).toBe(0);
    await row("twice").first().locator("button").click();
    await eventually(() => row("twice").count()).toBe(2);
    await row("twice").nth(1).locator("button").click();
    await eventually(() => lab.tile("step")).toBe("30");

    await lab.runCell(0);
    await row("live").waitFor();
    await choose("live");
    await lab.hasPoints("loss", 20);
    expect(await lab.panel.locator(".aronnax-RunList-row").count()).toBeGreaterThanOrEqual(4);
    // The menu is that of the widget that is used.
    await lab.page.locator(".jp-Notebook .jp-CodeCell .cm-content").first().click();
    await lab.restartKernel();
    await eventually(() => row("live").count()).toBe(0);
    expect(await row("twice").count()).toBeGreaterThan(0);
    await lab.screenshot("odd-runs-light");
    // JupyterLab asks about its debugger while it restarts, and says that nobody answered.
    expect(lab.errors.filter((error) => !error.includes("debugger state"))).toEqual([]);
    await rm(join(server.root, "odd"), { recursive: true });
  });

  it("with ten thousand runs is there at once, and searched", async () => {
    const root = join(server.root, "many", "runs");
    await mkdir(root, { recursive: true });
    const metrics = await readFile(join(server.root, "runs", "sampled", "metrics.arrow"));
    for (let i = 0; i < 10_000; i += 1) {
      const folder = join(root, `run-${String(i).padStart(5, "0")}`);
      await mkdir(folder);
      const state = {
        version: 2,
        id: `many-${i}`,
        name: `run-${String(i).padStart(5, "0")}`,
        status: "finished",
        startedAt: 1.79e12 + i * 1000,
        config: { lr: (i % 100) / 1000, seed: i },
        segments: ["metrics.arrow"],
        summary: {
          rows: 40,
          step: 40,
          seconds: 14,
          media: 0,
          columns: { loss: { count: 40, last: 2 + (i % 7) } },
        },
      };
      await writeFile(join(folder, "run.json"), JSON.stringify(state));
      if (i > 9990) await writeFile(join(folder, "metrics.arrow"), metrics);
    }
    await server.writeNotebook("many/many.ipynb", ["1 + 1"]);
    lab = await LabPage.open(browser, server, "many", "many/many.ipynb");
    await lab.kernelIsIdle();
    await lab.showRuns();
    await eventually(() => lab.panel.locator(".aronnax-RunList-count").first().textContent()).toBe(
      "10000 runs",
    );
    expect(await lab.panel.locator(".aronnax-RunList-row").count()).toBeLessThan(100);
    await lab.panel.getByRole("searchbox", { name: "Search runs" }).fill("seed=4321");
    await row("run-04321").waitFor();
    await lab.panel.locator('[data-tab="compare"]').click();
    await lab.panel.locator(".aronnax-CompareTable tbody tr[data-run]").first().waitFor();
    expect(await lab.panel.locator(".aronnax-CompareTable tbody tr[data-run]").count()).toBeLessThan(100);
    await lab.screenshot("many-runs-light");
    expect(lab.errors).toEqual([]);
  });
});
