import type { ReadonlyJSONObject } from "@lumino/coreutils";
import { type ISignal, Signal } from "@lumino/signaling";

/** The columns that a run always can be drawn over, where it has them; any other column can be chosen as well. */
export const X_AXES = ["step", "tokens", "time"] as const;
/** A column. */
export type XAxis = string;

export const TABS = ["charts", "samples", "configuration", "compare"] as const;
export type Tab = (typeof TABS)[number];

/** What the user chose in a view; plain JSON, so that it outlives a page reload. */
export interface ViewChoices {
  readonly xAxis: XAxis;
  /** Weight of the past in the moving average, 0 to 0.995. */
  readonly smoothing: number;
  /** Charts with a logarithmic y axis, by id. */
  readonly logCharts: readonly string[];
  /** The y axes leave out the few values that are far from all others; they are marked at the edge. */
  readonly robust: boolean;
  /** The run of the header; null follows the newest. */
  readonly run: string | null;
  /** Runs drawn beside it. */
  readonly compare: readonly string[];
  /** The run that others are compared with. */
  readonly baseline: string | null;
  /** A key of the configuration: runs that have the same value of it are drawn as one, with their average and a band. */
  readonly groupBy: string | null;
  readonly tab: Tab;
}

export const DEFAULT_CHOICES: ViewChoices = {
  xAxis: "step",
  smoothing: 0,
  logCharts: [],
  robust: false,
  run: null,
  compare: [],
  baseline: null,
  groupBy: null,
  tab: "charts",
};

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((entry): entry is string => typeof entry === "string") : [];
}

/** Choices as they were stored, with defaults for what is missing or not valid. */
export function readChoices(stored: unknown, defaults: ViewChoices = DEFAULT_CHOICES): ViewChoices {
  const given = (typeof stored === "object" && stored !== null ? stored : {}) as Record<string, unknown>;
  const { smoothing } = given;
  const text = (value: unknown, otherwise: string | null) => (typeof value === "string" ? value : otherwise);
  return {
    xAxis: typeof given.xAxis === "string" && given.xAxis !== "" ? given.xAxis : defaults.xAxis,
    smoothing:
      typeof smoothing === "number" && smoothing >= 0 && smoothing < 1 ? smoothing : defaults.smoothing,
    logCharts: "logCharts" in given ? strings(given.logCharts) : defaults.logCharts,
    robust: typeof given.robust === "boolean" ? given.robust : defaults.robust,
    run: text(given.run, defaults.run),
    compare: "compare" in given ? strings(given.compare) : defaults.compare,
    baseline: text(given.baseline, defaults.baseline),
    groupBy: text(given.groupBy, defaults.groupBy),
    tab: TABS.find((tab) => tab === given.tab) ?? defaults.tab,
  };
}

type Range = readonly [number, number];

/** The choices of one view, what is zoomed in and where the cursor is: shared by its charts. */
export class ViewOptions {
  constructor(choices: ViewChoices = DEFAULT_CHOICES) {
    this.#choices = choices;
  }

  /** A choice or the zoom changed: everything is drawn again. */
  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** Only what is zoomed in changed; `changed` is not emitted for it. */
  get zoomChanged(): ISignal<this, void> {
    return this.#zoomChanged;
  }

  get cursorChanged(): ISignal<this, number | null> {
    return this.#cursorChanged;
  }

  get choices(): ViewChoices {
    return this.#choices;
  }

  /** The part of the x axis on display in every chart, null for all of it. Not kept over a reload. */
  get zoom(): Range | null {
    return this.#zoom;
  }

  /** The part of the y axis of a chart, null for what its values ask for. */
  zoomOf(chart: string): Range | null {
    return this.#yZooms.get(chart) ?? null;
  }

  get isZoomed(): boolean {
    return this.#zoom !== null || this.#yZooms.size > 0;
  }

  /** The x value under the pointer in any chart. */
  get cursor(): number | null {
    return this.#cursor;
  }

  set(choices: Partial<ViewChoices>): void {
    if (choices.xAxis !== undefined && choices.xAxis !== this.#choices.xAxis) {
      this.#zoom = null;
      this.#cursor = null;
    }
    this.#choices = { ...this.#choices, ...choices };
    this.#changed.emit();
  }

  /** Shows a part of the x axis in all charts. */
  zoomTo(range: Range | null): void {
    this.#zoom = range;
    this.#zoomChanged.emit();
  }

  /** Shows a part of the y axis of one chart. */
  zoomChart(chart: string, range: Range | null): void {
    if (range) {
      this.#yZooms.set(chart, range);
    } else {
      this.#yZooms.delete(chart);
    }
    this.#zoomChanged.emit();
  }

  /** Shows everything again. */
  resetZoom(): void {
    if (this.isZoomed) {
      this.#zoom = null;
      this.#yZooms.clear();
      this.#zoomChanged.emit();
    }
  }

  pointAt(x: number | null): void {
    if (x !== this.#cursor) {
      this.#cursor = x;
      this.#cursorChanged.emit(x);
    }
  }

  toJSON(): ReadonlyJSONObject {
    return { ...this.#choices };
  }

  #choices: ViewChoices;
  #zoom: Range | null = null;
  readonly #yZooms = new Map<string, Range>();
  #cursor: number | null = null;
  readonly #changed = new Signal<this, void>(this);
  readonly #zoomChanged = new Signal<this, void>(this);
  readonly #cursorChanged = new Signal<this, number | null>(this);
}
