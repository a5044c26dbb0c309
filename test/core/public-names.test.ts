/** What `import * as aronnax` gives is what was meant for users. */
import "../support/runtime.js";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as aronnax from "aronnax";
import { expect, it } from "vitest";

const names = Object.keys(aronnax);

it("exports every name one by one", () => {
  const index = readFileSync(join(import.meta.dirname, "../../core/src/index.ts"), "utf8");
  expect(index.match(/^export \* from .*$/gm) ?? []).toEqual([]);
});

it("has no names of internal helpers", () => {
  const looksInternal =
    /^_|^(is[A-Z]|assert|ensure|lower|bind|promote|normalize|resolve|placeholder|check(?!point)|to[A-Z]|from[A-Z]|with[A-Z])|Primitive$/;
  expect(names.filter((name) => looksInternal.test(name))).toEqual([]);
});

it("has no name that means another thing in a namespace beside it", () => {
  const { fft, linalg, random } = aronnax;
  const spaces = { fft, linalg, random };
  const inside = Object.values(spaces).flatMap((space) => Object.keys(space));
  const twice = inside.filter((name) => names.includes(name) && !(name in spaces));
  expect(twice).toEqual([]);
});
