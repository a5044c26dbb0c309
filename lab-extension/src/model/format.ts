import type { TranslationBundle } from "@jupyterlab/translation";
import type { ChartSpec, Unit } from "./charts.js";
import type { XAxis } from "./viewOptions.js";

const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
const grouped = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumSignificantDigits: 3 });

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB"];

/** "1.2M"; "–" for what is not known. */
export function formatCount(value: number): string {
  return Number.isNaN(value) ? "–" : compact.format(value);
}

/** "12,345" */
export function formatInteger(value: number): string {
  return Number.isNaN(value) ? "–" : grouped.format(value);
}

/** Seconds as "8.1 s", "4:05" or "2:13:09". */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) {
    return "–";
  }
  if (seconds < 10) {
    return `${Math.max(0, seconds).toFixed(1)} s`;
  }
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

/** Powers of 1000, as device memory is sold: "1.25 GB". */
export function formatBytes(value: number, digits = 3): string {
  if (!Number.isFinite(value)) {
    return "–";
  }
  const power = value < 1 ? 0 : Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(value) / 3));
  return `${Number((value / 1000 ** power).toPrecision(digits))} ${BYTE_UNITS[power]}`;
}

/** A value with the precision to compare two steps by; NaN and infinities by name. */
export function formatValue(value: number, unit: Unit): string {
  if (!Number.isFinite(value)) {
    return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "-∞";
  }
  switch (unit) {
    case "rate":
      return formatCount(value);
    case "bytes":
      return formatBytes(value);
    case "fraction":
      return percent.format(value);
    case "seconds":
      return value < 1 ? `${Number((value * 1000).toPrecision(3))} ms` : `${Number(value.toPrecision(3))} s`;
    case "number": {
      const size = Math.abs(value);
      return size !== 0 && (size < 1e-3 || size >= 1e5)
        ? value.toExponential(2)
        : String(Number(value.toPrecision(4)));
    }
  }
}

/** The texts of an axis' ticks: short, and each another. */
export function tickTexts(
  ticks: readonly number[],
  text: (value: number, digits: number) => string,
): string[] {
  for (let digits = 2; digits < 12; digits++) {
    const texts = ticks.map((tick) => text(tick, digits));
    if (new Set(texts).size === texts.length && ticks.every((tick, i) => reads(texts[i]!, tick, ticks))) {
      return texts;
    }
  }
  return ticks.map((tick) => text(tick, 12));
}

/** Whether a plain number says its tick to a tenth of the distance between two. */
function reads(text: string, tick: number, ticks: readonly number[]): boolean {
  const value = Number(text);
  return (
    ticks.length < 2 ||
    !Number.isFinite(value) ||
    Math.abs(value - tick) < Math.abs(ticks[1]! - ticks[0]!) / 10
  );
}

/** A tick of the y axis: shorter than a value. */
export function formatTick(value: number, unit: Unit, digits = 4): string {
  if (value === 0) {
    return "0";
  }
  switch (unit) {
    case "number": {
      const size = Math.abs(value);
      if (size < 1e-3 || size >= 1e5) {
        return value
          .toExponential(digits - 1)
          .replace(/\.?0*e/, "e")
          .replace("e+", "e");
      }
      return String(Number(value.toPrecision(digits)));
    }
    case "rate":
      return new Intl.NumberFormat(undefined, {
        notation: "compact",
        maximumSignificantDigits: digits,
      }).format(value);
    case "fraction":
      return new Intl.NumberFormat(undefined, { style: "percent", maximumSignificantDigits: digits }).format(
        value,
      );
    case "bytes":
      return formatBytes(value, digits);
    case "seconds":
      return value < 1
        ? `${Number((value * 1000).toPrecision(digits))} ms`
        : `${Number(value.toPrecision(digits))} s`;
  }
}

/** A value of the x axis, which is a column. */
export function formatPosition(value: number, axis: XAxis, digits = 4): string {
  switch (axis) {
    case "step":
      return formatInteger(value);
    case "tokens":
      return Number.isNaN(value)
        ? "–"
        : new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: digits }).format(
            value,
          );
    case "time":
      return value === 0
        ? "0"
        : value < 10
          ? `${Number(value.toPrecision(Math.max(2, digits)))} s`
          : formatDuration(value);
    default:
      return formatTick(value, "number", Math.max(4, digits));
  }
}

/** A difference, with its sign. */
export function formatDelta(value: number, unit: Unit): string {
  if (Number.isNaN(value)) {
    return "";
  }
  return value < 0 ? `−${formatValue(-value, unit)}` : `+${formatValue(value, unit)}`;
}

/** What an axis over a column is called. */
export function axisTitle(axis: XAxis, trans: TranslationBundle): string {
  switch (axis) {
    case "step":
      return trans.__("Step");
    case "tokens":
      return trans.__("Tokens");
    case "time":
      return trans.__("Time");
    default:
      return axis;
  }
}

/** What the y axis of a chart is called: its quantity or unit. */
export function unitTitle(
  { title, unit }: Pick<ChartSpec, "title" | "unit">,
  trans: TranslationBundle,
): string {
  switch (unit) {
    case "rate":
      return trans.__("per second");
    case "bytes":
      return trans.__("bytes");
    case "fraction":
      return trans.__("share");
    case "seconds":
      return trans.__("duration");
    case "number":
      return title;
  }
}
