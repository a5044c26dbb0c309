import { statSync } from "node:fs";
import { join } from "node:path";

/** Where a local import may point to, as TypeScript sees it: `./a` may be `a.ts`, `./a.js` may be `a.ts`. */
export function findLocalFile(path: string): string | undefined {
  const candidates = [
    path,
    path.replace(/\.([cm]?)js$/, ".$1ts"),
    path.replace(/\.jsx?$/, ".tsx"),
    ...["ts", "tsx", "mts", "js", "jsx", "mjs"].map((extension) => `${path}.${extension}`),
    ...["ts", "tsx", "js", "jsx"].map((extension) => join(path, `index.${extension}`)),
  ];
  return candidates.find((candidate) => statSync(candidate, { throwIfNoEntry: false })?.isFile());
}

export function isRelative(specifier: string): boolean {
  return /^(\.{1,2}(\/|$)|\/|file:)/.test(specifier);
}

/** When a file was changed last, in ms; 0 where there is none. */
export function modifiedAt(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
