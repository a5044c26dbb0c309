// Whether a step's result is still the one that its inputs give: by content, never by time.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What a build leaves beside the sources of a package. */
const GENERATED = new Set(["node_modules", "dist", "lib", "labextension"]);

/**
 * The files of a folder, in an order of their own.
 * @param {string} folder
 * @param {ReadonlySet<string>} except names that do not count
 * @returns {string[]}
 */
function filesUnder(folder, except = new Set()) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !except.has(name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? filesUnder(path) : [path];
    })
    .sort();
}

/**
 * The key of some inputs.
 * @param {{ files?: string[], packages?: string[], values?: string[] }} inputs `packages` are folders, without what a build makes
 */
export function keyOf({ files = [], packages = [], values = [] }) {
  const hash = createHash("sha256");
  for (const value of values) hash.update(`${value}\0`);
  for (const file of [...files, ...packages.flatMap((folder) => filesUnder(folder, GENERATED))]) {
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
