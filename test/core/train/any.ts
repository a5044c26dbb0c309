/** What the tests of trainings of any model share. */
import { tree } from "aronnax";
import type { Batch, BatchSource } from "../../../core/src/data/batch.js";
import { folder } from "./support.js";

let runs = 0;

/** A source from a function of the batch's number; validation gives some of its own. */
export function made<F extends object>(
  batchSize: number,
  make: (index: number) => F,
  held: readonly (F & { batchSize?: number })[] = [],
): BatchSource<F> {
  let next = 0;
  const position = () => ({ version: 1 as const, kind: "made", samples: next * batchSize });
  return {
    batchSize,
    async next() {
      const fields = make(next++);
      return { batchSize, ...fields, after: position() } as Batch<F>;
    },
    async *validation() {
      for (const fields of held) yield { batchSize, ...fields, after: position() } as Batch<F>;
    },
    position,
    async restore({ samples }) {
      next = samples / batchSize;
    },
  };
}

export const common = () => ({ name: `any-${runs++}`, folder, printEvery: 0 });
export const numbers = (n: number, seed: number) =>
  Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.7 + seed * 13.1) + 0.1 * ((i * 31 + seed) % 7));
export const valuesOf = async (model: object) => {
  const found: Record<string, number[]> = {};
  for (const [path, x] of tree.named(model)) found[path] = Array.from(await x.data(), Number);
  return found;
};
