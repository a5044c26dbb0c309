/** What moves, orders and combines elements, over all types that XLA has on CPUs: shapes with empty axes among them. */
import type { DType, Tensor } from "aronnax";
import * as a from "aronnax";
import fc from "fast-check";
import { dtypes, isComplex } from "../../../core/src/graph/dtype.js";
import {
  filledShapes,
  type HostArray,
  hostArray,
  type Palette,
  randomArray,
  seeds,
  shapes,
} from "../../oracle/arrays.js";
import { checkProperties, type Property } from "../../oracle/properties.js";

const real = dtypes.filter((d) => !isComplex(d));
const numbers = dtypes.filter((d) => d !== "bool" && !d.startsWith("float8"));
const ordered = real.filter((d) => d !== "bool");
const wide = real.filter((d) => !d.startsWith("float8"));

interface Given {
  readonly rank: number;
  readonly axis: number;
  readonly length: number;
}

/** A property of an array of any of `types`; `theirs` is in `x`, `axis` and what `extra` adds. */
function overTypes(
  name: string,
  types: readonly DType[],
  ours: (x: Tensor, given: Given, extra: Readonly<Record<string, Tensor>>) => Tensor | readonly Tensor[],
  theirs: string,
  {
    filled = true,
    palette = "special" as Palette,
    extra = (() => ({})) as (given: Given, x: HostArray, seed: number) => Record<string, HostArray>,
    exact = true,
    tolerance = undefined as number | undefined,
  } = {},
): Property {
  return {
    name,
    runs: 10,
    trials: fc
      .tuple(fc.constantFrom(...types), filled ? filledShapes(1, 3, 5) : shapes(3), seeds)
      .filter(([, shape]) => shape.length > 0)
      .map(([dtype, shape, seed]) => {
        const axis = seed % shape.length;
        const given = { rank: shape.length, axis, length: shape[axis]! };
        const x = randomArray(dtype, shape, seed, palette);
        return {
          inputs: { x, ...extra(given, x, seed) },
          ours: ({ x: t, ...rest }) => ours(t!, given, rest),
          theirs: `(lambda axis: ${theirs})(${axis})`,
          x64: dtype.endsWith("64") && dtype !== "complex64",
          exact,
          tolerance,
        };
      }),
  };
}

/** Places along the axis, some of them equal. */
const places = ({ length }: Given, _: HostArray, seed: number): Record<string, HostArray> => ({
  i: hostArray(
    [seed, seed >> 3, seed >> 7, seed >> 11].map((n) => n % length),
    "int32",
  ),
});
const one = ({ rank, axis }: Given): number[] => Array.from({ length: rank }, (_, k) => (k === axis ? 4 : 1));

checkProperties("moving elements of all types", [
  overTypes("transpose", dtypes, (x) => x.transpose(), "jnp.transpose(x)", { filled: false }),
  overTypes("reshape", dtypes, (x) => x.reshape([-1]), "jnp.ravel(x)", { filled: false }),
  overTypes("flip", dtypes, (x, { axis }) => a.flip(x, axis), "jnp.flip(x, axis)", { filled: false }),
  overTypes("roll", dtypes, (x, { axis }) => a.roll(x, 2, axis), "jnp.roll(x, 2, axis)"),
  overTypes(
    "expand and broadcast",
    dtypes,
    (x) => a.broadcastTo(a.expandDims(x, 0), [3, ...x.shape]),
    "jnp.broadcast_to(x[None], (3, *x.shape))",
    { filled: false },
  ),
  overTypes(
    "concatenate",
    dtypes,
    (x, { axis }) => a.concatenate([x, x], axis),
    "jnp.concatenate([x, x], axis)",
    { filled: false },
  ),
  overTypes("stack", dtypes, (x, { axis }) => a.stack([x, x], axis), "jnp.stack([x, x], axis)", {
    filled: false,
  }),
  overTypes(
    "pad",
    dtypes,
    (x) =>
      a.pad(
        x,
        x.shape.map(() => [1, 2]),
      ),
    "jnp.pad(x, (1, 2))",
    { filled: false },
  ),
  overTypes("slice", dtypes, (x) => x.slice([null, null, -2]), "x[::-2]", { filled: false }),
  overTypes("take", dtypes, (x, { axis }, { i }) => a.take(x, i!, axis), "jnp.take(x, i, axis)", {
    extra: places,
  }),
  overTypes(
    "takeAlongAxis",
    dtypes,
    (x, given, { i }) =>
      a.takeAlongAxis(x, a.broadcastTo(i!.reshape(one(given)), x.shape.with(given.axis, 4)), given.axis),
    "jnp.take_along_axis(x, jnp.broadcast_to(i.reshape([4 if k == axis else 1 for k in range(x.ndim)]), [4 if k == axis else d for k, d in enumerate(x.shape)]), axis)",
    { extra: places },
  ),
  overTypes(
    "where",
    dtypes,
    (x) => a.where(a.equal(x, x), x, a.zerosLike(x)),
    "jnp.where(x == x, x, jnp.zeros_like(x))",
    { filled: false },
  ),
  overTypes(
    "dynamicSlice",
    dtypes,
    (x, { axis, length }, { i }) =>
      a.dynamicSlice(
        x,
        x.shape.map((_, k) => (k === axis ? i!.slice(0) : 0)),
        x.shape.with(axis, Math.ceil(length / 2)),
      ),
    "lax.dynamic_slice_in_dim(x, i[0], -(-x.shape[axis] // 2), axis)",
    { extra: places },
  ),
]);

