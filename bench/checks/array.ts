/**
 * The array language on whatever device the runtime has, against float64 here and against identities: what never runs in CI because CI has no
 * GPU. Needs no file of the repository, so that one bundle of it (bench/bundle.mjs) runs anywhere.
 */
import { elements } from "./array/elements.js";
import { linear } from "./array/linear.js";
import { structure } from "./array/structure.js";
import { windows } from "./array/windows.js";
import { type Row, runChecks } from "./check.js";

/** The families of checks by name. */
export const families = { elements, structure, windows, linear } as const;

/** Runs a family, or the checks whose names contain `only` (default all); `report` gets each row as it comes. */
export async function checkArray(only = "", report?: (row: Row) => void): Promise<Row[]> {
  const family = Object.entries(families).find(([name]) => name === only)?.[1];
  const all = Object.values(families).flat();
  return runChecks(family ?? all.filter(({ name }) => name.includes(only)), report);
}
