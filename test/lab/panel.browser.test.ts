import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { WebSocketRoute } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { arrowStream, trainingRows } from "./support/arrow.js";
import { Browser } from "./support/browser.js";
import { displayCell, fitCell } from "./support/cells.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";

let server: LabServer;
let browser: Browser;
const open: LabPage[] = [];

/** Opens a notebook with these cells, its kernel running. */
async function openNotebook(name: string, cells: readonly string[]): Promise<LabPage> {
  await server.writeNotebook(`${name}.ipynb`, cells);
  const lab = await LabPage.open(browser, server, name, `${name}.ipynb`);
  open.push(lab);
  await lab.kernelIsIdle();
  return lab;
}

// For a machine that is busy with other tests; alone, each takes about ten seconds.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 180_000 });

/** `expect` of what becomes true. */
const eventually = <T>(value: () => Promise<T> | T) => expect.poll(value, { timeout: 60_000, interval: 100 });

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
});

afterEach(async ({ task }) => {
  for (const lab of open.splice(0)) {
    if (task.result?.state === "fail") {
      await lab.screenshot(`failed ${task.name}`);
      console.log(server.log);
    }
    await lab.page.close();
  }
  await server.shutDownKernels();
});

afterAll(async () => {
  await browser?.stop();
  await server?.stop();
});