checkProperties("ordering elements of all types", [
  overTypes("max", real, (x, { axis }) => x.max(axis), "jnp.max(x, axis)"),
  overTypes("min", real, (x, { axis }) => x.min(axis), "jnp.min(x, axis)"),
  overTypes("argmax", real, (x, { axis }) => x.argmax(axis), "jnp.argmax(x, axis).astype(jnp.int32)"),
  overTypes("argmin", real, (x, { axis }) => x.argmin(axis), "jnp.argmin(x, axis).astype(jnp.int32)"),
  overTypes("sort", real, (x, { axis }) => a.sort(x, axis), "jnp.sort(x, axis)"),
  overTypes("argsort", real, (x, { axis }) => a.argsort(x, axis), "jnp.argsort(x, axis).astype(jnp.int32)"),
  overTypes("topK", ordered, (x) => a.topK(x, 1)[0], "lax.top_k(x, 1)[0]", { palette: "moderate" }),
  overTypes(
    "cummax",
    wide.filter((d) => d !== "bool"),
    (x, { axis }) => a.cummax(x, axis),
    "lax.cummax(x, axis)",
    { palette: "moderate" },
  ),
]);

checkProperties("combining elements of all types", [
  overTypes(
    "sum",
    numbers,
    (x, { axis }) => x.sum(axis),
    "jnp.sum(x, axis, dtype=x.dtype if jnp.issubdtype(x.dtype, jnp.integer) else None)",
    { palette: "moderate", exact: false, filled: false },
  ),
  overTypes(
    "prod",
    numbers,
    (x, { axis }) => x.prod(axis),
    "jnp.prod(x, axis, dtype=x.dtype if jnp.issubdtype(x.dtype, jnp.integer) else None)",
    { palette: "moderate", exact: false, filled: false },
  ),
  overTypes(
    "cumsum",
    numbers.filter((d) => !isComplex(d)),
    (x, { axis }) => a.cumsum(x, axis),
    "jnp.cumsum(x, axis, dtype=x.dtype)",
    { palette: "small", exact: false, tolerance: 2e-2 },
  ),
  overTypes(
    "matmul",
    numbers,
    (x) => x.matmul(x.ndim < 2 ? x : x.mT),
    "jnp.matmul(x, x if x.ndim < 2 else jnp.swapaxes(x, -1, -2))",
    { palette: "small", exact: false },
  ),
  overTypes("all", dtypes, (x, { axis }) => x.all(axis), "jnp.all(x, axis)", { palette: "small" }),
  overTypes("any", dtypes, (x, { axis }) => x.any(axis), "jnp.any(x, axis)", { palette: "small" }),
  ...(["set", "add", "max", "min"] as const).map((kind) =>
    overTypes(
      `at().${kind}`,
      kind === "set" ? dtypes : kind === "add" ? numbers : wide.filter((d) => d !== "bool"),
      // The first place only: the order of writes to equal places is not defined.
      (x, _, { i }) => a.at(x, i!.mod(x.shape[0]!).slice([0, 1]))[kind](a.onesLike(x).slice([0, 1])),
      `x.at[(i % x.shape[0])[:1]].${kind}(jnp.ones_like(x)[:1])`,
      { extra: places, palette: "moderate" },
    ),
  ),
]);
