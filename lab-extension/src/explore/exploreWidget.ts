import type { TranslationBundle } from "@jupyterlab/translation";
import type { Message } from "@lumino/messaging";
import type { ISignal } from "@lumino/signaling";
import { Widget } from "@lumino/widgets";
import type { Plotly } from "plotly.js-basic-dist-min";
import type { ChartSpec } from "../model/charts.js";
import type { Run } from "../model/run.js";
import type { ViewChoices } from "../model/viewOptions.js";
import { readPalette } from "../painting/palette.js";
import { figureOf } from "./figure.js";

/** What there is to explore. */
export interface Explored {
  readonly spec: ChartSpec;
  readonly runs: readonly Run[];
  readonly choices: ViewChoices;
}

/** Between looks at whether a run has grown, in ms. */
const EVERY = 1000;

/** A chart on its own, with all its values, drawn by plotly: zoom, box selection, hover over all lines, pictures. */
export class ExploreWidget extends Widget {
  constructor(
    private readonly explored: Explored,
    private readonly trans: TranslationBundle,
    private readonly themeChanged: ISignal<unknown, unknown>,
  ) {
    super();
    this.addClass("aronnax-Explore");
    this.#plot.className = "aronnax-Explore-plot";
    this.node.append(this.#plot);
    this.node.setAttribute("aria-label", explored.spec.title);
    themeChanged.connect(this.#redraw, this);
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    window.clearInterval(this.#timer);
    this.themeChanged.disconnect(this.#redraw, this);
    this.#plotly?.purge(this.#plot);
    super.dispose();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    void this.#begin();
  }

  protected override onResize(): void {
    if (this.#plotly && this.isVisible) {
      this.#plotly.Plots.resize(this.#plot);
    }
  }

  async #begin(): Promise<void> {
    if (this.#timer !== 0) {
      return;
    }
    this.#timer = window.setInterval(() => this.#look(), EVERY);
    try {
      const { default: plotly } = await import("plotly.js-basic-dist-min");
      if (!this.isDisposed) {
        this.#plotly = plotly;
        this.#look();
      }
    } catch (error) {
      window.clearInterval(this.#timer);
      this.#plot.textContent = this.trans.__("The chart cannot be drawn: %1", String(error));
    }
  }

  #look(): void {
    if (!this.#plotly) {
      return;
    }
    const state = this.explored.runs.map(({ id, version }) => `${id} ${version}`).join("\n");
    if (state !== this.#drawn && this.isVisible) {
      this.#drawn = state;
      this.#redraw();
    }
  }

  #redraw(): void {
    const plotly = this.#plotly;
    if (!plotly || this.isDisposed) {
      return;
    }
    const { spec, runs, choices } = this.explored;
    const { data, layout } = figureOf(spec, runs, choices, readPalette(this.node), this.trans);
    const filename = `${runs[0]?.info.name ?? "run"}-${spec.id}`.replace(/[^\w.-]+/g, "-");
    const svg = {
      name: "svg",
      title: this.trans.__("Download plot as an SVG"),
      icon: plotly.Icons.disk,
      click: (plot: HTMLElement) => void plotly.downloadImage(plot, { format: "svg", filename }),
    };
    void plotly.react(this.#plot, data, layout, {
      displaylogo: false,
      showSendToCloud: false,
      responsive: true,
      toImageButtonOptions: { filename, scale: 2 },
      modeBarButtonsToAdd: [svg],
    });
  }

  readonly #plot = document.createElement("div");
  #plotly: Plotly | undefined;
  #timer = 0;
  #drawn = "";
}
