/** Several adapters in one batch: each row is computed with its own, in one program, whatever the rows. */
import { zeros } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { tensor } from "../array/creation.js";
import { add, cast, mul } from "../array/elementwise.js";
import { take } from "../array/indexing.js";
import { stack } from "../array/joining.js";
import { repeat } from "../array/numpy.js";
import { pad, reshape } from "../array/shaping.js";
import { Tensor } from "../array/tensor.js";
import { ArgumentError, ShapeError } from "../graph/errors.js";
import type { Module } from "../nn/module.js";
import { jit } from "../transform/jit.js";
import { type AdaptedLayer, Adapter, copyModule } from "./adapter.js";
import { LowRank } from "./low-rank.js";
import { adaptedLayers, adapterNames, mapAdapted, requireAdapter } from "./model.js";

/**
 * Low-rank products of several adapters beside one layer, of which each row of a batch has one: the factors are stacked, filled up to the largest
 * rank with zeros, and gathered by the rows' numbers. The first is of zeros: the base.
 */
export class MixedRows extends Adapter {
  readonly method = "LORA";
  readonly kind: "linear" | "embedding";
  /** [adapters + 1, rank, inputs], of a table [adapters + 1, count, rank]. */
  a: Tensor;
  /** [adapters + 1, outputs, rank], times the scales. */
  b: Tensor;
  /** Integer [rows]. */
  rows: Tensor;

  constructor({ a, b }: Factors, kind: "linear" | "embedding", rows: Tensor) {
    super();
    this.kind = kind;
    this.a = a;
    this.b = b;
    this.rows = rows;
  }

  override after(given: unknown, x: Tensor): Tensor {
    const y = given as Tensor;
    const ids = this.numbers(x);
    const b = cast(take(this.b, ids, 0), y.dtype);
    if (this.kind === "embedding") {
      // One row of one adapter's table for each token.
      const table = reshape(this.a, [-1, this.a.shape[2]!]);
      const spread = reshape(ids, [-1, ...new Array<number>(x.ndim - 1).fill(1)]);
      const u = cast(take(table, add(mul(spread, this.a.shape[1]!), x), 0), y.dtype);
      return add(y, this.product(u, b));
    }
    const a = cast(take(this.a, ids, 0), y.dtype);
    return add(y, this.product(this.product(cast(x, y.dtype), a), b));
  }

  /** [rows, ..., n] times [rows, m, n]: [rows, ..., m]. */
  private product(x: Tensor, w: Tensor): Tensor {
    return dotGeneral(x, w, { contract: [[x.ndim - 1], [2]], batch: [[0], [0]] });
  }

  /** A number for each row of `x`; where its rows are tokens, those of a row come one after another. */
  private numbers(x: Tensor): Tensor {
    const [rows, given] = [this.rows.shape[0]!, x.shape[0]!];
    if (rows === given) return this.rows;
    if (given % rows === 0) return repeat(this.rows, given / rows, 0);
    throw new ShapeError(
      `a batch of ${given} rows, and adapters for ${rows}`,
      "give one for each row: peft.mixed(model, [name, null, ...])",
    );
  }
}

interface Factors {
  readonly a: Tensor;
  readonly b: Tensor;
}

const stacked = jit(
  (adapters: readonly LowRank[], inputs: number, outputs: number, present: string): Factors => {
    const rank = Math.max(1, ...adapters.map((each) => each.rank));
    const own = new Map(present.split(",").map((index, i) => [Number(index), adapters[i]!]));
    const count = 1 + Math.max(0, ...own.keys());
    const table = adapters.some(({ kind }) => kind === "embedding");
    const all = Array.from({ length: count }, (_, i) => {
      const adapter = own.get(i);
      if (adapter === undefined) return [zeros([rank, inputs]), zeros([outputs, rank])] as const;
      const missing = rank - adapter.rank;
      const [a, b] = adapter.factors;
      return [
        pad(cast(a, "float32"), [
          [0, missing],
          [0, 0],
        ]),
        pad(mul(cast(b, "float32"), adapter.scale), [
          [0, 0],
          [0, missing],
        ]),
      ] as const;
    });
    const a = stack(all.map(([each]) => (table ? each.transpose() : each)));
    return { a, b: stack(all.map(([, each]) => each)) };
  },
  { name: "stack_adapters", tag: () => "parameter", manyTraces: true },
);

