/** Running a stack of layers: one after the other, or as a loop over their stacked parameters; with recomputation. */
import { slice } from "../array/indexing.js";
import { stack } from "../array/joining.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknown } from "../graph/spelling.js";
import { sameNodes, apply as setBuffers, tracked, type Update } from "../transform/buffers.js";
import { type RematPolicy, remat } from "../transform/remat.js";
import { scan } from "../transform/scan.js";
import { flatten } from "../transform/tree.js";

/**
 * What the derivative computes again instead of keeping it: nothing ("none"); everything inside a layer ("full"); all but the results of
 * matrix products ("dots") or of those with weights ("dotsWithoutBatch"); all but the results of linear layers and of attention ("elementwise":
 * norms and nonlinearities, and what adapters add up, at the least memory that needs no product of weights again); all but values of given
 * names.
 */
export type Recompute =
  | "none"
  | "full"
  | "dots"
  | "dotsWithoutBatch"
  | "elementwise"
  | { readonly names: readonly string[] };

export interface LayerOptions {
  /**
   * "unrolled": each layer is compiled, which runs fastest; "scan": one is, in a loop, which compiles in the time of one and keeps the values
   * for the derivative stacked. Default "unrolled".
   */
  readonly layers?: "unrolled" | "scan";
  /** Default "none". */
  readonly remat?: Recompute;
}

function policyOf(recompute: Recompute): RematPolicy {
  if (recompute === "none") return "everything";
  if (recompute === "elementwise") return { names: ["linear", "attention"] };
  return recompute === "full" ? "nothing" : recompute;
}

/** Throws on what is no option. */
export function checkLayerOptions(where: string, options: LayerOptions): void {
  refuseUnknown(`${where}: there is no option`, Object.keys(options), ["layers", "remat"]);
  const { layers = "unrolled", remat: recompute = "none" } = options;
  if (layers !== "unrolled" && layers !== "scan")
    throw new ArgumentError(`${where}: layers is "${String(layers)}"`, 'give "unrolled" or "scan"');
  const known = ["none", "full", "dots", "dotsWithoutBatch", "elementwise"];
  const names = typeof recompute === "object" ? (recompute as { names?: unknown } | null)?.names : undefined;
  if (!known.includes(recompute as string) && !Array.isArray(names))
    throw new ArgumentError(
      `${where}: remat is ${JSON.stringify(recompute)}`,
      `give ${known.join(", ")} or { names: [...] }`,
    );
}

/**
 * The state after all layers: `apply(layer, state, index)` of each in turn.
 *
 * In a loop, `period` layers are a step: layers at the same place within their periods must have the same structure, and `apply` is called
 * with the indices of the first period only. Layers after the last whole period are unrolled.
 */
export function applyLayers<L, S>(
  layers: readonly L[],
  state: S,
  apply: (layer: L, state: S, index: number) => S,
  {
    layers: how = "unrolled",
    remat: recompute = "none",
    period = 1,
  }: LayerOptions & { readonly period?: number } = {},
): S {
  const policy = policyOf(recompute);
  const run = (layer: L, before: S, index: number): S =>
    remat((l: L, s: S) => apply(l, s, index), { policy })(layer, before);
  const periods = how === "scan" ? Math.floor(layers.length / period) : 0;
  const looped = periods > 1 ? periods * period : 0;
  let now = state;
  if (looped > 0) {
    const groups = Array.from({ length: periods }, (_, i) =>
      flatten(layers.slice(i * period, (i + 1) * period)),
    );
    const [first] = groups as [(typeof groups)[number]];
    for (const [i, { paths, key }] of groups.entries()) {
      if (paths.join() === first.paths.join() && key !== first.key) {
        throw new ArgumentError(
          `layers ${i * period} to ${(i + 1) * period - 1} have other settings than the first ${period}`,
          'layers in a loop must be alike: use layers: "unrolled"',
        );
      }
      if (paths.join() !== first.paths.join()) {
        throw new ArgumentError(
          `layers ${i * period} to ${(i + 1) * period - 1} have other parameters than the first ${period}`,
          'layers in a loop must be alike: use layers: "unrolled"',
        );
      }
    }
    const stacked = first.leaves.map((_, k) => stack(groups.map(({ leaves }) => leaves[k]!)));
    const own = layers.slice(0, period);
    let updates: Update[] = [];
    const step = (before: S, leaves: Tensor[]): readonly [S, Tensor[]] => {
      const group = first.rebuild(leaves) as L[];
      const [after, found] = tracked([[own, group]], () =>
        group.reduce((s, layer, index) => run(layer, s, index), before),
      );
      updates = found.filter(({ of }) => of === 0);
      setBuffers(found.filter(({ of }) => of < 0));
      return [after, updates.map(({ value }) => value)];
    };
    const [after, values] = scan(step, state, stacked);
    now = after;
    for (let g = 0; g < periods && updates.length > 0; g++) {
      sameNodes(own, layers.slice(g * period, (g + 1) * period), (node, layer) => {
        for (const [k, { holder, name }] of updates.entries())
          if (holder === node) layer[name] = slice(values[k]!, g);
      });
    }
  }
  for (let i = looped; i < layers.length; i++) now = run(layers[i]!, now, i);
  return now;
}
