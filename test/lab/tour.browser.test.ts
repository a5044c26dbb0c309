/** The tour, worked as a newcomer does: every cell, a reload and a second tab in its midst, the kernel restarted, the runtime killed. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { Browser } from "./support/browser.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";

let server: LabServer;
let browser: Browser;
const open: LabPage[] = [];
const tour = fileURLToPath(new URL("../../notebooks/00-tour.ipynb", import.meta.url));

vi.setConfig({ testTimeout: 600_000, hookTimeout: 180_000 });
const eventually = <T>(value: () => Promise<T> | T) =>
  expect.poll(value, { timeout: 120_000, interval: 200 });

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

interface Cell {
  cell_type: string;
  source: string[] | string;
}

/** Which code cell has a text. */
async function indexOf(text: string): Promise<number> {
  const { cells } = JSON.parse(await readFile(tour, "utf8")) as { cells: Cell[] };
  const codes = cells
    .filter(({ cell_type }) => cell_type === "code")
    .map(({ source }) => [source].flat().join(""));
  const index = codes.findIndex((source) => source.includes(text));
  expect(index).toBeGreaterThanOrEqual(0);
  return index;
}

it("runs from its first cell to its last, over a reload, a second tab, a restart of the kernel and the end of the runtime", async () => {
  // As it is kept, but for what the training printed: it is to be seen to come.
  const kept = JSON.parse(await readFile(tour, "utf8")) as { cells: (Cell & { outputs?: object[] })[] };
  for (const cell of kept.cells) {
    if ([cell.source].flat().join("").includes("trainer.fit(")) cell.outputs = [];
  }
  await writeFile(join(server.root, "tour.ipynb"), JSON.stringify(kept));
  const lab = await LabPage.open(browser, server, "tour", "tour.ipynb");
  open.push(lab);
  await lab.kernelIsIdle();
  const cells = () => lab.page.locator(".jp-Notebook .jp-CodeCell");
  const shownIn = (index: number) => cells().nth(index).locator(".jp-OutputArea");
  const run = async (index: number): Promise<void> => {
    await lab.runCell(index);
    // The count of the kept outputs goes first.
    await cells()
      .nth(index)
      .locator(".jp-InputPrompt", { hasText: "[*]:" })
      .waitFor({ timeout: 5_000 })
      .catch(() => {});
    await lab.cellHasRun(index);
    expect(await shownIn(index).locator('[data-mime-type="application/vnd.jupyter.error"]').count()).toBe(0);
  };
  const [training, interrupted, goesOn, attached, last] = (await Promise.all(
    ["new Trainer", "AbortSignal", "const result", 'workspace("tour").get', "readRun"].map(indexOf),
  )) as [number, number, number, number, number];
  // As it is kept: the record of the run that was made then is there before anything runs.
  await shownIn(training).locator("img").waitFor();

  for (let index = 0; index <= training; index++) await run(index);
  expect(await shownIn(3).innerText()).toMatch(/ShapeError: matmul of \[4, 8\] and \[4, 8\][\s\S]*Fix: /);

  // The curves move: looked at from within the page, since the training ends after six seconds.
  await lab.page.evaluate(() => {
    const shown: number[] = [];
    (window as unknown as { shownSteps: number[] }).shownSteps = shown;
    setInterval(() => {
      const tile = document.querySelector('.aronnax-Output [data-tile="step"] .aronnax-Tile-value');
      const step = Number((tile?.textContent ?? "").replace(/\D.*$|,/g, ""));
      if (step > 1 && step !== shown.at(-1)) {
        shown.push(step);
      }
    }, 20);
  });
  await lab.runCell(interrupted);
  await lab.page.locator('.aronnax-Output[data-shows="live"]').waitFor();
  await lab.cellHasRun(interrupted);
  const shown = await lab.page.evaluate(() => (window as unknown as { shownSteps: number[] }).shownSteps);
  expect(shown.length).toBeGreaterThan(1);
  expect(shown).toEqual(shown.toSorted((a, b) => a - b));
  expect(await shownIn(interrupted).innerText()).toContain("status: 'interrupted'");
  await lab.page
    .locator('.aronnax-Output[data-shows="record"] p', { hasText: /interrupted, begun/ })
    .waitFor();

  // A reload and a second tab while it goes on.
  await lab.runCell(goesOn);
  await shownIn(goesOn)
    .getByText(/step\s+\d+\/1500/)
    .first()
    .waitFor();
  await lab.page.reload();
  await lab.page.locator('.aronnax-Output[data-shows="live"]').waitFor();
  const second = await LabPage.open(browser, server, "tour-2", "tour.ipynb");
  open.push(second);
  for (const page of [lab, second]) {
    const printed = page.page.locator(".jp-Notebook .jp-CodeCell").nth(goesOn).locator(".jp-OutputArea");
    // What is out of sight is not drawn.
    await page.page.locator(".jp-Notebook .jp-CodeCell").nth(goesOn).scrollIntoViewIfNeeded();
    await eventually(() => printed.textContent()).toContain("status: 'finished'");
    const steps = [...((await printed.textContent()) ?? "").matchAll(/step\s+(\d+)\/1500/g)].map((found) =>
      Number(found[1]),
    );
    expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b));
    expect(steps.at(-1)).toBe(1500);
    await page.page.locator('.aronnax-Output[data-shows="record"] td', { hasText: "1500 of 1500" }).waitFor();
  }
  await second.page.close();
  open.pop();
  await lab.screenshot("tour-finished");

  // The kernel is restarted; the runtime keeps the model.
  await lab.restartKernel();
  await lab.kernelIsIdle();
  await run(attached);
  expect(await shownIn(attached).innerText()).toMatch(
    /the runtime is process \d+, .* this kernel is process \d+\s+The captain/,
  );
  await run(last);
  expect(await shownIn(last).innerText()).toMatch(/finished after \d+ rows; at most [\d,]+ tokens\/s/);
  // The record is what is left of the run in its cell.
  await lab.page.locator('.aronnax-Output[data-shows="record"]').waitFor();

  // The runtime is killed; the panel says so, and starts another.
  const pid = Number(/runtime is process (\d+)/.exec(await shownIn(attached).innerText())![1]);
  await lab.page.locator('.lm-TabBar-tab[data-id="aronnax-devices"]').click();
  const state = lab.page.locator(".aronnax-DevicesPanel [data-runtime]");
  await eventually(() => state.innerText()).toContain(`process ${pid}`);
  process.kill(pid, "SIGKILL");
  await eventually(() => state.innerText()).toMatch(/No runtime runs/);
  await lab.page.locator('.aronnax-DevicesPanel [data-action="start"]').click();
  await eventually(() => state.innerText()).toMatch(/Running on cpu/);
  await run(0);
  expect(await shownIn(0).innerText()).toMatch(/1 × cpu \(cpu\), driven by process \d+/);
  expect(
    lab.errors.filter((error) => !/WebSocket|ERR_CONNECTION|Failed to load resource/.test(error)),
  ).toEqual([]);
});
