import type { IDisposable } from "@lumino/disposable";
import type { ChartSpec } from "../model/charts.js";
import { Drawer, type Drawing, type LegendEntry, legendOf, type Range } from "../model/drawing.js";
import { axisTitle, formatPosition, formatValue, unitTitle } from "../model/format.js";
import type { Run } from "../model/run.js";
import type { RunGroup } from "../model/seedAverage.js";
import type { ViewOptions } from "../model/viewOptions.js";
import { nameOf } from "../model/wording.js";
import { type Axes, layOut, paintAxes, paintLines } from "../painting/paint.js";
import { type Palette, readPalette, seriesColour } from "../painting/palette.js";
import { CanvasPen } from "../painting/pen.js";
import { ChartPointer } from "./chartPointer.js";
import type { ViewEnvironment } from "./environment.js";
import { HoverTable } from "./hoverTable.js";
import { nearestPosition, readingOf } from "./readings.js";

const LEAST_SIZE = 40;
/** Least time between two drawings of a chart that is zoomed or moved, and of the values of a legend under a pointer that moves. */
const REDRAW_MS = 90;
const LEGEND_MS = 60;
/** Room around the plot for marks that lie on its edge. */
const EDGE = 8;

/** The element of a plot tells what it shows. */
export interface PlotElement extends HTMLElement {
  drawing?: Drawing;
}

