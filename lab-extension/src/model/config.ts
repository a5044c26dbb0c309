import type { JSONValue } from "@lumino/coreutils";
import type { RunEntry } from "./source.js";

/** A value of a configuration that is no list or object. */
export type ConfigValue = string | number | boolean | null;

/** Longer lists and texts are cut: a table cell has no place for them. */
const LONGEST = 120;

/** A configuration as one list: nested names are joined with dots, lists are one text. */
export function flatConfig(config: JSONValue | undefined): ReadonlyMap<string, ConfigValue> {
  const flat = new Map<string, ConfigValue>();
  const add = (name: string, value: JSONValue | undefined): void => {
    if (value === undefined) {
      return;
    }
    if (Array.isArray(value)) {
      flat.set(name, shortened(JSON.stringify(value)));
    } else if (typeof value === "object" && value !== null) {
      for (const [key, part] of Object.entries(value)) {
        add(name === "" ? key : `${name}.${key}`, part as JSONValue);
      }
    } else {
      flat.set(name, typeof value === "string" ? shortened(value) : value);
    }
  };
  add("", config);
  return flat;
}

function shortened(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text;
}

const known = new WeakMap<object, ReadonlyMap<string, ConfigValue>>();

/** The configuration of a run; remembered, for tables ask often. */
export function configOf({ config }: Pick<RunEntry, "config">): ReadonlyMap<string, ConfigValue> {
  if (typeof config !== "object" || config === null) {
    return flatConfig(config);
  }
  let flat = known.get(config);
  if (!flat) {
    flat = flatConfig(config);
    known.set(config, flat);
  }
  return flat;
}

/** The keys of which runs have different values, or some have none, in the order they appear. Runs without a configuration tell nothing. */
export function differingKeys(all: readonly RunEntry[]): readonly string[] {
  const entries = all.filter((entry) => configOf(entry).size > 0);
  const first = new Map<string, { value: ConfigValue; count: number; differs: boolean }>();
  for (const entry of entries) {
    for (const [key, value] of configOf(entry)) {
      const seen = first.get(key);
      if (seen) {
        seen.count += 1;
        seen.differs ||= seen.value !== value;
      } else {
        first.set(key, { value, count: 1, differs: false });
      }
    }
  }
  return [...first].filter(([, { count, differs }]) => differs || count < entries.length).map(([key]) => key);
}

/** All keys, in the order they appear. */
export function keysOf(entries: readonly RunEntry[]): readonly string[] {
  return [...new Set(entries.flatMap((entry) => [...configOf(entry).keys()]))];
}

export function configText(value: ConfigValue | undefined): string {
  return value === undefined ? "–" : String(value);
}
