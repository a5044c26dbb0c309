/** Statistics of a step by parts of the model: norms of gradients, parameters and updates, and sizes of activations. */
import { reduceSum } from "../array/broadcast.js";
import { add, cast, sqrt, square, sub } from "../array/elementwise.js";
import { mean } from "../array/reductions.js";
import { Tensor } from "../array/tensor.js";
import { traceDepth } from "../graph/tracing.js";
import type { MetricsRow } from "../metrics/index.js";
import { Module } from "../nn/module.js";
import { flatten } from "../transform/tree.js";

export interface StatisticsOptions {
  /** Reports every so many steps. */
  every: number;
  /** Root mean squares of what each block (and other module in a list) of the model returns. Default false. */
  activations?: boolean;
}

/** A part of the model: the block that a parameter is of, else the module. `model.layers.3.mlp.upProj.weight` is of `model.layers.3`. */
export function partOf(path: string): string {
  const block = /^(.*?\.\d+)\./.exec(path)?.[1];
  return block ?? path.split(".").slice(0, -1).join(".");
}

/** Norms of gradients, parameters and updates by part, float32 scalars by column. */
export function norms(gradients: unknown, before: unknown, after: unknown): Record<string, Tensor> {
  const flat = flatten(before);
  const [slopes, updated] = [flatten(gradients).leaves, flatten(after).leaves];
  const columns: Record<string, Tensor> = {};
  const addTo = (column: string, x: Tensor): void => {
    const own = reduceSum(
      square(cast(x, "float32")),
      x.shape.map((_, i) => i),
    );
    const sum = columns[column];
    columns[column] = sum === undefined ? own : add(sum, own);
  };
  for (const [i, p] of flat.leaves.entries()) {
    const part = partOf(flat.paths[i]!);
    addTo(`gradient_norm/${part}`, slopes[i]!);
    addTo(`parameter_norm/${part}`, p);
    addTo(`update_norm/${part}`, sub(updated[i]!, p));
  }
  return Object.fromEntries(Object.entries(columns).map(([name, x]) => [name, sqrt(x)]));
}

/**
 * Runs `work` on a model, a copy that is thrown away after it, whose modules in lists note the root mean square of what their `forward` returns. What runs inside
 * another transform (`remat`, `scan`) is not noted: its values do not exist outside.
 */
export function observing<M extends Module, R>(
  model: M,
  work: (model: M) => R,
): [result: R, activations: Record<string, Tensor>] {
  const depth = traceDepth();
  const noted: Record<string, Tensor> = {};
  const watch = (module: Module & { forward?: (...args: unknown[]) => unknown }, path: string): void => {
    const { forward } = module;
    if (forward === undefined) return;
    Object.defineProperty(module, "forward", {
      enumerable: false,
      value: (...args: unknown[]) => {
        const result = forward.apply(module, args);
        const output = Array.isArray(result) ? result[0] : result;
        if (output instanceof Tensor && traceDepth() === depth)
          noted[`activation_rms/${path}`] = sqrt(mean(square(cast(output, "float32"))));
        return result;
      },
    });
  };
  const visit = (value: unknown, path: string): void => {
    if (typeof value !== "object" || value === null || value instanceof Tensor) return;
    for (const [name, field] of Object.entries(value)) {
      const below = path === "" ? name : `${path}.${name}`;
      if (Array.isArray(value) && field instanceof Module) watch(field, below);
      visit(field, below);
    }
  };
  visit(model, "");
  return [work(model), noted];
}

/** Scalars by column as a row of metrics. */
export async function fetched(columns: Readonly<Record<string, Tensor>>): Promise<MetricsRow> {
  const values = await Promise.all(Object.values(columns).map((x) => x.item()));
  return Object.fromEntries(Object.keys(columns).map((name, i) => [name, values[i]!]));
}
