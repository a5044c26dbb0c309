import type { ReadonlyJSONObject } from "@lumino/coreutils";
import { type ISignal, Signal } from "@lumino/signaling";

export const X_AXES = ["step", "tokens", "time"] as const;
export type XAxis = (typeof X_AXES)[number];

/** What the user chose in a view; plain JSON, so that it outlives a page reload. */
export interface ViewChoices {
  readonly xAxis: XAxis;
  /** Weight of the past in the moving average, 0 to 0.99. */
  readonly smoothing: number;
  /** Charts with a logarithmic y axis, by id. */
  readonly logCharts: readonly string[];
  /** The run of the header; null follows the newest. */
  readonly run: string | null;
  /** Runs drawn beside it. */
  readonly compare: readonly string[];
}

export const DEFAULT_CHOICES: ViewChoices = {
  xAxis: "step",
  smoothing: 0,
  logCharts: [],
  run: null,
  compare: [],
};

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((entry): entry is string => typeof entry === "string") : [];
}

/** Choices as they were stored, with defaults for what is missing or not valid. */
export function readChoices(stored: unknown, defaults: ViewChoices = DEFAULT_CHOICES): ViewChoices {
  const given = (typeof stored === "object" && stored !== null ? stored : {}) as Record<string, unknown>;
  const smoothing = given.smoothing;
  return {
    xAxis: X_AXES.find((axis) => axis === given.xAxis) ?? defaults.xAxis,
    smoothing:
      typeof smoothing === "number" && smoothing >= 0 && smoothing < 1 ? smoothing : defaults.smoothing,
    logCharts: "logCharts" in given ? strings(given.logCharts) : defaults.logCharts,
    run: typeof given.run === "string" ? given.run : defaults.run,
    compare: "compare" in given ? strings(given.compare) : defaults.compare,
  };
}

/** The choices of one view, what is zoomed in and where the cursor is: shared by its charts. */
export class ViewOptions {
  constructor(choices: ViewChoices = DEFAULT_CHOICES) {
    this.#choices = choices;
  }

  /** A choice or the zoom changed: everything is drawn again. */
  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  get cursorChanged(): ISignal<this, number | null> {
    return this.#cursorChanged;
  }

  get choices(): ViewChoices {
    return this.#choices;
  }

  /** The part of the x axis on display, null for all of it. Not kept over a reload. */
  get zoom(): readonly [number, number] | null {
    return this.#zoom;
  }

  /** The x value under the pointer in any chart. */
  get cursor(): number | null {
    return this.#cursor;
  }

  set(choices: Partial<ViewChoices>): void {
    if (choices.xAxis !== undefined && choices.xAxis !== this.#choices.xAxis) {
      this.#zoom = null;
    }
    this.#choices = { ...this.#choices, ...choices };
    this.#changed.emit();
  }

  zoomTo(range: readonly [number, number] | null): void {
    this.#zoom = range;
    this.#changed.emit();
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
  #zoom: readonly [number, number] | null = null;
  #cursor: number | null = null;
  readonly #changed = new Signal<this, void>(this);
  readonly #cursorChanged = new Signal<this, number | null>(this);
}