describe("the panel", () => {
  it("draws a run while its cell runs, and shows all of it again after the page is reloaded", async () => {
    const lab = await openNotebook("live", [
      fitCell({ id: "run-1", name: "tiny-llama", to: 400, pace: 25, status: "finished" }),
    ]);
    await lab.showRuns();
    await lab.runCell(0);
    await lab.hasPoints("loss", 20);
    expect(await lab.panel.locator(".aronnax-Status").textContent()).toBe("Running");
    expect(await lab.panel.locator("h2").textContent()).toBe("tiny-llama");
    await lab.screenshot("panel-live-light");

    await lab.reloadWithPanel();
    await lab.panel.waitFor();
    await lab.hasPoints("loss", 20);
    expect((await lab.points("loss")).x[0]).toBe(1);
    expect(await lab.panel.locator(".aronnax-Status").textContent()).toBe("Running");

    await lab.panel.locator(".aronnax-Status", { hasText: "Finished" }).waitFor();
    await lab.hasPoints("loss", 400);
    const { x, y } = await lab.points("loss");
    expect(x).toEqual(Array.from({ length: 400 }, (_, i) => i + 1));
    expect(y[399]).toBeLessThan(y[0]! / 2);
    expect(await lab.tile("step")).toBe("400/ 400");
    await lab.screenshot("panel-finished-light");
    expect(lab.errors).toEqual([]);
  });

  it("starts over when the kernel restarts", async () => {
    const lab = await openNotebook("restart", [fitCell({ id: "run-1", to: 50, status: "finished" })]);
    await lab.showRuns();
    await lab.runCell(0);
    await lab.hasPoints("loss", 50);

    await lab.restartKernel();
    await lab.panel.getByText("No training run yet").waitFor();
    expect(await lab.panel.locator(".aronnax-Chart").count()).toBe(0);

    await lab.runCell(0);
    await lab.hasPoints("loss", 50);
    expect(lab.errors).toEqual([]);
  });

  it("finds the kernel again after it died", async () => {
    const lab = await openNotebook("died", [
      fitCell({ id: "run-1", to: 50, status: "finished" }),
      "process.kill(process.pid, 'SIGKILL')",
      fitCell({ id: "run-2", to: 30, status: "finished" }),
    ]);
    await lab.showRuns();
    await lab.runCell(0);
    await lab.hasPoints("loss", 50);

    await lab.runCell(1);
    await lab.panel.getByText("No training run yet").waitFor();
    await lab.page.locator(".jp-Dialog .jp-mod-accept").click();

    await lab.runCell(2);
    await lab.panel.locator("h2", { hasText: "run-2" }).waitFor();
    await lab.hasPoints("loss", 30);
  });

  it("shows one kernel in two tabs, and is sent each batch once however often the page was reloaded", async () => {
    const lab = await openNotebook("tabs", [fitCell({ id: "run-1", to: 20_000, pace: 10 })]);
    await lab.showRuns();
    await lab.runCell(0);
    await lab.hasPoints("loss", 10);
    for (let reload = 0; reload < 2; reload++) {
      await lab.reloadWithPanel();
      await lab.hasPoints("loss", 10);
    }
    const other = await LabPage.open(browser, server, "tabs-2", "tabs.ipynb");
    open.push(other);
    await other.showRuns();
    await other.hasPoints("loss", 10);

    // What a third tab, which has no panel, hears on the kernel's channel: one comm a tab that has one.
    const { page } = await browser.newPage();
    const heard = new Map<string, number>();
    page.on("websocket", (socket) => {
      socket.on("framereceived", ({ payload }) => {
        const id = /"comm_id":\s*"([^"]+)"/.exec(String(payload))?.[1];
        if (id) {
          heard.set(id, (heard.get(id) ?? 0) + 1);
        }
      });
    });
    await page.goto(server.address("tabs-3", "tabs.ipynb"));
    // A page that is gone may have been sent a last one while this one came.
    const heardFrom = async (): Promise<number> => {
      heard.clear();
      await page.waitForTimeout(2000);
      return [...heard.values()].filter((count) => count > 10).length === 2 ? heard.size : 0;
    };
    await eventually(heardFrom).toBe(2);
    await page.close();

    open.splice(open.indexOf(other), 1);
    await other.page.close();
    await lab.page.bringToFront();
    const step = async () => Number((await lab.tile("step")).replace(/\/.*|,/g, ""));
    const reached = await step();
    await eventually(step).toBeGreaterThan(reached + 20);
  });

  it("shows every step of a loop that publishes faster than the kernel sends", async () => {
    const lab = await openNotebook("fast", [fitCell({ id: "run-1", to: 20_000, status: "finished" })]);
    const batches: number[] = [];
    lab.page.on("websocket", (socket) => {
      socket.on("framereceived", ({ payload }) => {
        if (payload.includes('"comm_id"')) {
          batches.push(Date.now());
        }
      });
    });
    await lab.page.reload();
    await lab.kernelIsIdle();
    await lab.showRuns();
    await lab.runCell(0);
    await lab.panel.locator(".aronnax-Status", { hasText: "Finished" }).waitFor();
    expect(await lab.tile("step")).toBe("20,000/ 20,000");
    // Ten messages in any second: far below the 1,000 at which the server stops sending.
    for (const [i, time] of batches.entries()) {
      const later = batches[i + 12];
      expect(later === undefined || later - time > 500).toBe(true);
    }
    const { x } = await lab.points("loss");
    expect(x.length).toBeGreaterThan(100);
    expect(x.length).toBeLessThan(3000);
  });

  it("asks again for what a broken connection lost", async () => {
    const lab = await openNotebook("lost", [
      fitCell({ id: "run-1", to: 400, pace: 20 }),
      fitCell({ id: "run-1", from: 401, to: 420, status: "finished" }),
    ]);
    // Between the page and the server: batches are lost, then the whole connection.
    let losing = false;
    let lost = 0;
    const connections: WebSocketRoute[] = [];
    await lab.page.routeWebSocket(/\/channels/, (toPage) => {
      const toServer = toPage.connectToServer();
      connections.push(toPage);
      toPage.onMessage((message) => toServer.send(message));
      toServer.onMessage((message) => {
        if (losing && message.includes('"batch"')) {
          lost += 1;
        } else {
          toPage.send(message);
        }
      });
    });
    await lab.page.reload();
    await lab.kernelIsIdle();
    await lab.showRuns();
    await lab.runCell(0);
    await lab.hasPoints("loss", 20);
    losing = true;
    await eventually(() => lost).toBeGreaterThan(5);
    losing = false;
    await lab.hasPoints("loss", 400);
    const steps = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
    expect((await lab.points("loss")).x).toEqual(steps(400));

    const before = connections.length;
    await connections.at(-1)!.close({ code: 1012 });
    await eventually(() => connections.length).toBeGreaterThan(before);
    await lab.kernelIsIdle();
    await lab.runCell(1);
    await lab.panel.locator(".aronnax-Status", { hasText: "Finished" }).waitFor();
    await lab.hasPoints("loss", 420);
    expect((await lab.points("loss")).x).toEqual(steps(420));
  });

  it("says that another kernel has no metrics, and leaves it alone", async () => {
    await server.writeNotebook("python.ipynb", ["1 + 1"], { name: "python3", language: "python" });
    const lab = await LabPage.open(browser, server, "python", "python.ipynb");
    open.push(lab);
    await lab.kernelIsIdle("Python 3 (ipykernel)");
    await lab.showRuns();
    await lab.panel.getByText("publishes no training metrics").waitFor();
    await lab.runCell(0);
    await lab.cellHasRun(0);
    expect(server.log).not.toContain("No such comm");
  });
});

