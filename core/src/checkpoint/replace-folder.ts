/** Folders that take their place whole or not at all. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { syncFolder } from "../files/atomic.js";
import { isAlive, processPlace, processStart } from "../files/process.js";

/** The draft of a folder, `.tmp-`, or one that another is taking the place of, `.old-`; by which process. */
const unfinished = /^\.(tmp|old)-(.+?)(?:-([0-9a-f]{12}))?-(\d+)\.(\d+)-[0-9a-f]{12}$/;

/**
 * Writes a folder under another name beside it and renames it when it is whole: a crash leaves the earlier one or the new one. What
 * processes that died left of this folder is cleared up first.
 *
 * @param write - fills the folder that it is given, and is called before this returns; its files are on the disk when it resolves
 */
export async function replaceFolder(folder: string, write: (draft: string) => Promise<void>): Promise<void> {
  const parent = dirname(folder);
  mkdirSync(parent, { recursive: true });
  clearUp(folder);
  const draft = nameBeside(folder, "tmp");
  mkdirSync(draft);
  try {
    await write(draft);
    await syncFolder(draft);
    // A folder cannot be replaced by a rename: the one there steps aside.
    const aside = existsSync(folder) ? nameBeside(folder, "old") : undefined;
    if (aside !== undefined) await rename(folder, aside);
    await rename(draft, folder);
    await syncFolder(parent);
    if (aside !== undefined) await rm(aside, { recursive: true, force: true });
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

/** The folder, or, where a crash came between the two renames, the one that had stepped aside. Only reads. */
export function placeOf(folder: string): string {
  if (existsSync(folder)) return folder;
  return leftovers(folder).find(({ kind }) => kind === "old")?.path ?? folder;
}

function nameBeside(folder: string, kind: "tmp" | "old"): string {
  const owner = `${processPlace()}-${process.pid}.${processStart(process.pid) ?? "0"}`;
  return join(dirname(folder), `.${kind}-${basename(folder)}-${owner}-${randomBytes(6).toString("hex")}`);
}

function clearUp(folder: string): void {
  for (const { kind, path } of leftovers(folder)) {
    if (kind === "old" && !existsSync(folder)) renameSync(path, folder);
    else rmSync(path, { recursive: true, force: true });
  }
}

/** What dead processes of this machine left of a folder; of others nobody here knows whether they live. */
function leftovers(folder: string): { kind: string; path: string }[] {
  const parent = dirname(folder);
  if (!existsSync(parent)) return [];
  return readdirSync(parent).flatMap((entry) => {
    const [, kind, name, host, pid, start] = unfinished.exec(entry) ?? [];
    if (kind === undefined || name !== basename(folder)) return [];
    // Earlier releases did not say where.
    if (host !== undefined && host !== processPlace()) return [];
    if (isAlive(Number(pid)) && (processStart(Number(pid)) ?? "0") === start) return [];
    return [{ kind, path: join(parent, entry) }];
  });
}
