import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { arrowStream, trainingRows } from "./support/arrow.js";
import { Browser } from "./support/browser.js";
import { LabServer } from "./support/lab.js";

let server: LabServer;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
});

afterAll(async () => {
  await browser?.stop();
  await server?.stop();
});

describe("a run's file", () => {
  it("opens as a panel with the run's header and charts", async () => {
    const folder = join(server.root, "runs", "tiny-llama");
    await mkdir(folder, { recursive: true });
    const run = {
      version: 1,
      id: "run-1",
      name: "tiny-llama",
      startedAt: 1_790_000_000_000,
      totalSteps: 500,
    };
    await writeFile(join(folder, "run.json"), JSON.stringify({ id: "run-1", status: "finished" }));
    await writeFile(join(folder, "metrics.arrow"), arrowStream(trainingRows(500), run));

    const { page, errors } = await browser.newPage();
    await page.goto(server.address("run-file", "runs/tiny-llama/metrics.arrow"));
    const view = page.locator(".aronnax-RunView");
    await view.locator(".aronnax-Header h2", { hasText: "tiny-llama" }).waitFor();
    expect(await view.locator(".aronnax-Status").textContent()).toBe("Finished");
    expect(await view.locator('[data-tile="step"] .aronnax-Tile-value').textContent()).toBe("500/ 500");
    // Training and validation, as SVG paths.
    const loss = view.locator('[data-chart="loss"]');
    await loss.locator(".scatterlayer .trace").nth(1).waitFor();
    await view.locator('[data-chart="memory"] .scatterlayer .trace').nth(3).waitFor({ state: "attached" });
    expect(errors).toEqual([]);
    if (process.env.SCREENSHOTS) {
      await page.screenshot({ path: join(process.env.SCREENSHOTS, "file-light.png") });
    }
  });
});
