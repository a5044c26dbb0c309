import { type ConfigValue, configOf } from "./config.js";
import type { RunEntry } from "./source.js";

/** What a table of runs is sorted by: something of the run, a key of its configuration, or a metric. */
export type SortKey =
  | { readonly kind: "name" | "status" | "startedAt" | "step" | "seconds" }
  | { readonly kind: "config"; readonly key: string }
  | { readonly kind: "metric"; readonly column: string };

type Value = ConfigValue | undefined;

/** What a run has for a key; undefined for nothing. */
export function runValue(entry: RunEntry, key: SortKey): Value {
  switch (key.kind) {
    case "name":
      return entry.name;
    case "status":
      return entry.isStale ? "stale" : entry.status;
    case "startedAt":
    case "step":
    case "seconds":
      return Number.isNaN(entry[key.kind]) ? undefined : entry[key.kind];
    case "config":
      return configOf(entry).get(key.key);
    case "metric":
      return entry.columns.get(key.column)?.last;
  }
}

/** Numbers before texts, each in its order; what is missing or NaN comes last in either direction. */
export function sortRuns(entries: readonly RunEntry[], key: SortKey, isDescending: boolean): RunEntry[] {
  const isMissing = (value: Value) => value === undefined || value === null || Number.isNaN(value);
  return entries
    .map((entry) => ({ entry, value: runValue(entry, key) }))
    .sort((a, b) => {
      if (isMissing(a.value) || isMissing(b.value)) {
        return Number(isMissing(a.value)) - Number(isMissing(b.value));
      }
      const order =
        typeof a.value === "number" && typeof b.value === "number"
          ? a.value - b.value
          : String(a.value).localeCompare(String(b.value), undefined, { numeric: true });
      return isDescending ? -order : order;
    })
    .map(({ entry }) => entry);
}

type Test = (entry: RunEntry) => boolean;

const COMPARISON = /^([^<>=!:]+)(<=|>=|!=|=|<|>|:)(.*)$/;

/**
 * Reads what was typed into a search: words that a run's name, status or configuration has, and comparisons of a value of its configuration, of a
 * metric's last value, or of `status`, `step` and `seconds`: `lr>1e-4 loss<2 optimizer:adam status=failed`. All have to hold. A key may be the last part of a
 * longer one.
 */
export function parseQuery(query: string): Test {
  const tests = (query.match(/[^\s"]*"[^"]*"|\S+/g) ?? []).map((word): Test => {
    const [, key, operator, given] = COMPARISON.exec(word) ?? [];
    if (key === undefined || operator === undefined) {
      const text = word.replaceAll('"', "").toLowerCase();
      return (entry) => textOf(entry).includes(text);
    }
    const wanted = (given ?? "").replaceAll('"', "");
    return (entry) => compares(lookUp(entry, key), operator, wanted);
  });
  return (entry) => tests.every((test) => test(entry));
}

function textOf(entry: RunEntry): string {
  const config = [...configOf(entry)].map(([key, value]) => `${key}=${String(value)}`);
  return [entry.name, entry.isStale ? "stale" : entry.status, ...config].join("\n").toLowerCase();
}

function lookUp(entry: RunEntry, key: string): Value {
  if (key === "name" || key === "status" || key === "step" || key === "seconds") {
    return runValue(entry, { kind: key });
  }
  const config = configOf(entry);
  const full = config.has(key) ? key : [...config.keys()].find((name) => name.endsWith(`.${key}`));
  return full === undefined ? entry.columns.get(key)?.last : config.get(full);
}

function compares(value: Value, operator: string, wanted: string): boolean {
  if (value === undefined) {
    return operator === "!=";
  }
  const number = wanted === "" ? Number.NaN : Number(wanted);
  const areNumbers = typeof value === "number" && !Number.isNaN(number);
  switch (operator) {
    case ":":
      return String(value).toLowerCase().includes(wanted.toLowerCase());
    case "=":
      return areNumbers ? value === number : String(value).toLowerCase() === wanted.toLowerCase();
    case "!=":
      return areNumbers ? value !== number : String(value).toLowerCase() !== wanted.toLowerCase();
    case "<":
      return areNumbers && value < number;
    case "<=":
      return areNumbers && value <= number;
    case ">":
      return areNumbers && value > number;
    default:
      return areNumbers && value >= number;
  }
}

/** Runs by their value of a key of the configuration, in the order they are given. */
export function groupRuns<T extends { readonly config?: RunEntry["config"] }>(
  runs: readonly T[],
  key: string,
): readonly { readonly label: string; readonly runs: readonly T[] }[] {
  const groups = new Map<string, T[]>();
  for (const run of runs) {
    const value = configOf(run).get(key);
    const label = `${key} = ${value === undefined ? "–" : String(value)}`;
    const group = groups.get(label) ?? [];
    groups.set(label, group);
    group.push(run);
  }
  return [...groups].map(([label, members]) => ({ label, runs: members }));
}
