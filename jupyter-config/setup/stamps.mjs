// Whether a step's result is still the one that its inputs give: by content, never by time.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const GENERATED = new Set(["node_modules", "dist", "lib", "labextension", "__pycache__"]);

/**
 * @param {string} path a file, or a folder of which every source file counts
 * @returns {string[]}
 */
function filesUnder(path) {
  if (!existsSync(path)) return [];
  const entries = readdirSync(path, { withFileTypes: true, recursive: false });
  return entries
    .filter((entry) => !GENERATED.has(entry.name) && !entry.name.endsWith(".tsbuildinfo"))
    .flatMap((entry) => {
      const inside = join(path, entry.name);
      return entry.isDirectory() ? filesUnder(inside) : [inside];
    })
    .sort();
}

/**
 * The key of some inputs.
 * @param {{ files?: string[], folders?: string[], values?: string[] }} inputs
 */
export function keyOf({ files = [], folders = [], values = [] }) {
  const hash = createHash("sha256");
  for (const value of values) hash.update(`${value}\0`);
  for (const file of [...files, ...folders.flatMap(filesUnder)]) {
    const content = readFileSync(file);
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  return hash.digest("hex");
}

/**
 * The key that a finished step left; undefined where the step never ended.
 * @param {string} stamp
 */
export function readStamp(stamp) {
  return existsSync(stamp) ? readFileSync(stamp, "utf8") : undefined;
}

/**
 * Whole or not at all, so that a killed run cannot leave half a stamp.
 * @param {string} stamp
 * @param {string} key
 */
export function writeStamp(stamp, key) {
  writeFileSync(`${stamp}.new`, key);
  renameSync(`${stamp}.new`, stamp);
}

/** @param {string} stamp */
export function removeStamp(stamp) {
  rmSync(stamp, { force: true });
}
