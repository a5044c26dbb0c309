import { createRequire } from "node:module";
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";
import type { Drawing } from "../../../lab-extension/src/model/drawing.js";
import type { PlotElement } from "../../../lab-extension/src/widgets/chart.js";
import type { Browser } from "./browser.js";
import { DebugTraffic } from "./debugTraffic.js";
import type { LabServer } from "./lab.js";

/** A panel of a notebook or folder, or an opened file. */
const PANEL = ".jp-MainAreaWidget > .aronnax-RunView, .aronnax-RunFile > .aronnax-RunView";

/** A tab with JupyterLab, worked as a user does. */
export class LabPage {
  /** Opens a notebook or file. `workspace` keeps the layout, so that a second tab or a reload finds it again. */
  static async open(browser: Browser, server: LabServer, workspace: string, path: string): Promise<LabPage> {
    const { page, errors } = await browser.newPage();
    const debugTraffic = new DebugTraffic(page);
    await page.goto(server.address(workspace, path));
    await page.locator("#jupyterlab-splash").waitFor({ state: "detached" });
    return new LabPage(page, errors, debugTraffic);
  }

  private constructor(
    readonly page: Page,
    /** What the page has logged as errors. */
    readonly errors: string[],
    /** What JupyterLab and the kernel's debugger say to each other. */
    readonly debugTraffic: DebugTraffic,
  ) {}

  /** The panel with the runs. */
  get panel(): Locator {
    return this.page.locator(PANEL);
  }

  chart(id: string): Locator {
    return this.panel.locator(`[data-chart="${id}"]`);
  }

  async tile(name: string): Promise<string> {
    return (await this.panel.locator(`[data-tile="${name}"] .aronnax-Tile-value`).textContent()) ?? "";
  }

  /** Opens the panel with the button of the notebook's toolbar. */
  async showRuns(): Promise<void> {
    await this.page.locator('.jp-NotebookPanel-toolbar [data-jp-item-name="aronnax-runs"]').click();
    await this.panel.waitFor();
  }

  /** Waits until the notebook has its kernel: before, JupyterLab drops what it is told to run. */
  async kernelIsIdle(kernel = "TypeScript (Aronnax)"): Promise<void> {
    await this.page.locator("#jp-main-statusbar").getByText(`${kernel} | Idle`, { exact: true }).waitFor();
  }

  /** Starts the nth code cell, and returns at once. */
  async runCell(index: number): Promise<void> {
    const cell = this.page.locator(".jp-Notebook .jp-CodeCell").nth(index);
    await cell.locator(".cm-content").click();
    await this.page.keyboard.press("Control+Enter");
  }

  /** Waits until the nth code cell has run. */
  async cellHasRun(index: number): Promise<void> {
    const prompt = this.page.locator(".jp-Notebook .jp-CodeCell").nth(index).locator(".jp-InputPrompt");
    await prompt.getByText(/^\[\d+\]:$/).waitFor();
  }

  /** Chooses an entry of a menu, by the texts on the way to it. */
  async menu(...path: readonly string[]): Promise<void> {
    const exactly = (text: string) => new RegExp(`^${text}$`);
    const [bar, ...entries] = path;
    await this.page.locator(".lm-MenuBar-itemLabel", { hasText: exactly(bar!) }).click();
    for (const entry of entries) {
      await this.page.locator(".lm-Menu-itemLabel", { hasText: exactly(entry) }).click();
    }
  }

  /** Waits until the notebook has no unsaved changes. */
  async isSaved(): Promise<void> {
    await this.page.locator(".jp-NotebookPanel.jp-Document").waitFor();
    await this.page
      .locator(".lm-DockPanel-tabBar .lm-TabBar-tab.jp-mod-dirty")
      .waitFor({ state: "detached" });
  }

  /**
   * Waits until the server keeps a layout that holds this text. JupyterLab sends a layout 0.75 s after its last change: a page that is
   * reloaded before forgets it.
   */
  async layoutHolds(text: string): Promise<void> {
    const { origin, pathname } = new URL(this.page.url());
    const workspace = /\/workspaces\/([^/]+)/.exec(pathname)![1]!;
    const deadline = Date.now() + 60_000;
    for (;;) {
      const answer = await this.page.request.get(`${origin}/lab/api/workspaces/${workspace}`);
      const kept = JSON.stringify(await answer.json());
      if (kept.includes(text)) {
        return;
      }
      if (Date.now() > deadline) {
        throw new Error(`The layout of ${workspace} did not come to hold ${text} within 60 s: ${kept}`);
      }
      await this.page.waitForTimeout(100);
    }
  }

  /** Reloads the page once its layout is kept with the panel in it, which the reloaded page then shows. */
  async reloadWithPanel(): Promise<void> {
    await this.layoutHolds('"aronnax-runs:');
    await this.page.reload();
  }

  /** The code cell whose source has this text. */
  cellWith(text: string): Locator {
    return this.page.locator(".jp-Notebook .jp-CodeCell", {
      has: this.page.locator(".cm-content", { hasText: text }),
    });
  }

  async restartKernel(): Promise<void> {
    await this.menu("Kernel", "Restart Kernel…");
    await this.page.locator(".jp-Dialog .jp-mod-accept").click();
  }

  /** The points of a chart's line as they are drawn. */
  async points(chart: string, line = 0): Promise<{ x: number[]; y: number[] }> {
    const { lines } = await this.drawing(chart);
    const { x, y } = lines[line]!.points;
    return { x, y };
  }

  /** What a chart shows, in values. */
  async drawing(chart: string): Promise<Drawing> {
    // What is not finite is no JSON, but passes as a value.
    return (await this.chart(chart)
      .locator(".aronnax-Chart-plot")
      .evaluate((element) => (element as PlotElement).drawing)) as Drawing;
  }

  /** Waits until a chart's line has as many points. */
  async hasPoints(chart: string, count: number, timeout?: number): Promise<void> {
    const selector = `:is(${PANEL}) [data-chart="${chart}"] .aronnax-Chart-plot`;
    await this.page.waitForFunction(
      ([query, least]) => {
        const plot = document.querySelector(query) as PlotElement | null;
        return (plot?.drawing?.lines[0]?.points.x.length ?? 0) >= least;
      },
      [selector, count] as const,
      { timeout },
    );
  }

  /** What axe-core finds that is serious or worse, in a part of the page. */
  async violations(part: string): Promise<unknown[]> {
    await this.page.addScriptTag({ path: createRequire(import.meta.url).resolve("axe-core/axe.min.js") });
    return this.page.evaluate(async (include) => {
      const { axe } = window as unknown as {
        axe: {
          run(
            context: object,
          ): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }>;
        };
      };
      const { violations } = await axe.run({ include: [include] });
      return violations
        .filter(({ impact }) => impact === "serious" || impact === "critical")
        .map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html }) => html)]);
    }, part);
  }

  /** Keeps a picture in the folder that the variable SCREENSHOTS names, where it does. */
  async screenshot(name: string): Promise<void> {
    if (process.env.SCREENSHOTS) {
      await this.page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
    }
  }
}
