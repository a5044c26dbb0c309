import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { Browser } from "./support/browser.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";

let server: LabServer;
let browser: Browser;

// For a machine that is busy with other tests.
vi.setConfig({ testTimeout: 150_000, hookTimeout: 180_000 });

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
});

afterAll(async () => {
  await browser?.stop();
  await server?.stop();
});

/** `expect` of what becomes true. */
const eventually = <T>(value: () => Promise<T> | T) => expect.poll(value, { timeout: 60_000, interval: 100 });

const CODE = `interface Box { width: number; height: number }
function area(box: Box, times: number): number {
  const product: number = times * box.width * box.height;
  return product;
}
const boxes: Box[] = [{ width: 2, height: 3 }, { width: 4, height: 5 }];
let sum = 0;
for (const box of boxes) sum += area(box, 10);
sum`;

it("debugs a cell in JupyterLab: breakpoint, call stack, variables, steps, continue", async () => {
  await server.writeNotebook("debug.ipynb", [CODE]);
  const lab = await LabPage.open(browser, server, "debug", "debug.ipynb");
  const { page, debugTraffic } = lab;
  const part = (name: string) => page.locator(`.jp-DebuggerSidebar .jp-Debugger${name}`);
  /** The line that JupyterLab marks as the one to run next. */
  const line = () => page.locator(".jp-CodeCell .jp-DebuggerEditor-highlight").textContent();
  const variables = async () => {
    const items = page.locator(".jp-DebuggerVariables-body:not(.lm-mod-hidden) jp-tree-view > jp-tree-item");
    return Object.fromEntries(
      await items.evaluateAll((all) =>
        all.map((item) => [...item.querySelectorAll(":scope > span")].map((part) => part.textContent ?? "")),
      ),
    ) as Record<string, string>;
  };
  const press = (command: string) =>
    page.locator(`.jp-DebuggerSidebar [data-command="debugger:${command}"]`).click();
  try {
    await lab.kernelIsIdle();
    await debugTraffic.isQuiet();
    await page.locator(".jp-DebuggerBugButton").first().click();
    // The first element of a gutter is its own measure.
    const third = page.locator(".jp-CodeCell .cm-breakpoint-gutter .cm-gutterElement").nth(3);
    await third.waitFor({ state: "attached" });
    await debugTraffic.isQuiet();
    await third.click();
    await part("Breakpoint").waitFor();

    await lab.runCell(0);
    await eventually(line).toContain("const product");
    expect(await part("CallstackFrame-name").allTextContents()).toEqual(["area", "(cell)"]);
    await eventually(variables).toMatchObject({ times: "10", box: "Object {width: 2, height: 3}" });
    await lab.screenshot("debugger-stopped");

    await press("next");
    await eventually(line).toContain("return product");
    await eventually(variables).toMatchObject({ product: "60" });

    // The frame that called: its own variables, then those of the notebook.
    await part("CallstackFrame").nth(1).click();
    await eventually(line).toContain("sum += area");
    await eventually(variables).toHaveProperty("box");
    await lab.screenshot("debugger-caller");

    await press("continue");
    await eventually(variables).toMatchObject({ box: "Object {width: 4, height: 5}" });
    await press("stepOut");
    await eventually(line).toContain("sum += area");
    await press("continue");
    await lab.cellHasRun(0);
    expect(await page.locator(".jp-OutputArea-executeResult").innerText()).toMatch(/260/);

    // While nothing is stopped, the notebook's variables.
    await eventually(variables).toMatchObject({ sum: "260" });
    await lab.screenshot("debugger-finished");
    expect(lab.errors).toEqual([]);
  } catch (error) {
    await lab.screenshot("debugger-failed");
    throw error;
  }
});
