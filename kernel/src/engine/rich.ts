import type { Json } from "../protocol/wire.js";
import type { DisplayHandle, Displays } from "./displays.js";
import { DISPLAY } from "./mime.js";
import { native } from "./native-timers.js";
import { escapeHtml, recordsTable } from "./tables.js";

/** A value that shows as the given MIME bundle. */
export class Rich {
  readonly jupyterRich = true;

  constructor(private readonly bundle: Json) {}

  [DISPLAY](): Json {
    return this.bundle;
  }
}

const text = (type: string) => (content: string) => new Rich({ [type]: content, "text/plain": content });
const bytes = (type: string) => (content: Uint8Array) =>
  new Rich({ [type]: content, "text/plain": `${type}, ${content.byteLength} bytes` });
const data = (type: string, name: string) => (content: object) =>
  new Rich({ [type]: content, "text/plain": name });

/** Makers of rich values: shown where they are the last value of a cell, or given to `display`. */
export const rich = {
  html: text("text/html"),
  markdown: text("text/markdown"),
  latex: text("text/latex"),
  svg: text("image/svg+xml"),
  javascript: text("application/javascript"),
  png: bytes("image/png"),
  jpeg: bytes("image/jpeg"),
  gif: bytes("image/gif"),
  pdf: bytes("application/pdf"),
  json: (content: unknown) =>
    new Rich({ "application/json": content, "text/plain": JSON.stringify(content, null, 2) }),
  table: (records: Iterable<object>) => new Rich(recordsTable([...records]).data),
  plotly: data("application/vnd.plotly.v1+json", "Plotly figure"),
  vega: data("application/vnd.vega.v5+json", "Vega chart"),
  vegaLite: data("application/vnd.vegalite.v5+json", "Vega-Lite chart"),
};

/** Least time between two drawings of a progress bar, in ms. */
const INTERVAL = 100;

/** A progress bar that is drawn in place. */
export class Progress {
  #value = 0;
  #drawnAt = 0;
  #handle: DisplayHandle;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    displays: Displays,
    readonly total: number,
    private readonly label: string,
  ) {
    this.#handle = displays.display(this.#bar());
    this.#drawnAt = performance.now();
  }

  get value(): number {
    return this.#value;
  }

  set value(value: number) {
    this.#value = value;
    const wait = this.#drawnAt + INTERVAL - performance.now();
    if (wait <= 0 || value >= this.total) this.#draw();
    else this.#timer ??= native.setTimeout(() => this.#draw(), wait).unref();
  }

  advance(by = 1): void {
    this.value += by;
  }

  #draw(): void {
    native.clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#drawnAt = performance.now();
    this.#handle.update(this.#bar());
  }

  #bar(): Rich {
    const { total, label } = this;
    const value = this.#value;
    const share = total > 0 ? Math.min(1, value / total) : 1;
    const filled = Math.round(share * 30);
    const counts = `${value}/${total} ${Math.floor(share * 100)}%`;
    return new Rich({
      "text/html": `<div>${escapeHtml(label)} <progress value="${value}" max="${total}"></progress> ${counts}</div>`,
      "text/plain": `${label ? `${label} ` : ""}${"█".repeat(filled)}${"░".repeat(30 - filled)} ${counts}`,
    });
  }
}

/** Walks through a list, or counts to a number, behind a progress bar. */
export function* withProgress<T>(displays: Displays, items: Iterable<T>, label: string): Generator<T, void> {
  const list = Array.isArray(items) ? (items as T[]) : [...items];
  const bar = new Progress(displays, list.length, label);
  for (const item of list) {
    yield item;
    bar.advance();
  }
}
