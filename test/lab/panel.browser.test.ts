import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Browser } from "./support/browser.js";
import { fitCell } from "./support/cells.js";
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

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
});

afterEach(async () => {
  for (const lab of open.splice(0)) {
    await lab.page.close();
  }
  for (const { id } of (await (await server.api("sessions")).json()) as { id: string }[]) {
    await server.api(`sessions/${id}`, { method: "DELETE" });
  }
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

    await lab.page.reload();
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
});
