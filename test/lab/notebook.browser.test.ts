import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { Browser } from "./support/browser.js";
import { LabServer } from "./support/lab.js";
import { LabPage } from "./support/labPage.js";

const NAME = "01-pretrain-a-language-model.ipynb";
const notebook = fileURLToPath(new URL(`../../notebooks/${NAME}`, import.meta.url));
// What a user waits for: two minutes of training, on two cores that are busy with other tests.
const TRAINING_MS = 480_000;

let server: LabServer;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([LabServer.start(), Browser.start()]);
  // A copy: running it writes its runs beside it.
  await copyFile(notebook, join(server.root, NAME));
});

// A machine busy with other tests takes its time to start both.
vi.setConfig({ hookTimeout: 180_000 });

afterAll(async () => {
  await browser?.stop();
  await server?.stop();
});

it(
  "trains a language model from the tutorial: live, interrupted, resumed, and all there after a reload",
  async () => {
    const lab = await LabPage.open(browser, server, "tutorial", NAME);
    const status = (text: string) =>
      lab.panel.locator(".aronnax-Status", { hasText: text }).waitFor({ timeout: TRAINING_MS });
    try {
      await lab.kernelIsIdle();
      await lab.showRuns();
      await lab.menu("Run", "Run All Cells");

      // The notebook stops its first run itself, and goes on in a second one: then there are two, and the newest.
      await lab.panel
        .locator(".aronnax-RunList-row")
        .nth(1)
        .waitFor({ state: "attached", timeout: TRAINING_MS });
      const loss = async () => (await lab.points("loss")).y;
      await lab.hasPoints("loss", 60, TRAINING_MS);
      const first = await loss();
      expect(first.at(-1)).toBeLessThan(first[0]! - 1.5);
      await lab.screenshot("notebook-running");

      await lab.panel.locator('[data-control="stop"]').click();
      await status("Interrupted");
      const interrupted = lab.cellWith("await resumed.fit()");
      await interrupted.getByText("Interrupted").first().waitFor();
      const reached = (await loss()).length;

      // The cell again, and the ones after it.
      await interrupted.locator(".cm-content").click();
      await lab.menu("Run", "Run Selected Cell and All Below");
      await status("Running");
      await lab.hasPoints("loss", reached + 5, TRAINING_MS);

      await lab.reloadWithPanel();
      await lab.panel.waitFor();
      await lab.hasPoints("loss", reached + 5, TRAINING_MS);
      const { x } = await lab.points("loss");
      expect(x.slice(0, 5)).toEqual([1, 2, 3, 4, 5]);
      await status("Finished");
      expect(await lab.tile("step")).toBe("400/ 400");
      const trained = await loss();
      expect(trained.at(-1)).toBeLessThan(4.3);
      await lab.screenshot("notebook-finished");
    } catch (error) {
      await lab.screenshot("notebook-failed");
      throw error;
    }
  },
  2 * TRAINING_MS,
);
