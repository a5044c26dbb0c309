import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { findLocalFile, isRelative, modifiedAt } from "../local-files.js";

const IMPORTS = /(?:from|import)\s*\(?\s*["']([^"'\n]+)["']/g;

/** The local files that cells import, directly or through each other. The language server is told of their changes. */
export class WatchedFiles {
  readonly #modified = new Map<string, number>();

  /** Adds what `specifiers` of a file in `folder` point to, and what those import. */
  follow(specifiers: Iterable<string>, folder: string): void {
    for (const specifier of specifiers) {
      if (!isRelative(specifier) || specifier.startsWith("file:")) continue;
      const path = findLocalFile(resolve(folder, specifier));
      if (!path || this.#modified.has(path)) continue;
      this.#modified.set(path, modifiedAt(path));
      this.#scan(path);
    }
  }

  /** Paths of those that have changed since the last call. */
  changes(): string[] {
    const changed: string[] = [];
    for (const [path, before] of this.#modified) {
      const now = modifiedAt(path);
      if (now === before) continue;
      this.#modified.set(path, now);
      changed.push(path);
      this.#scan(path);
    }
    return changed;
  }

  #scan(path: string): void {
    if (!/\.([cm]?[jt]s|[jt]sx)$/.test(path)) return;
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch {
      return;
    }
    this.follow(
      [...text.matchAll(IMPORTS)].map((match) => match[1]!),
      dirname(path),
    );
  }
}