describe("a view", () => {
  it("compares runs, smooths, zooms and takes the colours of the theme", async () => {
    const lab = await openNotebook("compare", [
      fitCell({ id: "run-1", name: "baseline", to: 300, status: "finished" }),
      fitCell({ id: "run-2", name: "wide", to: 200, status: "interrupted" }),
    ]);
    await lab.showRuns();
    await lab.runCell(0);
    await lab.hasPoints("loss", 300);
    await lab.runCell(1);
    await lab.panel.locator("h2", { hasText: "wide" }).waitFor();
    await lab.hasPoints("loss", 200);

    await lab.panel.getByRole("checkbox", { name: "Show baseline in the charts" }).check();
    await lab.panel.locator(".aronnax-RunLegend .aronnax-Legend-item", { hasText: "baseline" }).waitFor();
    await eventually(async () => (await lab.points("loss", 2)).x.length).toBe(300);
    // The pointer tells each run by name, also past the end of the shorter one.
    const plot = lab.chart("throughput").locator(".aronnax-Chart-plot");
    const size = (await plot.boundingBox())!;
    await plot.hover({ position: { x: size.width - 20, y: 60 } });
    const hover = lab.chart("throughput").locator(".aronnax-Hover");
    await hover.getByText("baseline", { exact: true }).waitFor();
    expect(await hover.locator(".aronnax-Legend-value").allTextContents()).toContain("–");
    expect(await hover.locator(".aronnax-Hover-title").textContent()).toMatch(/^Step 2[89]\d$/);
    await lab.screenshot("compare-light");

    await lab.panel.locator('[data-control="smoothing"]').press("ArrowRight");
    await eventually(async () => (await lab.points("loss", 1)).y.length).toBe(200);
    await lab.chart("loss").locator(".aronnax-Chart-log").click();
    await eventually(async () => (await lab.drawing("loss")).log).toBe(true);

    // A horizontal drag zooms every chart; Escape on a chart leaves.
    const box = (await lab.chart("loss").locator(".aronnax-Chart-plot").boundingBox())!;
    await lab.page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
    await lab.page.mouse.down();
    await lab.page.mouse.move(box.x + box.width * 0.6, box.y + box.height / 2, { steps: 5 });
    await lab.page.mouse.up();
    await lab.panel.getByText("Reset zoom").waitFor();
    await eventually(async () => (await lab.points("throughput")).x[0]).toBeGreaterThan(50);
    await lab.screenshot("zoom-light");
    await lab.chart("loss").locator(".aronnax-Chart-plot").press("Escape");
    await eventually(async () => (await lab.points("throughput")).x[0]).toBe(1);

    // The keyboard reads values off the chart.
    await lab.chart("loss").locator(".aronnax-Chart-plot").press("Home");
    await lab.chart("loss").locator(".aronnax-Chart-plot").press("ArrowRight");
    await lab.chart("loss").locator('.aronnax-Chart-cursor[data-position="2"]').waitFor();

    // Every chart on the screen, not only the first that is drawn: the colour that most of the axes' pixels have.
    const inks = () =>
      lab.panel.locator(".aronnax-Chart-axes").evaluateAll((all) => [
        ...new Set(
          all.slice(0, 2).map((canvas) => {
            const { width, height } = canvas as HTMLCanvasElement;
            const { data } = (canvas as HTMLCanvasElement)
              .getContext("2d")!
              .getImageData(0, 0, width, height);
            const counts = new Map<string, number>();
            for (let i = 0; i < data.length; i += 4) {
              if (data[i + 3]! > 100) {
                const colour = `${data[i]} ${data[i + 1]} ${data[i + 2]}`;
                counts.set(colour, (counts.get(colour) ?? 0) + 1);
              }
            }
            return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "";
          }),
        ),
      ]);
    const light = await inks();
    expect(light).toHaveLength(1);
    await lab.menu("Settings", "Theme", "JupyterLab Dark");
    await eventually(async () => (await inks()).filter((colour) => light.includes(colour))).toEqual([]);
    await lab.screenshot("compare-dark");
    await lab.menu("Settings", "Theme", "JupyterLab Light");
    await eventually(inks).toEqual(light);
    expect(lab.errors).toEqual([]);
  });

  it("begins with the choices of the settings, and keeps the user's own over a reload", async () => {
    await server.changeSettings("@aronnax/lab:panel", { logCharts: ["loss"] });
    const lab = await openNotebook("choices", [fitCell({ id: "run-1", to: 60, status: "finished" })]);
    await lab.showRuns();
    await lab.runCell(0);
    await lab.hasPoints("loss", 60);
    await lab.panel
      .locator('[data-control="x-axis"] select, select[data-control="x-axis"]')
      .selectOption("tokens");
    await eventually(async () => (await lab.points("loss")).x[59]).toBe(60 * 2048);
    await lab.layoutHolds('"tokens"');
    await lab.page.reload();
    await lab.hasPoints("loss", 60);
    expect((await lab.points("loss")).x[59]).toBe(60 * 2048);
    expect(await lab.chart("loss").locator(".aronnax-Chart-log").getAttribute("aria-pressed")).toBe("true");

    const download = lab.page.waitForEvent("download");
    await lab.panel.locator('[data-control="export"]').click();
    await lab.panel.locator('[data-export="csv"]').click();
    const csv = await readFile(await (await download).path(), "utf8");
    const lines = csv.trimEnd().split("\r\n");
    expect(lines[0]).toMatch(/^step,time,tokens,loss,/);
    expect(lines).toHaveLength(61);
    expect(lines[60]).toMatch(/^60,3,122880,/);
  });

  it("marks NaN where it happened and says so", async () => {
    const lab = await openNotebook("nan", [
      fitCell({ id: "run-1", to: 40 }),
      `hub.publish({ type: "rows", id: "run-1", rows: [{ step: 41, loss: NaN }, { step: 42, loss: NaN }] });
hub.publish({ type: "status", id: "run-1", status: "failed", message: "The loss is NaN at step 41." });`,
    ]);
    await lab.showRuns();
    await lab.runCell(0);
    await lab.hasPoints("loss", 40);
    await lab.runCell(1);
    await lab.panel.getByText("loss is NaN since step 41.").waitFor();
    await lab.panel.locator(".aronnax-Status", { hasText: "Failed" }).waitFor();
    await eventually(async () => (await lab.drawing("loss")).nonFinite).toEqual([
      { x: 41, end: 42, kind: "NaN" },
    ]);
    await lab.screenshot("nan-light");
  });
});

