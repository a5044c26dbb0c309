/** Sorting, places and the rest of NumPy's vocabulary, that every transform is tested with. */
import fc from "fast-check";
import type { Tensor } from "../../core/src/index.js";
import * as a from "../../core/src/index.js";
import { filledShapes, type Palette } from "./arrays.js";
import { type Operation, operation } from "./operations.js";

const first = { linear: true, runs: 3 } as const;
const only = { forwardOnly: true, runs: 3 } as const;

const axial = filledShapes(1, 3, 5).chain((shape) =>
  fc.record({ shape: fc.constant(shape), axis: fc.nat(shape.length - 1), flag: fc.boolean() }),
);

const ordered = (
  name: string,
  ours: (x: Tensor, axis: number, descending: boolean) => Tensor,
  theirs: string,
  palette: Palette,
  options: Partial<Operation>,
): Operation =>
  operation(
    name,
    axial,
    ({ shape, axis, flag }) => ({
      inputs: [{ shape, palette }],
      ours: (x) => ours(x!, axis, flag),
      theirs: `lambda a: ${theirs}(a, axis=${axis}, descending=${flag ? "True" : "False"})`,
    }),
    options,
  );

const same = (
  name: string,
  shapes: readonly (readonly number[])[],
  ours: (...x: Tensor[]) => Tensor,
  theirs: string,
  options: Partial<Operation> = first,
  palette: Palette = "rough",
): Operation =>
  operation(
    name,
    fc.constant(0),
    () => ({ inputs: shapes.map((shape) => ({ shape, palette })), ours, theirs }),
    { ...options, runs: 1 },
  );

const ints = (
  shape: readonly number[],
  palette: Palette = "moderate",
): { shape: readonly number[]; dtype: "int32"; palette: Palette } => ({ shape, dtype: "int32", palette });

/** [name, ours, Python] of indices of a [4, 5, 3] tensor with index arrays i [2, 1] and j [3]. */
const places: readonly [string, (x: Tensor, i: Tensor, j: Tensor) => a.Place, string][] = [
  ["an index", (x) => a.at(x, 1), "1"],
  ["slices", (x) => a.at(x, [1, 3], null, [null, null, -1]), "1:3, :, ::-1"],
  ["steps", (x) => a.at(x, -1, [null, null, 2]), "-1, ::2"],
  ["an array", (x, i) => a.at(x, null, i), ":, i"],
  ["arrays side by side", (x, i, j) => a.at(x, i, j), "i, j"],
  ["arrays apart", (x, i, j) => a.at(x, i, [1, 4], j), "i, 1:4, j"],
  ["an array and an index", (x, _, j) => a.at(x, [0, 2], j, 1), "0:2, j, 1"],
];

