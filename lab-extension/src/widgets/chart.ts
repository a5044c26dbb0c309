import type { IDisposable } from "@lumino/disposable";
import type { Axis, Layout, PlotElement, Plotly } from "plotly.js-basic-dist-min";
import type { ChartSpec } from "../model/charts.js";
import { Drawer, type Drawing, type LegendEntry, legendOf, rowAt } from "../model/drawing.js";
import { formatPosition, formatTick, formatValue } from "../model/format.js";
import type { Run } from "../model/run.js";
import { integerTicks, linearTicks, logTicks, timeTicks } from "../model/ticks.js";
import type { ViewOptions } from "../model/viewOptions.js";
import type { ViewEnvironment } from "./environment.js";
import { type Palette, readPalette, seriesColour } from "./palette.js";
import { tracesOf } from "./traces.js";

// 1.15 MB: loaded by the first chart, not with JupyterLab.
let plotly: Promise<Plotly> | undefined;
const loadPlotly = () => {
  plotly ??= import("plotly.js-basic-dist-min").then(
    (module) => module.default,
    (error: unknown) => {
      plotly = undefined; // the server was away: the next draw tries again
      throw error;
    },
  );
  return plotly;
};

const MARGIN = { top: 8, right: 10, bottom: 22 };
const MOST_TICKS = 10;
const LEAST_SIZE = 60;
const TICK_SPACING = { x: 64, y: 36 };

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
    title.id = `aronnax-chart-${spec.id}-${nextId++}`;
    this.node.setAttribute("aria-labelledby", title.id);
    this.#log = document.createElement("button");
    this.#log.type = "button";
    this.#log.className = "aronnax-Chart-log";
    this.#log.textContent = trans.__("log");
    this.#log.title = trans.__("Logarithmic scale");
    this.#log.addEventListener("click", () => this.#toggleLog());
    this.#legend.className = "aronnax-Legend";
    header.append(title, this.#legend, this.#log);
    this.#plot.className = "aronnax-Chart-plot";
    this.#plot.tabIndex = 0;
    this.#plot.setAttribute("role", "img");
    this.#cursor.className = "aronnax-Chart-cursor";
    this.#frame.className = "aronnax-Chart-frame";
    this.#frame.append(this.#plot, this.#cursor);
    this.node.append(header, this.#frame);

    this.#frame.addEventListener("pointermove", this.#onPointerMove);
    this.#frame.addEventListener("pointerleave", this.#onPointerLeave);
    this.#plot.addEventListener("pointerdown", this.#onPointerDown);
    this.#plot.addEventListener("keydown", this.#onKeyDown);
    this.#resize.observe(this.#frame);
    this.#visibility.observe(this.node);
    environment.themeChanged.connect(this.#onThemeChanged, this);
    options.cursorChanged.connect(this.#showCursor, this);
  }

  readonly node: HTMLElement;

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** Shows these runs as they are now, in an animation frame to come, if the chart is visible. */
  update(runs: readonly Run[]): void {
    this.#runs = runs;
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
    window.removeEventListener("pointerup", this.#onPointerUp);
    this.#resize.disconnect();
    this.#visibility.disconnect();
    if (this.#isPlotted) {
      void loadPlotly().then((library) => library.purge(this.#plot));
    }
    this.node.remove();
  }

  #request(): void {
    if (this.#isVisible && !this.#isDragging && this.#runs.length > 0) {
      this.environment.frames.request(this.#draw);
    }
  }

  readonly #draw = async (): Promise<void> => this.#render(await loadPlotly());

  #render(library: Plotly): void {
    const { width, height } = this.#frame.getBoundingClientRect();
    if (this.#isDisposed || this.#isDragging) {
      return;
    }
    if (width === 0) {
      // JupyterLab hides itself for a frame when the theme changes: too short for an observer to tell.
      this.#request();
      return;
    }
    if (width < LEAST_SIZE || height < LEAST_SIZE) {
      return;
    }
    this.#palette ??= readPalette(this.node);
    const { choices, zoom } = this.options;
    const drawing = this.#drawer.draw(this.#runs, choices, zoom, Math.floor(width - 50));
    this.#drawing = drawing;
    this.#log.setAttribute("aria-pressed", String(drawing.log));
    const layout = this.#layout(drawing, this.#palette, Math.floor(width), Math.floor(height));
    this.#marginLeft = layout.margin.l;
    // Most of it happens before it returns; its promise is of the fonts and the like.
    void library
      .react(this.#plot, tracesOf(drawing, this.#palette), layout, {
        displayModeBar: false,
        displaylogo: false,
        showSendToCloud: false,
        responsive: false,
        scrollZoom: false,
        showTips: false,
        doubleClick: false,
      })
      .then((element) => this.#listen(element));
    this.#showLegend();
    this.#showCursor();
  }

  #layout(drawing: Drawing, palette: Palette, width: number, height: number): Layout {
    const { unit } = this.spec;
    const { xAxis } = this.options.choices;
    const [low, high] = drawing.y;
    const yCount = Math.max(2, Math.floor(height / TICK_SPACING.y));
    const yTicks = drawing.log ? logTicks(low, high, yCount) : linearTicks(low, high, yCount);
    const yText = yTicks.map((tick) => formatTick(tick, unit));
    const xCount = Math.min(MOST_TICKS, Math.max(2, Math.floor(width / TICK_SPACING.x)));
    const xTicks = (xAxis === "time" ? timeTicks : integerTicks)(drawing.x[0], drawing.x[1], xCount);
    const toAxis = (value: number) => (drawing.log ? Math.log10(value) : value);
    const axis: Partial<Axis> = {
      tickmode: "array",
      gridcolor: palette.grid,
      zeroline: false,
      color: palette.text,
    };
    const longest = Math.max(3, ...yText.map((text) => text.length));
    return {
      width,
      height,
      margin: {
        l: Math.ceil(longest * palette.fontSize * 0.56) + 12,
        r: MARGIN.right,
        t: MARGIN.top,
        b: MARGIN.bottom,
        autoexpand: false,
      },
      xaxis: {
        ...axis,
        range: drawing.x,
        showgrid: false,
        showline: true,
        linecolor: palette.grid,
        tickvals: xTicks,
        ticktext: xTicks.map((tick) => formatPosition(tick, xAxis)),
      },
      yaxis: {
        ...axis,
        type: drawing.log ? "log" : "linear",
        range: [toAxis(low), toAxis(high)],
        fixedrange: true,
        tickvals: yTicks,
        ticktext: yText,
      },
      paper_bgcolor: palette.background,
      plot_bgcolor: palette.background,
      font: { family: palette.font, size: palette.fontSize, color: palette.text },
      hovermode: false,
      dragmode: "zoom",
      showlegend: false,
    };
  }

  #listen(element: PlotElement): void {
    if (this.#isPlotted || this.#isDisposed) {
      return;
    }
    this.#isPlotted = true;
    element.on("plotly_relayout", (event) => {
      const from = event["xaxis.range[0]"];
      const to = event["xaxis.range[1]"];
      if (from !== undefined && to !== undefined && to > from) {
        this.options.zoomTo([from, to]);
      }
    });
    element.on("plotly_doubleclick", () => this.options.zoomTo(null));
  }

  /** The legend's entries; their values are those under the cursor, or the newest. */
  #showLegend(): void {
    const entries = legendOf(this.spec, this.#runs);
    const key = entries.map((entry) => `${entry.run.id} ${entry.line.column} ${entry.colour}`).join("\n");
    if (key !== this.#legendKey) {
      this.#legendKey = key;
      this.#legend.replaceChildren(...entries.map((entry) => this.#legendItem(entry)));
    }
    const { cursor, choices } = this.options;
    const texts = entries.map(({ run, line }, i) => {
      const series = run.series(line.column)!;
      const value =
        cursor === null ? series.last : series.values[series.nearest(rowAt(run, choices.xAxis, cursor))]!;
      const text = formatValue(value, this.spec.unit);
      const output = this.#legend.children[i]!.lastElementChild as HTMLElement;
      output.textContent = text;
      output.classList.toggle("aronnax-mod-nonFinite", !Number.isFinite(value));
      return `${line.label} ${text}`;
    });
    this.#plot.setAttribute("aria-label", `${this.spec.title}: ${texts.join(", ")}`);
  }

  #legendItem({ run, line, colour, dashed }: LegendEntry): HTMLElement {
    const single = this.spec.lines.length === 1;
    const item = document.createElement("span");
    item.className = "aronnax-Legend-item";
    const swatch = document.createElement("span");
    swatch.className = "aronnax-Legend-swatch";
    swatch.classList.toggle("aronnax-mod-dashed", dashed);
    swatch.hidden = single && this.#runs.length === 1;
    swatch.style.setProperty("--aronnax-colour", seriesColour(colour));
    const name = document.createElement("span");
    name.className = "aronnax-Legend-name";
    name.textContent =
      this.#runs.length === 1 ? line.label : single ? run.info.name : `${run.info.name} · ${line.label}`;
    name.hidden = single && this.#runs.length === 1;
    name.classList.toggle("aronnax-mod-run", this.#runs.length > 1);
    const value = document.createElement("output");
    value.className = "aronnax-Legend-value";
    item.append(swatch, name, value);
    return item;
  }

  #showCursor(): void {
    const { cursor } = this.options;
    const drawing = this.#drawing;
    if (cursor === null || !drawing || !this.#isVisible) {
      this.#cursor.hidden = true;
    } else {
      const [low, high] = drawing.x;
      const width = this.#frame.clientWidth - this.#marginLeft - MARGIN.right;
      const fraction = (cursor - low) / (high - low);
      this.#cursor.hidden = fraction < 0 || fraction > 1;
      this.#cursor.style.left = `${this.#marginLeft + fraction * width}px`;
      this.#cursor.dataset.position = formatPosition(cursor, this.options.choices.xAxis);
      this.#cursor.classList.toggle("aronnax-mod-flipped", fraction > 0.7);
    }
    if (drawing) {
      this.#showLegend();
    }
  }

  #toggleLog(): void {
    const { logCharts } = this.options.choices;
    const { id } = this.spec;
    this.options.set({
      logCharts: logCharts.includes(id) ? logCharts.filter((chart) => chart !== id) : [...logCharts, id],
    });
  }

  #pointAtRow(row: number): void {
    const run = this.#runs[0]!;
    const { xAxis } = this.options.choices;
    const series = run.series(xAxis) ?? run.series("step");
    const clamped = Math.min(Math.max(row, 0), run.rowCount - 1);
    this.options.pointAt(series?.at(clamped) ?? clamped);
  }

  readonly #onPointerMove = (event: PointerEvent): void => {
    const drawing = this.#drawing;
    if (!drawing) {
      return;
    }
    const box = this.#frame.getBoundingClientRect();
    const width = box.width - this.#marginLeft - MARGIN.right;
    const fraction = (event.clientX - box.left - this.#marginLeft) / width;
    const x = drawing.x[0] + fraction * (drawing.x[1] - drawing.x[0]);
    if (fraction < 0 || fraction > 1) {
      this.options.pointAt(null);
    } else {
      this.#pointAtRow(rowAt(this.#runs[0]!, this.options.choices.xAxis, x));
    }
  };

  readonly #onPointerLeave = (): void => this.options.pointAt(null);

  // A redraw under the pointer would end the user's zoom.
  readonly #onPointerDown = (): void => {
    this.#isDragging = true;
    window.addEventListener("pointerup", this.#onPointerUp, { once: true });
  };

  readonly #onPointerUp = (): void => {
    // After plotly's own handler, which turns the drag into a zoom.
    setTimeout(() => {
      this.#isDragging = false;
      this.#request();
    });
  };

  readonly #onKeyDown = (event: KeyboardEvent): void => {
    const run = this.#runs[0];
    if (!run || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const { cursor, choices } = this.options;
    const row = cursor === null ? run.rowCount - 1 : rowAt(run, choices.xAxis, cursor);
    const stride = event.shiftKey ? Math.max(1, Math.round(run.rowCount / 20)) : 1;
    switch (event.key) {
      case "ArrowLeft":
        this.#pointAtRow(row - stride);
        break;
      case "ArrowRight":
        this.#pointAtRow(row + stride);
        break;
      case "Home":
        this.#pointAtRow(0);
        break;
      case "End":
        this.#pointAtRow(run.rowCount - 1);
        break;
      case "Escape":
        this.options.pointAt(null);
        this.options.zoomTo(null);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  #onThemeChanged(): void {
    this.#palette = undefined;
    this.#request();
  }

  readonly #drawer: Drawer;
  readonly #frame = document.createElement("div");
  readonly #plot = document.createElement("div");
  readonly #cursor = document.createElement("div");
  readonly #legend = document.createElement("div");
  readonly #log: HTMLButtonElement;
  readonly #resize = new ResizeObserver(() => this.#request());
  readonly #visibility = new IntersectionObserver((entries) => {
    this.#isVisible = entries.at(-1)!.isIntersecting;
    this.#request();
  });
  #runs: readonly Run[] = [];
  #drawing: Drawing | undefined;
  #palette: Palette | undefined;
  #legendKey = "";
  #marginLeft = 0;
  #isVisible = false;
  #isDragging = false;
  #isPlotted = false;
  #isDisposed = false;
}

let nextId = 0;