/** One chart in its card: title, legend with values, plot. */
export class Chart implements IDisposable {
  constructor(
    readonly spec: ChartSpec,
    private readonly options: ViewOptions,
    private readonly environment: ViewEnvironment,
  ) {
    const { trans } = environment;
    this.#drawer = new Drawer(spec);
    this.node = document.createElement("section");
    this.node.className = "aronnax-Chart";
    this.node.classList.toggle("aronnax-mod-wide", spec.wide ?? false);
    this.node.classList.toggle("aronnax-mod-stacked", spec.stacked ?? false);
    this.node.dataset.chart = spec.id;
    const header = document.createElement("header");
    header.className = "aronnax-Chart-header";
    const title = document.createElement("h3");
    title.textContent = spec.title;
    title.title = spec.title;
    title.id = `aronnax-chart-${nextId++}`;
    this.node.setAttribute("aria-labelledby", title.id);
    this.#log.type = "button";
    this.#log.className = "aronnax-Chart-log";
    this.#log.textContent = trans.__("log");
    this.#log.title = trans.__("Logarithmic scale");
    this.#log.setAttribute("aria-label", trans.__("Logarithmic scale of %1", spec.title));
    this.#log.setAttribute("aria-pressed", "false");
    this.#log.addEventListener("click", () => this.#toggleLog());
    this.#legend.className = "aronnax-Legend";
    header.append(title, this.#legend, this.#log);
    const { explore } = environment;
    if (explore) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "aronnax-Chart-explore";
      button.textContent = trans.__("explore");
      button.title = trans.__("Open the chart on its own, with all its values");
      button.setAttribute("aria-label", trans.__("Explore %1", spec.title));
      button.addEventListener("click", () => explore({ spec, runs: this.#runs, choices: options.choices }));
      header.append(button);
    }
    this.#axes.className = "aronnax-Chart-axes";
    this.#clip.className = "aronnax-Chart-clip";
    this.#clip.append(this.#lines);
    this.#plot.className = "aronnax-Chart-plot";
    this.#plot.tabIndex = 0;
    this.#plot.setAttribute("role", "img");
    this.#plot.setAttribute("aria-label", spec.title);
    this.#cursor.className = "aronnax-Chart-cursor";
    this.#cursor.hidden = true;
    this.#note.className = "aronnax-Chart-note";
    this.#frame.className = "aronnax-Chart-frame";
    this.#hover = new HoverTable(trans);
    this.#frame.append(this.#axes, this.#clip, this.#note, this.#cursor, this.#plot, this.#hover.node);
    this.node.append(header, this.#frame);
    this.#pointer = new ChartPointer(this.#frame, this.#plot, spec.id, options, {
      drawing: () => this.#drawing,
      area: () => this.#layout?.plot,
      nearest: (x) => nearestPosition(this.#runs, options.choices.xAxis, x),
      runs: () => this.#runs,
      hovered: (at) => this.#showHover(at),
    });
    this.#resize.observe(this.#frame);
    this.#visibility.observe(this.node);
    environment.themeChanged.connect(this.#onThemeChanged, this);
    options.cursorChanged.connect(this.#showCursor, this);
    options.zoomChanged.connect(this.#onZoom, this);
  }

  readonly node: HTMLElement;

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** What the chart shows; undefined before it was drawn. */
  get drawing(): Drawing | undefined {
    return this.#drawing;
  }

  /** Shows these runs as they are now, in an animation frame to come, if the chart is visible. */
  update(runs: readonly Run[], groups: readonly RunGroup[] | null = null): void {
    if (runs.length !== this.#runs.length || runs.some((run, i) => run !== this.#runs[i])) {
      this.#drawer.forget();
    }
    this.#runs = runs;
    this.#groups = groups;
    this.#request();
  }

  dispose(): void {
    if (this.#isDisposed) {
      return;
    }
    this.#isDisposed = true;
    this.environment.frames.cancel(this.#draw);
    this.environment.themeChanged.disconnect(this.#onThemeChanged, this);
    this.options.cursorChanged.disconnect(this.#showCursor, this);
    this.options.zoomChanged.disconnect(this.#onZoom, this);
    this.#pointer.dispose();
    this.#resize.disconnect();
    this.#visibility.disconnect();
    this.node.remove();
  }

  #request(): void {
    if (this.#isVisible && !this.#isDisposed && this.#runs.length > 0) {
      this.environment.frames.request(this.#draw);
    }
  }

  readonly #draw = (): void => {
    const { width, height } = this.#size;
    if (this.#isDisposed || width < LEAST_SIZE || height < LEAST_SIZE) {
      return;
    }
    const { choices, zoom } = this.options;
    const zoomY = this.options.zoomOf(this.spec.id);
    const state = [
      width,
      height,
      devicePixelRatio,
      JSON.stringify([choices, zoom, zoomY]),
      this.#groups?.map(({ label, runs }) => `${label} ${runs.length}`).join() ?? "",
      ...this.#runs.map((run) => `${run.id} ${run.version}`),
    ].join("\n");
    if (state === this.#drawnState && this.#palette) {
      this.#move(null);
      return;
    }
    this.#drawnState = state;
    this.#drawnAt = performance.now();
    this.#palette ??= readPalette(this.node);
    const palette = this.#palette;
    const drawing = this.#drawer.draw(
      this.#runs,
      choices,
      zoom,
      Math.max(20, Math.floor(width - 60)),
      zoomY,
      this.#groups,
    );
    this.#drawing = drawing;
    this.#plot.drawing = drawing;
    const { trans } = this.environment;
    const layout = layOut(
      drawing,
      {
        unit: this.spec.unit,
        yTitle: unitTitle(this.spec, trans),
        axis: choices.xAxis,
        xTitle: axisTitle(choices.xAxis, trans),
        fontSize: palette.fontSize,
      },
      width,
      height,
    );
    this.#layout = layout;
    this.#paint(drawing, layout, palette, width, height);
    this.#move(null);
    this.#log.setAttribute("aria-pressed", String(drawing.log));
    this.#note.textContent = this.#noteOf(drawing);
    this.#showLegend();
    this.#showCursor();
  };

  #paint(drawing: Drawing, layout: Axes, palette: Palette, width: number, height: number): void {
    const axesKey = JSON.stringify([layout, palette, width, height, devicePixelRatio]);
    if (axesKey !== this.#axesKey) {
      this.#axesKey = axesKey;
      paintAxes(new CanvasPen(contextOf(this.#axes, width, height), palette.font), layout, palette);
      const { left, top, width: plotWidth, height: plotHeight } = layout.plot;
      const { style } = this.#clip;
      style.left = `${left - EDGE}px`;
      style.top = `${top - EDGE}px`;
      style.width = `${plotWidth + 2 * EDGE}px`;
      style.height = `${plotHeight + 2 * EDGE}px`;
      this.#lines.style.left = `${EDGE - left}px`;
      this.#lines.style.top = `${EDGE - top}px`;
    }
    const pen = new CanvasPen(contextOf(this.#lines, width, height), palette.font);
    paintLines(pen, drawing, this.spec, layout.plot, palette);
  }

  /** Until it is drawn again, the picture is moved to where its values belong now. */
  readonly #onZoom = (): void => {
    this.#move(this.options.zoom);
    // Moving costs next to nothing, drawing what is moved a few times a second is enough.
    const wait = this.#drawnAt + REDRAW_MS - performance.now();
    if (wait <= 0) {
      this.#request();
    } else if (this.#later === undefined) {
      this.#later = setTimeout(() => {
        this.#later = undefined;
        this.#request();
      }, wait);
    }
  };

  #move(range: Range | null): void {
    const { style } = this.#lines;
    if (!range || !this.#drawing || !this.#layout) {
      style.transform = "";
      return;
    }
    const [a, b] = this.#drawing.x;
    const { left, width } = this.#layout.plot;
    const scale = (b - a) / (range[1] - range[0]);
    const shift = left + ((a - range[0]) * width) / (range[1] - range[0]) - scale * left;
    style.transform = `matrix(${scale}, 0, 0, 1, ${shift}, 0)`;
  }

  #noteOf(drawing: Drawing): string {
    const { trans } = this.environment;
    if (drawing.notPositive > 0) {
      return trans._n(
        "%1 value is not above 0, where a logarithmic scale has no place",
        "%1 values are not above 0, where a logarithmic scale has no place",
        drawing.notPositive,
      );
    }
    const { limit } = this.spec;
    if (limit !== undefined) {
      return trans.__("Capacity %1", formatValue(limit, this.spec.unit));
    }
    const { xAxis } = this.options.choices;
    const without = this.#runs.filter((run) => !run.positions(xAxis).isThere);
    return without.length > 0 ? trans.__("No column “%1” in %2", xAxis, without[0]!.info.name) : "";
  }

  /** The legend's entries; their values are those under the cursor, or the newest. */
  #showLegend(): void {
    const entries = legendOf(this.spec, this.#runs);
    const isOfOne = this.#runs.length === 1;
    const key = entries.map((entry) => `${entry.run.id} ${entry.line.column} ${entry.colour}`).join("\n");
    if (key !== this.#legendKey) {
      this.#legendKey = key;
      this.#legend.hidden = !isOfOne;
      this.#legend.replaceChildren(...(isOfOne ? entries.map((entry) => this.#legendItem(entry)) : []));
      this.#values = [...this.#legend.querySelectorAll<HTMLElement>(".aronnax-Legend-value")];
    }
    const { cursor, choices } = this.options;
    const texts = entries.slice(0, 6).map((entry, i) => {
      const value = readingOf(this.spec, entry, choices.xAxis, cursor, isOfOne);
      const { run, line } = entry;
      const isMissing = value === undefined;
      const text = isMissing ? "–" : formatValue(value, this.spec.unit);
      const output = this.#values[i];
      if (output && output.textContent !== text) {
        output.textContent = text;
        output.classList.toggle("aronnax-mod-nonFinite", !isMissing && !Number.isFinite(value));
      }
      return `${isOfOne ? "" : `${run.info.name} `}${line.label} ${text}`;
    });
    const label = `${this.spec.title}: ${texts.join(", ")}`;
    if (label !== this.#label) {
      this.#label = label;
      this.#plot.setAttribute("aria-label", label);
    }
  }

  #legendItem({ line, colour, dashed }: LegendEntry): HTMLElement {
    const isAlone = this.spec.lines.length === 1;
    const item = document.createElement("span");
    item.className = "aronnax-Legend-item";
    const swatch = document.createElement("span");
    swatch.className = "aronnax-Legend-swatch";
    swatch.classList.toggle("aronnax-mod-dashed", dashed);
    swatch.hidden = isAlone;
    swatch.style.setProperty("--aronnax-colour", seriesColour(colour));
    const name = document.createElement("span");
    name.className = "aronnax-Legend-name";
    name.textContent = line.label;
    name.hidden = isAlone;
    const value = document.createElement("span");
    value.className = "aronnax-Legend-value";
    item.append(swatch, name, value);
    return item;
  }

  #showCursor(): void {
    const { cursor, choices } = this.options;
    const drawing = this.#drawing;
    const layout = this.#layout;
    if (!this.#isVisible || !drawing || !layout) {
      return;
    }
    if (cursor === null) {
      this.#cursor.hidden = true;
    } else {
      const [low, high] = drawing.x;
      const { left, top, width, height } = layout.plot;
      const share = (cursor - low) / (high - low);
      this.#cursor.hidden = !(share >= 0 && share <= 1);
      this.#cursor.style.transform = `translate(${left + share * width}px, ${top}px)`;
      this.#cursor.style.height = `${height}px`;
      const text = formatPosition(cursor, choices.xAxis);
      if (this.#cursor.dataset.position !== text) {
        this.#cursor.dataset.position = text;
      }
      this.#cursor.classList.toggle("aronnax-mod-flipped", share > 0.7);
    }
    this.#legendTimer ??= setTimeout(() => {
      this.#legendTimer = undefined;
      if (!this.#isDisposed) {
        this.#showLegend();
      }
    }, LEGEND_MS);
  }

  /** The table at the pointer, in the chart that it is over. */
  #showHover(at: { x: number; y: number } | null): void {
    const { cursor, choices } = this.options;
    if (!at || cursor === null || !this.#drawing) {
      this.#hover.hide();
      return;
    }
    this.#hover.show(
      legendOf(this.spec, this.#runs).map((entry) => {
        const { run, line, colour, dashed } = entry;
        const isOfOne = this.#runs.length === 1;
        return {
          name: isOfOne ? line.label : nameOf(run, this.#runs),
          detail: !isOfOne && this.spec.lines.length > 1 ? line.label : "",
          colour,
          dashed,
          value: readingOf(this.spec, entry, choices.xAxis, cursor, isOfOne),
          isBaseline: run.id === choices.baseline,
        };
      }),
      `${axisTitle(choices.xAxis, this.environment.trans)} ${formatPosition(cursor, choices.xAxis)}`,
      this.spec.unit,
      at,
      this.#size,
    );
  }

  #toggleLog(): void {
    const { logCharts } = this.options.choices;
    const { id } = this.spec;
    this.options.zoomChart(id, null);
    this.options.set({
      logCharts: logCharts.includes(id) ? logCharts.filter((chart) => chart !== id) : [...logCharts, id],
    });
  }

