import { createHash } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** Whether a process with this id runs on this machine. One that has ended, and whose parent has not heard of it yet, does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const state = statOf(pid)?.[0];
  return state !== "Z" && state !== "X";
}

/** When a process started, in the system's own count; undefined where there is no /proc, or no such process. */
export function processStart(pid: number): string | undefined {
  return statOf(pid)?.[19];
}

/** The fields of a process's `/proc/<pid>/stat` from the third on: its state, ..., the 22nd its start time. */
function statOf(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field, the program's name in brackets, may hold spaces.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

let place: string | undefined;

/** The host and the namespace that process ids are of, in 12 digits: elsewhere an id says nothing about a process here. */
export function processPlace(): string {
  place ??= createHash("sha256")
    .update([hostname(), textOf("/proc/sys/kernel/random/boot_id"), namespaceOf()].join("\n"))
    .digest("hex")
    .slice(0, 12);
  return place;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function namespaceOf(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}
