/** What a notebook keeps of a training, and what cells have put out while nobody listened: with a real kernel, runtime and JupyterLab. */
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Locator } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { Browser } from "./support/browser.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";

let server: LabServer;
let browser: Browser;
const open: LabPage[] = [];
const python = fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));

vi.setConfig({ testTimeout: 400_000, hookTimeout: 180_000 });
const eventually = <T>(value: () => Promise<T> | T) => expect.poll(value, { timeout: 90_000, interval: 200 });

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
});

afterEach(async ({ task }) => {
  for (const lab of open.splice(0)) {
    if (task.result?.state === "fail") {
      await lab.screenshot(`failed ${task.name}`);
    }
    await lab.page.close();
  }
  await server.shutDownKernels();
});

afterAll(async () => {
  await browser?.stop();
  await server?.stop();
});

const trainer = (name: string, steps: number) => `
import { adamw, llm, text, Trainer } from "aronnax";
const tokenizer = text.byteTokenizer();
const documents = Array.from({ length: 40 }, (_, i) => "There she blows! " + i + " barrels of oil. ".repeat(30));
const run = new Trainer({
  name: "${name}",
  model: llm.llama({ vocabSize: 257, hiddenSize: 32, intermediateSize: 64, layers: 1, heads: 2 }),
  data: text.packed(documents, { tokenizer, sequenceLength: 32, batchSize: 4, validation: 0.2 }),
  optimizer: adamw({ learningRate: 1e-3 }),
  steps: ${steps},
});
run`;

interface Saved {
  cells: {
    execution_count: number | null;
    outputs: { output_type: string; text?: string | string[]; data?: Record<string, string | string[]> }[];
  }[];
}

const joined = (text: string | string[] | undefined) => (Array.isArray(text) ? text.join("") : (text ?? ""));

async function openNotebook(name: string, cells: readonly string[]): Promise<LabPage> {
  await server.writeNotebook(`${name}.ipynb`, cells);
  const lab = await LabPage.open(browser, server, name, `${name}.ipynb`);
  open.push(lab);
  await lab.kernelIsIdle();
  return lab;
}

async function save(lab: LabPage): Promise<void> {
  await lab.page.locator(".jp-NotebookPanel .jp-Notebook").click({ position: { x: 5, y: 5 } });
  await lab.page.keyboard.press("Control+s");
  await lab.isSaved();
}

const saved = async (name: string): Promise<Saved> =>
  JSON.parse(await readFile(join(server.root, `${name}.ipynb`), "utf8")) as Saved;

/** The bundle of the run in the saved notebook. */
async function savedRun(name: string): Promise<Record<string, string>> {
  const [output] = (await saved(name)).cells[0]!.outputs;
  return Object.fromEntries(
    Object.entries(output?.data ?? {}).map(([type, part]) => [type, joined(part as string)]),
  );
}

const output = (lab: LabPage): Locator => lab.page.locator(".jp-OutputArea .aronnax-Output");
const shows = (lab: LabPage, what: string): Promise<void> =>
  lab.page.locator(`.aronnax-Output[data-shows="${what}"]`).waitFor();