export const vocabulary: readonly Operation[] = [
  ordered("sort", (x, axis, descending) => a.sort(x, axis, { descending }), "jnp.sort", "rough", first),
  ordered(
    "sort with NaN and zeros",
    (x, axis, descending) => a.sort(x, axis, { descending }),
    "jnp.sort",
    "special",
    { ...only, runs: 5 },
  ),
  ordered("argsort", (x, axis, descending) => a.argsort(x, axis, { descending }), "jnp.argsort", "small", {
    ...only,
    runs: 5,
  }),
  operation(
    "sort of integers",
    axial,
    ({ shape, axis }) => ({
      inputs: [ints(shape)],
      ours: (x) => a.sort(x!, axis),
      theirs: `lambda a: jnp.sort(a, axis=${axis})`,
    }),
    only,
  ),
  operation(
    "sortBy",
    axial,
    ({ shape, axis }) => ({
      inputs: [{ shape }, { shape }],
      ours: (k, v) => a.sortBy(k!, [v!], axis)[1]!,
      theirs: `lambda k, v: lax.sort((k, v), dimension=${axis}, num_keys=1)[1]`,
    }),
    first,
  ),
  operation(
    "topK",
    filledShapes(1, 2, 6),
    (shape) => ({
      inputs: [{ shape }],
      ours: (x) => a.topK(x!, Math.ceil(shape.at(-1)! / 2))[0],
      theirs: `lambda a: lax.top_k(a, ${Math.ceil(shape.at(-1)! / 2)})[0]`,
    }),
    first,
  ),
  operation(
    "topK, places",
    filledShapes(1, 2, 6),
    (shape) => ({
      inputs: [{ shape, palette: "small" }],
      ours: (x) => a.topK(x!, Math.ceil(shape.at(-1)! / 2))[1],
      theirs: `lambda a: lax.top_k(a, ${Math.ceil(shape.at(-1)! / 2)})[1]`,
    }),
    only,
  ),
  operation(
    "quantile",
    axial,
    ({ shape, axis }) => ({
      inputs: [{ shape }],
      ours: (x) => a.quantile(x!, 0.3, axis),
      theirs: `lambda a: jnp.quantile(a, 0.3, axis=${axis})`,
    }),
    first,
  ),
  same("median", [[5, 4]], (x) => a.median(x!), "jnp.median"),
  same(
    "searchSorted",
    [[6], [2, 3]],
    (s, v) => a.searchSorted(a.sort(s!), v!),
    "lambda s, v: jnp.searchsorted(jnp.sort(s), v)",
    only,
  ),
  same(
    "searchSorted to the right",
    [[6], [2, 3]],
    (s, v) => a.searchSorted(a.sort(a.floor(s!)), a.floor(v!), { side: "right" }),
    `lambda s, v: jnp.searchsorted(jnp.sort(jnp.floor(s)), jnp.floor(v), side="right")`,
    only,
  ),
  operation(
    "bincount",
    fc.constant(0),
    () => ({
      inputs: [ints([9], "small")],
      ours: (x) => a.bincount(x!, 6),
      theirs: "lambda x: jnp.bincount(x, length=6)",
    }),
    { ...only, runs: 2 },
  ),
  ...places.flatMap(([name, ours, theirs]) => {
    const arrays = [ints([2, 1]), ints([3])] as const;
    const rows = (method: "set" | "add" | "mul" | "max", python: string): Operation =>
      operation(
        `at ${name}, ${method}`,
        fc.constant(0),
        () => ({
          inputs: [{ shape: [4, 5, 3] }, ...arrays, { shape: [] }],
          ours: (x, i, j, v) => ours(x!, a.mod(i!, 3), a.mod(j!, 3))[method](v!.mul(2)),
          theirs: `lambda a, i, j, v: (lambda i, j: a.at[${theirs}].${python}(v * 2))(i % 3, j % 3)`,
        }),
        method === "mul" || method === "max" ? only : first,
      );
    return [
      operation(
        `at ${name}, get`,
        fc.constant(0),
        () => ({
          inputs: [{ shape: [4, 5, 3] }, ...arrays],
          ours: (x, i, j) => ours(x!, a.mod(i!, 3), a.mod(j!, 3)).get(),
          theirs: `lambda a, i, j: (lambda i, j: a[${theirs}])(i % 3, j % 3)`,
        }),
        first,
      ),
      rows("set", "set"),
      rows("add", "add"),
      rows("mul", "multiply"),
      rows("max", "max"),
    ];
  }),
  operation(
    "at indices outside, add",
    fc.constant(0),
    () => ({
      inputs: [{ shape: [4, 2] }, ints([6])],
      ours: (x, i) => a.at(x!, i!).add(1),
      theirs: "lambda a, i: a.at[i].add(1)",
    }),
    first,
  ),
  same("tile", [[2, 3]], (x) => a.tile(x!, [2, 1, 3]), "lambda a: jnp.tile(a, (2, 1, 3))"),
  same("repeat", [[2, 3]], (x) => a.repeat(x!, 3, 1), "lambda a: jnp.repeat(a, 3, axis=1)"),
  same("diagonal", [[3, 4, 2]], (x) => a.diagonal(x!, { offset: 1 }), "lambda a: jnp.diagonal(a, 1)"),
  same(
    "diagonal below, of other axes",
    [[3, 4, 2]],
    (x) => a.diagonal(x!, { offset: -1, axes: [2, 0] }),
    "lambda a: jnp.diagonal(a, -1, 2, 0)",
  ),
  same("trace", [[3, 4]], (x) => a.trace(x!), "jnp.trace"),
  same("diag", [[4]], (x) => a.diag(x!), "jnp.diag"),
  same(
    "tensordot",
    [
      [2, 3, 4],
      [3, 4, 5],
    ],
    (x, y) => a.tensordot(x!, y!),
    "jnp.tensordot",
    {},
  ),
  same("outer", [[3], [2, 2]], (x, y) => a.outer(x!, y!), "jnp.outer", {}),
  same(
    "kron",
    [
      [2, 3],
      [3, 2],
    ],
    (x, y) => a.kron(x!, y!),
    "jnp.kron",
    {},
  ),
  same("diff", [[2, 5]], (x) => a.diff(x!), "jnp.diff"),
  same("cross", [[2, 3], [3]], (x, y) => a.cross(x!, y!), "jnp.cross", {}),
  same(
    "meshgrid",
    [[2], [3]],
    (x, y) => a.stack(a.meshgrid(x!, y!)),
    `lambda x, y: jnp.stack(jnp.meshgrid(x, y, indexing="ij"))`,
  ),
  same("peakToPeak", [[2, 3]], (x) => a.peakToPeak(x!, 1), "lambda a: jnp.ptp(a, 1)"),
  same("isinf", [[20]], (x) => a.isinf(x!), "jnp.isinf", only, "special"),
  same("nanToNum", [[20]], (x) => a.nanToNum(x!), "jnp.nan_to_num", only, "special"),
  same("hypot", [[5], [5]], (x, y) => a.hypot(x!, y!), "jnp.hypot"),
  same("logicalAnd", [[6], [6]], (x, y) => a.logicalAnd(x!, y!), "jnp.logical_and", only, "small"),
  same("logicalOr", [[6], [6]], (x, y) => a.logicalOr(x!, y!), "jnp.logical_or", only, "small"),
  same("logSigmoid", [[6]], (x) => a.logSigmoid(x!), "nn.log_sigmoid", {}),
  same("leakyRelu", [[6]], (x) => a.leakyRelu(x!), "nn.leaky_relu"),
  same("elu", [[6]], (x) => a.elu(x!), "nn.elu", {}),
];
