/** What is left of a run in a saved notebook: a table of its last figures, its curves as a picture, its configuration in short. */
import { createHash } from "node:crypto";
import type { JsonValue } from "../files/json.js";
import type { ColumnTable } from "./columns.js";
import type { RunRecord } from "./hub.js";
import { curvesOf, drawRecord, escapeMarkup, numberText } from "./record-picture.js";
import type { JsonNumber, RunSummary } from "./run-state.js";

/** `record.json` in a run's folder, and what a notebook keeps of the run (docs/contracts.md §4). */
export interface RecordBundle {
  "text/plain": string;
  /** A table, and the picture as an `<img>` with a data URI: notebooks that are not trusted keep it, unlike an inline SVG. */
  "text/html": string;
  /** Absent before there is a row. */
  "image/svg+xml"?: string;
}

/** Fields of the configuration that are named; the digest is of all. */
const shownFields = 10;

/**
 * @param gone - whether to say of a run that is running that its process has ended: so it is for who reads the file when that
 *   process is gone
 */
export function recordOf(
  run: Pick<RunRecord, "name" | "status" | "message" | "startedAt" | "totalSteps" | "config" | "parent">,
  table: ColumnTable,
  summary: RunSummary,
  gone = false,
): RecordBundle {
  const state = run.status === "running" && gone ? "stopped: its process is gone" : run.status;
  const figures = figuresOf(run, table, summary);
  const title = `run "${run.name}": ${state}`;
  const notes = [
    ...(run.message === undefined ? [] : [run.message]),
    ...(run.parent === undefined
      ? []
      : [`goes on from run "${run.parent.name}" after step ${run.parent.step}`]),
    ...brokenColumns(summary),
    ...(run.config === undefined ? [] : [configurationLine(run.config)]),
  ];
  const spoken = figures.map(([name, value]) => `${name} ${value}`).join(", ");
  const svg = drawRecord(table, `${title}, ${spoken}`);
  const began = new Date(run.startedAt).toISOString().slice(0, 16).replace("T", " ");
  const cells = (tag: "th" | "td", of: (figure: Figure) => string): string =>
    figures.map((figure) => `<${tag}>${escapeMarkup(of(figure))}</${tag}>`).join("");
  const html = [
    `<p><b>${escapeMarkup(run.name)}</b>: ${escapeMarkup(state)}, begun ${began} UTC</p>`,
    figures.length === 0
      ? ""
      : `<table><thead><tr>${cells("th", ([name]) => name)}</tr></thead><tbody><tr>${cells("td", ([, value]) => value)}</tr></tbody></table>`,
    svg === undefined
      ? ""
      : `<img alt="${escapeMarkup(altText(table, title, spoken))}" src="data:image/svg+xml;base64,${Buffer.from(svg).toString("base64")}">`,
    ...notes.map((note) => `<p>${escapeMarkup(note)}</p>`),
  ];
  return {
    "text/plain": [`${title}${spoken === "" ? "" : `, ${spoken}`}`, ...notes].join("\n"),
    "text/html": html.filter((part) => part !== "").join("\n"),
    ...(svg !== undefined && { "image/svg+xml": svg }),
  };
}

type Figure = readonly [name: string, value: string];

function figuresOf(run: Pick<RunRecord, "totalSteps">, table: ColumnTable, summary: RunSummary): Figure[] {
  if (summary.rows === 0) return [];
  const { step, seconds, columns } = summary;
  const speeds = curvesOf(table).flatMap((curve) =>
    curve.columns.filter((name) => name.endsWith("_per_second")),
  );
  const last = (column: string, name: string): Figure[] => {
    const found = columns[column];
    return found === undefined ? [] : [[name, numberText(numberOf(found.last))]];
  };
  const lowest = columns.valid_loss?.min;
  return [
    ["step", run.totalSteps === undefined ? `${step}` : `${step} of ${run.totalSteps}`],
    ...last("loss", "loss"),
    ...last("valid_loss", "validation loss"),
    ...(lowest === undefined
      ? []
      : [["lowest validation loss", `${numberText(lowest.value)} at step ${lowest.step}`] as const]),
    ...last("tokens", "tokens"),
    ...speeds.flatMap((column) => last(column, column.replace("_per_second", "/s"))),
    ...(columns.mfu === undefined
      ? []
      : [["MFU", `${numberText(Number((100 * numberOf(columns.mfu.last)).toPrecision(3)))} %`] as const]),
    ...last("learning_rate", "learning rate"),
    ...last("gradient_norm", "gradient norm"),
    ...(columns.memory_total?.max === undefined
      ? []
      : [["most memory", `${numberText(columns.memory_total.max.value / 1e9)} GB`] as const]),
    ["time", timeText(seconds)],
  ];
}

function brokenColumns(summary: RunSummary): string[] {
  return Object.entries(summary.columns).flatMap(([name, { notFinite, count }]) =>
    notFinite === undefined ? [] : [`${name} was not finite in ${notFinite} of ${count} rows`],
  );
}

function altText(table: ColumnTable, title: string, spoken: string): string {
  return `Curves of ${title} (${curvesOf(table)
    .map((curve) => curve.title)
    .join(", ")}): ${spoken}`;
}

/** A digest that two runs share if they have the same configuration, and the fields that say most. */
function configurationLine(config: JsonValue): string {
  const digest = createHash("sha256").update(canonical(config)).digest("hex").slice(0, 12);
  const fields = flattened(config).filter(([path]) => path !== "name");
  const shown = fields
    .slice(0, shownFields)
    .map(([path, value]) => (path === "" ? value : `${path} ${value}`));
  const more = fields.length - shown.length;
  return `configuration ${digest}: ${shown.join(", ")}${more > 0 ? `, and ${more} more` : ""}`;
}

/** JSON with the keys of its objects in order. */
function canonical(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const keys = Object.keys(value)
    .filter((key) => value[key] !== undefined)
    .sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key]!)}`).join()}}`;
}

/** Single values by path, those nearer to the top first. */
function flattened(value: JsonValue, path = ""): [path: string, value: string][] {
  if (typeof value !== "object" || value === null) {
    const text = String(value);
    return [[path, text.length > 60 ? `${text.slice(0, 57)}...` : text]];
  }
  const found = Object.entries(value)
    .filter(([, part]) => part !== undefined)
    .flatMap(([key, part]) => flattened(part, path === "" ? key : `${path}.${key}`));
  const depth = (entry: [string, string]): number => entry[0].split(".").length;
  return found.sort((a, b) => depth(a) - depth(b));
}

function numberOf(value: JsonNumber): number {
  return Number(value);
}

function timeText(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${Number(seconds.toPrecision(2))} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
