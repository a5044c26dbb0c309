import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
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

const eventually = <T>(value: () => Promise<T> | T) => expect.poll(value, { timeout: 60_000, interval: 100 });

async function openNotebook(name: string, cells: readonly string[]): Promise<LabPage> {
  await server.writeNotebook(`${name}.ipynb`, cells);
  const lab = await LabPage.open(browser, server, name, `${name}.ipynb`);
  await lab.kernelIsIdle();
  return lab;
}

it("a slider, a button and a text are used by keyboard and mouse, and stand in the saved notebook", async () => {
  const lab = await openNotebook("inputs", [
    `import { input } from "@aronnax/kernel";
const rate = input.slider({ min: 0, max: 10, step: 1, value: 3, label: "rate" });
const say = input.text({ label: "say" });
const go = input.button({ label: "Go" });
display(rate); display(say); display(go); "shown"`,
    'await go.next(); ["rate", rate.value, "said", say.value, "pressed", go.value].join(" ")',
  ]);
  const { page } = lab;
  await lab.runCell(0);
  const rate = page.getByRole("slider", { name: "rate" });
  const say = page.getByRole("textbox", { name: "say" });
  const go = page.getByRole("button", { name: "Go", exact: true });
  await eventually(() => rate.isEnabled()).toBe(true);
  expect(await rate.inputValue()).toBe("3");
  // The second cell waits for the button, while the others go on.
  await lab.runCell(1);
  await rate.focus();
  for (let i = 0; i < 4; i++) await page.keyboard.press("ArrowUp");
  expect(await rate.inputValue()).toBe("7");
  expect(await rate.getAttribute("aria-valuetext")).toBe("7");
  expect(await rate.evaluate((node) => node === document.activeElement)).toBe(true);
  await say.fill("There she blows!");
  await say.press("Enter");
  await go.focus();
  await page.keyboard.press("Enter");
  await lab.cellWith("await go.next()").getByText("rate 7 said There she blows! pressed 1").waitFor();
  // What is saved says the last values, without this extension too.
  await eventually(async () => {
    await page.keyboard.press("Control+s");
    const saved = await readFile(join(server.root, "inputs.ipynb"), "utf8");
    return ["7 (0 to 10)", "There she blows!", "pressed 1 times"].every((words) => saved.includes(words));
  }).toBe(true);
  expect(lab.errors).toEqual([]);
  await lab.screenshot("inputs");

  // After a reload of the page the same kernel goes on with them.
  await page.reload();
  await eventually(() => page.getByRole("slider", { name: "rate" }).isEnabled()).toBe(true);
  expect(await page.getByRole("slider", { name: "rate" }).inputValue()).toBe("7");

  // After a restart they stand still, with what to do.
  await lab.restartKernel();
  await page.getByText("Run the cell to use this.").first().waitFor();
  expect(await page.getByRole("slider", { name: "rate" }).isDisabled()).toBe(true);
  await page.close();
});

it("a microphone that is not there is told to the user and to the cell", async () => {
  const lab = await openNotebook("microphone", [
    `const mic = jupyter.input.microphone({ label: "voice" }); mic`,
    "await mic.next()",
  ]);
  await lab.runCell(0);
  const record = lab.page.getByRole("button", { name: "voice" });
  await eventually(() => record.isEnabled()).toBe(true);
  await lab.runCell(1);
  await record.click();
  await lab.page.getByText(/Nothing was recorded: (there is no microphone|permission)/).waitFor();
  await lab.cellWith("await mic.next()").getByText("InputRefused").first().waitFor();
  await lab.page.close();
});

it("a Tensor's image and sound show in a cell", async () => {
  const lab = await openNotebook("media", [
    `import { media } from "aronnax";
media.image({ data: Float32Array.of(0, 0.5, 1, NaN), shape: [2, 2] }, { scale: 20 })`,
    "media.audio({ data: new Float32Array(8000), shape: [8000] }, { sampleRate: 8000 })",
  ]);
  await lab.runCell(0);
  const image = lab.page.locator(".jp-OutputArea-output img");
  await image.waitFor({ timeout: 180_000 });
  const colours = await image.evaluate(async (node: HTMLImageElement) => {
    await node.decode();
    const canvas = document.createElement("canvas");
    canvas.width = node.naturalWidth;
    canvas.height = node.naturalHeight;
    const context = canvas.getContext("2d")!;
    context.drawImage(node, 0, 0);
    const at = (x: number, y: number) => Array.from(context.getImageData(x, y, 1, 1).data);
    return [canvas.width, at(5, 5), at(25, 5), at(5, 25), at(25, 25)];
  });
  expect(colours).toEqual([
    40,
    [0, 0, 0, 255],
    [128, 128, 128, 255],
    [255, 255, 255, 255],
    [255, 0, 255, 255],
  ]);
  await lab.runCell(1);
  const sound = lab.page.locator(".jp-OutputArea-output audio");
  await sound.waitFor({ timeout: 180_000 });
  await eventually(() => sound.evaluate((node: HTMLAudioElement) => node.duration)).toBeCloseTo(1, 2);
  await lab.page.close();
});