  #onThemeChanged(): void {
    // The theme's style sheet is there, and its colours a moment later.
    requestAnimationFrame(() => {
      this.#palette = undefined;
      this.#axesKey = "";
      this.#request();
    });
  }

  readonly #drawer: Drawer;
  readonly #hover: HoverTable;
  readonly #pointer: ChartPointer;
  readonly #frame = document.createElement("div");
  readonly #axes = document.createElement("canvas");
  readonly #clip = document.createElement("div");
  readonly #lines = document.createElement("canvas");
  readonly #plot: PlotElement = document.createElement("div");
  readonly #cursor = document.createElement("div");
  readonly #note = document.createElement("div");
  readonly #legend = document.createElement("div");
  readonly #log = document.createElement("button");
  readonly #resize = new ResizeObserver((entries) => {
    const { width, height } = entries.at(-1)!.contentRect;
    this.#size = { width: Math.floor(width), height: Math.floor(height) };
    this.#request();
  });
  readonly #visibility = new IntersectionObserver((entries) => {
    this.#isVisible = entries.at(-1)!.isIntersecting;
    this.#request();
  });
  #size = { width: 0, height: 0 };
  #runs: readonly Run[] = [];
  #groups: readonly RunGroup[] | null = null;
  #values: HTMLElement[] = [];
  #drawing: Drawing | undefined;
  #layout: Axes | undefined;
  #palette: Palette | undefined;
  #axesKey = "";
  #legendKey = "";
  #label = "";
  #drawnState = "";
  #drawnAt = 0;
  #later: ReturnType<typeof setTimeout> | undefined;
  #legendTimer: ReturnType<typeof setTimeout> | undefined;
  #isVisible = false;
  #isDisposed = false;
}

let nextId = 0;

/** The context of a canvas that has this size in CSS pixels, wiped. */
function contextOf(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const ratio = devicePixelRatio;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d")!;
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  } else {
    context.clearRect(0, 0, width, height);
  }
  return context;
}
