import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { Json } from "../protocol/wire.js";

/**
 * Whether the process of a run that says "running" is gone (docs/contracts.md §2), by what its `run.json` says of it; undefined for a run
 * of another host, of which nothing is known here.
 */
export function isStale({ pid, processStart, host }: Json): boolean | undefined {
  if (host !== hostname() || typeof pid !== "number") return undefined;
  const found = statOf(pid);
  if (!found || found.state === "Z" || found.state === "X") return true;
  // Another process may have been given the id since.
  return processStart !== undefined && found.start !== processStart;
}

function statOf(pid: number): { state?: string; start?: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The program's name, in brackets, may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0], start: fields[19] };
  } catch {
    return undefined;
  }
}