describe("a run in a cell's output", () => {
  it("is drawn live, from its file once the kernel is gone, and without one as text", async () => {
    const lab = await openNotebook("output", [
      displayCell("run-1", "tiny-llama"),
      fitCell({ id: "run-1", name: "tiny-llama", to: 80, status: "finished" }),
    ]);
    const output = lab.page.locator(".jp-OutputArea .aronnax-Output");
    await lab.runCell(0);
    await output.getByText("run tiny-llama, at step 0").waitFor();
    await lab.runCell(1);
    await output.locator(".aronnax-Status", { hasText: "Finished" }).waitFor();
    await output.locator('[data-chart="loss"] .aronnax-Legend-value').first().waitFor();
    await lab.screenshot("output-light");

    const folder = join(server.root, "runs", "tiny-llama");
    await mkdir(folder, { recursive: true });
    const run = { id: "run-1", name: "from the file", startedAt: 1, totalSteps: 80 };
    await writeFile(join(folder, "metrics.arrow"), arrowStream(trainingRows(80), run));
    await writeFile(join(folder, "run.json"), JSON.stringify({ ...run, status: "finished" }));
    await lab.restartKernel();
    await output.locator("h2", { hasText: "from the file" }).waitFor();
    await output.locator(".aronnax-Status", { hasText: "Finished" }).waitFor();
    await lab.page.keyboard.press("Control+s");
    await lab.isSaved();

    await server.shutDownKernels();
    await lab.page.reload();
    await output.locator("h2", { hasText: "from the file" }).waitFor();

    await rm(folder, { recursive: true });
    await server.shutDownKernels();
    await lab.page.reload();
    await output.getByText("run tiny-llama, at step 0").waitFor();
  });
});