it("a training is drawn small and live in its cell, and the saved notebook has its record", async () => {
  const lab = await openNotebook("whole", [trainer("whole", 1500), "await run.fit()"]);
  await lab.runCell(0);
  await lab.cellHasRun(0);
  expect(await output(lab).textContent()).toContain('Trainer "whole": step 0 of 1500');
  await lab.runCell(1);
  await shows(lab, "live");
  await output(lab).locator('[data-chart="loss"] .aronnax-Chart-plot').waitFor();
  await lab.screenshot("output-live");
  expect((await output(lab).boundingBox())!.height).toBeLessThanOrEqual(320);
  await shows(lab, "record");
  await lab.cellHasRun(1);
  const image = output(lab).locator("img");
  expect(await image.evaluate((element) => (element as HTMLImageElement).naturalWidth)).toBe(712);
  await output(lab).locator("td", { hasText: "1500 of 1500" }).waitFor();
  expect((await output(lab).boundingBox())!.height).toBeLessThanOrEqual(320);
  await lab.screenshot("output-record");
  await save(lab);
  const bundle = await savedRun("whole");
  expect(bundle["text/plain"]).toMatch(/run "whole": finished, step 1500 of 1500/);
  expect(bundle["text/html"]).toContain("<td>1500 of 1500</td>");

  // What others make of the file: nbconvert's HTML and Markdown, and a page without the kernel.
  const convert = (format: string): string => {
    const options = ["-m", "nbconvert", "--to", format, "--stdout", join(server.root, "whole.ipynb")];
    return execFileSync(python, options, {
      encoding: "utf8",
      maxBuffer: 2 ** 26,
      stdio: ["ignore", "pipe", "ignore"],
    });
  };
  const html = convert("html");
  expect(html.includes("<td>1500 of 1500</td>")).toBe(true);
  expect(/<img[^>]+src="data:image\/svg\+xml;base64,/.test(html)).toBe(true);
  expect(convert("markdown").includes("<td>1500 of 1500</td>")).toBe(true);
  await server.shutDownKernels();
  await lab.page.reload();
  await shows(lab, "record");
  await eventually(() =>
    output(lab)
      .locator("img")
      .evaluate((element) => (element as HTMLImageElement).naturalWidth),
  ).toBe(712);
  expect(lab.errors.filter((error) => !/Failed to load resource|WebSocket/.test(error))).toEqual([]);
});

it("a page that is reloaded in mid-training has all that was printed, once and in order, and follows to the end", async () => {
  const lab = await openNotebook("reload", [
    trainer("reload", 100_000),
    `console.log("first"); display({ [Symbol.for("Jupyter.display")]: () => ({ "text/html": "<i>a display</i>" }) });
const bar = display({ [Symbol.for("Jupyter.display")]: () => ({ "text/plain": "bar 0" }) });
for (let i = 1; i <= 60; i++) { console.log("line", i); bar.update({ [Symbol.for("Jupyter.display")]: () => ({ "text/plain": "bar " + i }) }); await new Promise((f) => setTimeout(f, 500)); }
throw new RangeError("as it must")`,
    "console.log('behind it'); await run.fit()",
  ]);
  const cell = (index: number) => lab.page.locator(".jp-Notebook .jp-CodeCell").nth(index);
  const printed = (index: number) => cell(index).locator(".jp-OutputArea");
  await lab.runCell(0);
  await lab.cellHasRun(0);
  await lab.runCell(1);
  await printed(1).getByText("line 3", { exact: false }).waitFor();
  await lab.page.reload();
  await printed(1).getByText("first", { exact: false }).waitFor();
  expect(await cell(1).locator(".jp-InputPrompt").textContent()).toBe("[*]:");
  await printed(1).getByText("RangeError", { exact: false }).waitFor();
  await lab.cellHasRun(1);
  const text = await cell(1).locator(".jp-OutputArea").innerText();
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const numbers = lines.flatMap((line) => /^line (\d+)$/.exec(line)?.slice(1).map(Number) ?? []);
  expect(numbers).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
  expect(lines.slice(0, 3)).toEqual(["first", "a display", "bar 60"]);
  expect(lines.filter((line) => line.startsWith("bar"))).toEqual(["bar 60"]);
  await save(lab);
  const { cells } = await saved("reload");
  expect(cells[1]!.outputs.map(({ output_type }) => output_type)).toEqual([
    "stream",
    "display_data",
    "display_data",
    "stream",
    "error",
  ]);
  // What is saved is not fetched again, and does not make the notebook dirty.
  await lab.page.reload();
  await printed(1).getByText("line 60", { exact: false }).waitFor();
  await lab.isSaved();

  // A training: what it prints, and the run's record, also where the page came after it had begun.
  await lab.runCell(2);
  await cell(2)
    .getByText(/step\s+5000\//)
    .waitFor();
  await lab.page.reload();
  await printed(2).getByText("behind it", { exact: false }).waitFor();
  await shows(lab, "live");
  await lab.menu("Kernel", "Interrupt Kernel");
  await lab.cellHasRun(2);
  await shows(lab, "record");
  await output(lab)
    .locator("p", { hasText: /interrupted, begun/ })
    .waitFor();
  await save(lab);
  expect((await savedRun("reload"))["text/plain"]).toMatch(/run "reload": interrupted, step \d+ of 100000/);
});

it("of a run whose kernel was killed the cell says that it stopped, and keeps its curves", async () => {
  const lab = await openNotebook("killed", [
    trainer("killed", 1_000_000),
    "console.log('pid', process.pid); await run.fit()",
  ]);
  await lab.runCell(0);
  await lab.cellHasRun(0);
  await lab.runCell(1);
  await shows(lab, "live");
  const printed = lab.page.locator(".jp-Notebook .jp-CodeCell").nth(1);
  await printed.getByText(/pid \d+/).waitFor();
  const pid = Number(/pid (\d+)/.exec(await printed.innerText())![1]);
  // Its record is there some ten seconds after it began.
  const record = () =>
    readFile(join(server.root, "runs", "killed", "record.json"), "utf8").then(
      () => true,
      () => false,
    );
  await eventually(record).toBe(true);
  process.kill(pid, "SIGKILL");
  await output(lab)
    .locator("p", { hasText: /stopped: its process is gone/ })
    .waitFor();
  // JupyterLab says that it starts the kernel again.
  await lab.page.locator(".jp-Dialog .jp-mod-accept").click();
  await lab.screenshot("output-killed");
  await save(lab);
  const bundle = await savedRun("killed");
  expect(bundle["text/plain"]).toMatch(/run "killed": stopped: its process is gone, step \d+/);
  expect(bundle["image/svg+xml"]).toMatch(/^<svg/);
  expect(bundle["application/vnd.aronnax.run+json"]).toBeDefined();
});

it("a second tab follows the cells of the first, and takes no save of it", async () => {
  const lab = await openNotebook("tabs", [
    'for (let i = 1; i <= 40; i++) { console.log("line", i); await new Promise((f) => setTimeout(f, 500)); }',
  ]);
  await save(lab).catch(() => {});
  await lab.runCell(0);
  const cellOf = (page: LabPage) => page.page.locator(".jp-Notebook .jp-CodeCell .jp-OutputArea").first();
  await cellOf(lab).getByText("line 3", { exact: false }).waitFor();
  const second = await LabPage.open(browser, server, "tabs-2", "tabs.ipynb");
  open.push(second);
  for (const page of [lab, second]) {
    await cellOf(page).getByText("line 40", { exact: false }).waitFor();
    await page.cellHasRun(0);
    const numbers = [...(await cellOf(page).innerText()).matchAll(/line (\d+)/g)].map((found) =>
      Number(found[1]),
    );
    expect(numbers).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  }
  await second.isSaved();
});
