import type { TranslationBundle } from "@jupyterlab/translation";
import type { Unit } from "../model/charts.js";
import { formatDelta, formatValue } from "../model/format.js";
import { seriesColour } from "../painting/palette.js";

export interface HoverRow {
  readonly name: string;
  /** Which of the run's lines, where there are several. */
  readonly detail: string;
  readonly colour: number;
  readonly dashed: boolean;
  /** Undefined where the run has none there. */
  readonly value: number | undefined;
  readonly isBaseline: boolean;
}

/** Rows that the table has room for: the nearest to the top by value. */
const MOST_ROWS = 14;
const OFFSET = 14;

/** What lies under the pointer: each line by name, with its value and how far it is from the baseline's. */
export class HoverTable {
  constructor(private readonly trans: TranslationBundle) {
    this.node.className = "aronnax-Hover";
    this.node.hidden = true;
    // A screen reader has the values from the plot's label.
    this.node.setAttribute("aria-hidden", "true");
  }

  readonly node = document.createElement("div");

  hide(): void {
    this.node.hidden = true;
  }

  show(
    rows: readonly HoverRow[],
    title: string,
    unit: Unit,
    at: { readonly x: number; readonly y: number },
    frame: { readonly width: number; readonly height: number },
  ): void {
    const base = rows.find(({ isBaseline, detail }) => isBaseline && detail === rows[0]?.detail)?.value;
    const sorted =
      rows.length > 1 && rows.some(({ name }) => name !== rows[0]!.name)
        ? [...rows].sort(
            (a, b) => (b.value ?? Number.NEGATIVE_INFINITY) - (a.value ?? Number.NEGATIVE_INFINITY),
          )
        : rows;
    const head = document.createElement("div");
    head.className = "aronnax-Hover-title";
    head.textContent = title;
    const table = document.createElement("div");
    table.className = "aronnax-Hover-rows";
    for (const row of sorted.slice(0, MOST_ROWS)) {
      const swatch = document.createElement("span");
      swatch.className = "aronnax-Legend-swatch";
      swatch.classList.toggle("aronnax-mod-dashed", row.dashed);
      swatch.style.setProperty("--aronnax-colour", seriesColour(row.colour));
      const name = document.createElement("span");
      name.className = "aronnax-Hover-name";
      name.textContent = row.detail === "" ? row.name : `${row.name} · ${row.detail}`;
      const value = document.createElement("span");
      value.className = "aronnax-Legend-value";
      value.classList.toggle("aronnax-mod-nonFinite", row.value !== undefined && !Number.isFinite(row.value));
      value.textContent = row.value === undefined ? "–" : formatValue(row.value, unit);
      const delta = document.createElement("span");
      delta.className = "aronnax-Hover-delta";
      delta.textContent =
        base === undefined || row.value === undefined || row.isBaseline
          ? ""
          : formatDelta(row.value - base, unit);
      table.append(swatch, name, value, delta);
    }
    this.node.replaceChildren(head, table);
    if (sorted.length > MOST_ROWS) {
      const more = document.createElement("div");
      more.className = "aronnax-Hover-more";
      more.textContent = this.trans._n("and %1 more", "and %1 more", sorted.length - MOST_ROWS);
      this.node.append(more);
    }
    this.node.hidden = false;
    const { style } = this.node;
    style.left = at.x > frame.width / 2 ? "" : `${at.x + OFFSET}px`;
    style.right = at.x > frame.width / 2 ? `${frame.width - at.x + OFFSET}px` : "";
    style.top = at.y > frame.height / 2 ? "" : `${at.y + OFFSET}px`;
    style.bottom = at.y > frame.height / 2 ? `${frame.height - at.y + OFFSET}px` : "";
  }
}
