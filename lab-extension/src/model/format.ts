import type { Unit } from "./charts.js";
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

/** Seconds as "8.1s", "4:05" or "2:13:09". */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) {
    return "–";
  }
  if (seconds < 10) {
    return `${Math.max(0, seconds).toFixed(1)}s`;
  }
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

/** Powers of 1000, as device memory is sold: "1.25 GB". */
export function formatBytes(value: number): string {
  if (!Number.isFinite(value)) {
    return "–";
  }
  const power = value < 1 ? 0 : Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(value) / 3));
  return `${Number((value / 1000 ** power).toPrecision(3))} ${BYTE_UNITS[power]}`;
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

/** A tick: shorter than a value. */
export function formatTick(value: number, unit: Unit): string {
  if (value === 0) {
    return "0";
  }
  if (unit === "number") {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
      return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
    }
    return String(Number(value.toPrecision(4)));
  }
  return formatValue(value, unit);
}

/** A value of the x axis. */
export function formatPosition(value: number, axis: XAxis): string {
  switch (axis) {
    case "step":
      return formatInteger(value);
    case "tokens":
      return formatCount(value);
    case "time":
      return value === 0 ? "0" : formatDuration(value);
  }
}