/**
 * The model in which each row of a batch is computed with an adapter of its own, or with none. The factors of all are stacked; which row has which
 * is data: other rows are no other program.
 *
 * @param rows - the name of each row's adapter, null for the base alone
 * @param names - the adapters that are stacked; default all of the model. Give the same ones, and batches with other rows share one program
 * @throws ArgumentError for names that there are not, and adapters that do more than add a product
 */
export function mixed<M extends Module>(
  model: M,
  rows: readonly (string | null)[],
  names: readonly string[] = adapterNames(model),
): M {
  const known = adapterNames(model);
  if (!Array.isArray(rows) || rows.length === 0)
    throw new ArgumentError(
      `mixed: the rows are ${JSON.stringify(rows)}`,
      "give a name or null for each row of a batch",
    );
  for (const name of names) requireAdapter("mixed", known, name);
  for (const name of rows) if (name !== null) requireAdapter("mixed", [...names], name);
  const ids = tensor(Int32Array.from(rows, (name) => (name === null ? 0 : names.indexOf(name) + 1)));
  return withRows(stackAdapters(model, names), ids);
}

/** The model with the factors of adapters stacked, and no rows yet: `withRows` says which row has which. */
export function stackAdapters<M extends Module>(model: M, names: readonly string[] = adapterNames(model)): M {
  for (const { module, name } of adaptedLayers(model)) {
    for (const each of names) {
      const adapter = module.adapters[each];
      if (adapter === undefined) continue;
      const plain = adapter instanceof LowRank && adapter.magnitude === null && adapter.kind !== "conv";
      if (!plain)
        throw new ArgumentError(
          `mixed: the adapter ${JSON.stringify(each)} at "${name}" does more than add a product`,
          "rows are mixed of plain LoRA beside Linear layers and tables; compute others in batches of their own (peft.activate)",
        );
    }
  }
  const none = tensor(Int32Array.of(0));
  return mapAdapted(model, (layer) => {
    const own = names.flatMap((name, i) =>
      layer.adapters[name] === undefined ? [] : [[i + 1, layer.adapters[name]] as const],
    );
    if (own.length === 0) return Object.assign(copyModule(layer), { active: [], shares: [], mixed: null });
    const adapters = own.map(([, adapter]) => adapter as LowRank);
    const [a, b] = [adapters[0]!.loraA, adapters[0]!.loraB];
    // All numbers are there, whichever adapters this layer has.
    const present = [...own.map(([i]) => i), ...(own.at(-1)![0] === names.length ? [] : [names.length])];
    const factors = stacked(adapters, a.shape[1]!, b.shape[0]!, present.join());
    const kind = adapters[0]!.kind as "linear" | "embedding";
    return Object.assign(copyModule(layer), {
      active: [],
      shares: [],
      mixed: new MixedRows(factors, kind, none),
    });
  });
}

/** The model with other adapters for the rows of a batch: integer [rows], 0 for none, else the place among those that were stacked, from 1. */
export function withRows<M extends Module>(model: M, rows: Tensor): M {
  if (!(rows instanceof Tensor) || rows.ndim !== 1)
    throw new ShapeError(`withRows: the rows are ${String(rows)}`, "give integers [rows]");
  return mapAdapted(model, (layer: AdaptedLayer) => {
    if (!(layer.mixed instanceof MixedRows)) return layer;
    return Object.assign(copyModule(layer), { mixed: Object.assign(copyModule(layer.mixed), { rows }) });
  });
}
