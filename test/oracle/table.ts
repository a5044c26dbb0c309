/** The operations that every transform is tested with. */
import fc from "fast-check";
import type { Tensor } from "../../core/src/index.js";
import * as a from "../../core/src/index.js";
import { broadcastPairs, filledShapes, type Palette, shapes } from "./arrays.js";
import { type Operation, operation } from "./operations.js";

type Unary = (x: Tensor) => Tensor;

const unary = (
  name: string,
  ours: Unary,
  theirs: string,
  palette: Palette,
  options: Partial<Operation> = {},
): Operation =>
  operation(name, shapes(3), (shape) => ({ inputs: [{ shape, palette }], ours, theirs }), {
    runs: 3,
    ...options,
  });

const binary = (
  name: string,
  ours: (x: Tensor, y: Tensor) => Tensor,
  theirs: string,
  palettes: readonly [Palette, Palette] = ["rough", "rough"],
  options: Partial<Operation> = {},
): Operation =>
  operation(
    name,
    broadcastPairs,
    ([x, y]) => ({
      inputs: [
        { shape: x, palette: palettes[0] },
        { shape: y, palette: palettes[1] },
      ],
      ours,
      theirs,
    }),
    { runs: 4, ...options },
  );

const python = (axes: readonly number[] | undefined): string =>
  axes === undefined ? "None" : `(${axes.map((x) => `${x},`).join("")})`;

/** A shape, some of its axes (counted from either end), and whether reduced axes stay. */
const reductions = (
  maxRank = 4,
): fc.Arbitrary<{ shape: number[]; axes: number[] | undefined; keepDims: boolean }> =>
  filledShapes(0, maxRank).chain((shape) =>
    fc.record({
      shape: fc.constant(shape),
      axes: fc.option(
        fc
          .subarray([...shape.keys()])
          .chain((list) => fc.tuple(...list.map((axis) => fc.constantFrom(axis, axis - shape.length)))),
        { nil: undefined },
      ) as fc.Arbitrary<number[] | undefined>,
      keepDims: fc.boolean(),
    }),
  );

type Reduce = (x: Tensor, axes: readonly number[] | undefined, options: { keepDims: boolean }) => Tensor;

const reduction = (
  name: string,
  ours: Reduce,
  theirs: string,
  palette: Palette = "rough",
  options: Partial<Operation> = {},
): Operation =>
  operation(
    name,
    reductions(),
    ({ shape, axes, keepDims }) => ({
      inputs: [{ shape, palette }],
      ours: (x) => ours(x, axes, { keepDims }),
      theirs: `lambda a: ${theirs}(a, axis=${python(axes)}, keepdims=${keepDims ? "True" : "False"})`,
    }),
    { runs: 5, ...options },
  );

const alongAxis = (
  name: string,
  ours: (x: Tensor, axis: number) => Tensor,
  theirs: string,
  options: Partial<Operation> = {},
): Operation =>
  operation(
    name,
    filledShapes(1, 3).chain((shape) =>
      fc.tuple(fc.constant(shape), fc.integer({ min: -shape.length, max: shape.length - 1 })),
    ),
    ([shape, axis]) => ({
      inputs: [{ shape }],
      ours: (x) => ours(x, axis),
      theirs: `lambda a: ${theirs}(a, axis=${axis})`,
    }),
    { runs: 4, ...options },
  );

export const elementwise: readonly Operation[] = [
  unary("exp", a.exp, "jnp.exp", "moderate"),
  unary("expm1", a.expm1, "jnp.expm1", "moderate"),
  unary("log", a.log, "jnp.log", "positive"),
  unary("log1p", a.log1p, "jnp.log1p", "positive"),
  unary("sqrt", a.sqrt, "jnp.sqrt", "positive"),
  unary("rsqrt", a.rsqrt, "lax.rsqrt", "positive"),
  unary("cbrt", a.cbrt, "jnp.cbrt", "positive"),
  unary("sin", a.sin, "jnp.sin", "moderate"),
  unary("cos", a.cos, "jnp.cos", "moderate"),
  unary("tan", a.tan, "jnp.tan", "unit"),
  unary("asin", a.asin, "jnp.asin", "unit"),
  unary("acos", a.acos, "jnp.acos", "unit"),
  unary("atan", a.atan, "jnp.atan", "moderate"),
  unary("sinh", a.sinh, "jnp.sinh", "moderate"),
  unary("cosh", a.cosh, "jnp.cosh", "moderate"),
  unary("tanh", a.tanh, "jnp.tanh", "moderate"),
  unary("asinh", a.asinh, "jnp.asinh", "moderate"),
  unary("acosh", a.acosh, "jnp.acosh", "aboveOne"),
  unary("atanh", a.atanh, "jnp.atanh", "unit"),
  unary("sigmoid", a.sigmoid, "nn.sigmoid", "moderate"),
  unary("erf", a.erf, "lax.erf", "moderate"),
  unary("erfc", a.erfc, "lax.erfc", "moderate"),
  unary("erfinv", a.erfinv, "lax.erf_inv", "unit", { tolerance: 1e-4 }),
  unary("lgamma", a.lgamma, "lax.lgamma", "positive", { runs: 1, tolerance: 1e-4 }),
  unary("digamma", a.digamma, "lax.digamma", "positive", { runs: 1, tolerance: 1e-4 }),
  unary("neg", a.neg, "jnp.negative", "moderate", { linear: true }),
  unary("abs", a.abs, "jnp.abs", "rough", { linear: true }),
  unary("floor", a.floor, "jnp.floor", "rough", { linear: true }),
  unary("sign", a.sign, "jnp.sign", "rough", { linear: true }),
  unary("square", a.square, "jnp.square", "moderate"),
  unary("reciprocal", a.reciprocal, "jnp.reciprocal", "positive"),
  unary("relu", a.relu, "nn.relu", "rough", { linear: true }),
  unary("silu", a.silu, "nn.silu", "moderate"),
  unary("gelu", a.gelu, "lambda a: nn.gelu(a, approximate=False)", "moderate"),
  unary("gelu by tanh", (x) => a.gelu(x, { approximate: true }), "nn.gelu", "moderate"),
  unary("softplus", a.softplus, "nn.softplus", "rough"),
  unary("cast to bfloat16", (x) => a.cast(x, "bfloat16"), "lambda a: a.astype(jnp.bfloat16)", "moderate", {
    declared: true,
    linear: true,
  }),
  unary(
    "stopGradient",
    (x) => a.mul(x, a.stopGradient(x)),
    "lambda a: a * lax.stop_gradient(a)",
    "moderate",
    { declared: true, linear: true },
  ),
  ...[-2, -1, 0, 1, 2, 3, 0.5, -0.5, 2.5].map((n) =>
    unary(`power ${n}`, (x) => a.pow(x, n), `lambda a: jnp.power(a, ${n})`, "positive", { runs: 2 }),
  ),
  unary("power of a number", (x) => a.pow(2.5, x), "lambda a: jnp.power(2.5, a)", "moderate"),
  binary("add", a.add, "jnp.add", undefined, { linear: true }),
  binary("sub", a.sub, "jnp.subtract", undefined, { linear: true }),
  binary("mul", a.mul, "jnp.multiply"),
  binary("div", a.div, "jnp.divide", ["rough", "positive"]),
  binary("pow", a.pow, "jnp.power", ["positive", "rough"]),
  binary("atan2", a.atan2, "jnp.atan2"),
  binary("mod", a.mod, "jnp.mod", ["rough", "rough"], { linear: true }),
  binary("rem", a.rem, "jnp.fmod", ["rough", "rough"], { linear: true }),
  binary("maximum", a.maximum, "jnp.maximum", undefined, { linear: true }),
  binary("minimum", a.minimum, "jnp.minimum", undefined, { linear: true }),
  binary("maximum of equals", a.maximum, "jnp.maximum", ["small", "small"], { linear: true }),
  binary(
    "where",
    (x, y) => a.where(a.less(x, y), a.sin(x), y),
    "lambda a, b: jnp.where(a < b, jnp.sin(a), b)",
  ),
  binary("clip", (x, y) => a.clip(x, y, 2), "lambda a, b: jnp.clip(a, b, 2)", undefined, { linear: true }),
];

const permutations = filledShapes(0, 4).chain((shape) =>
  fc.tuple(fc.constant(shape), fc.shuffledSubarray([...shape.keys()], { minLength: shape.length })),
);

const slices = filledShapes(1, 3, 6).chain((shape) =>
  fc.tuple(
    fc.constant(shape),
    fc.tuple(
      ...shape.map((d) =>
        fc.oneof(
          fc.constant(null),
          fc.integer({ min: -d, max: d - 1 }),
          fc.tuple(
            fc.option(fc.integer({ min: -d - 1, max: d + 1 })),
            fc.option(fc.integer({ min: -d - 1, max: d + 1 })),
            fc.constantFrom(1, 2, 3, -1, -2),
          ),
        ),
      ),
    ),
  ),
);

const pythonSlice = (
  specs: readonly (number | null | readonly [number | null, number | null, number])[],
): string =>
  specs
    .map((s) => (s === null ? ":" : typeof s === "number" ? `${s}` : `${s[0] ?? ""}:${s[1] ?? ""}:${s[2]}`))
    .join(", ");

const joined = filledShapes(1, 3).chain((shape) =>
  fc.record({
    shape: fc.constant(shape),
    axis: fc.integer({ min: -shape.length, max: shape.length - 1 }),
    lengths: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 3 }),
  }),
);

const first = { linear: true, runs: 4 } as const;

export const shaping: readonly Operation[] = [
  operation(
    "transpose",
    permutations,
    ([shape, order]) => ({
      inputs: [{ shape }],
      ours: (x) => a.transpose(x, order),
      theirs: `lambda a: jnp.transpose(a, ${python(order)})`,
    }),
    first,
  ),
  operation(
    "reshape to one axis",
    shapes(),
    (shape) => ({
      inputs: [{ shape }],
      ours: (x) => x.reshape([-1]),
      theirs: "lambda a: jnp.reshape(a, (-1,))",
    }),
    { ...first },
  ),
  operation(
    "slice",
    slices,
    ([shape, specs]) => ({
      inputs: [{ shape }],
      ours: (x) => a.slice(x, ...specs),
      theirs: `lambda a: a[${pythonSlice(specs)}]`,
    }),
    { ...first, runs: 8 },
  ),
  operation(
    "broadcastTo",
    broadcastPairs,
    ([x, y]) => {
      const [small, large] = x.length < y.length ? [x, y] : [y, x];
      const to = large.map((d, i) =>
        i < large.length - small.length ? d : Math.max(d, small[i - large.length + small.length]!),
      );
      const target = to.map((d, i) =>
        large[i] === 0 || small[i - large.length + small.length] === 0 ? 0 : d,
      );
      return {
        inputs: [{ shape: small }],
        ours: (t) => a.broadcastTo(t, target),
        theirs: `lambda a: jnp.broadcast_to(a, ${python(target)})`,
      };
    },
    first,
  ),
  operation(
    "pad",
    filledShapes(1, 3).chain((shape) =>
      fc.tuple(fc.constant(shape), fc.tuple(...shape.map(() => fc.tuple(fc.nat(2), fc.nat(2))))),
    ),
    ([shape, widths]) => ({
      inputs: [{ shape }],
      ours: (x) => a.pad(x, widths, 1.5),
      theirs: `lambda a: jnp.pad(a, (${widths.map(([l, h]) => `(${l}, ${h}),`).join("")}), constant_values=1.5)`,
    }),
    first,
  ),
  alongAxis("flip", (x, axis) => a.flip(x, axis), "jnp.flip", first),
  operation(
    "roll",
    filledShapes(1, 3).chain((shape) =>
      fc.tuple(fc.constant(shape), fc.nat(shape.length - 1), fc.integer({ min: -5, max: 5 })),
    ),
    ([shape, axis, shift]) => ({
      inputs: [{ shape }],
      ours: (x) => a.roll(x, shift, axis),
      theirs: `lambda a: jnp.roll(a, ${shift}, ${axis})`,
    }),
    first,
  ),
  operation(
    "concatenate",
    joined,
    ({ shape, axis, lengths }) => ({
      inputs: lengths.map((length) => ({ shape: shape.with(axis < 0 ? axis + shape.length : axis, length) })),
      ours: (...xs) => a.concatenate(xs, axis),
      theirs: `lambda *xs: jnp.concatenate(xs, axis=${axis})`,
    }),
    first,
  ),
  operation(
    "stack",
    joined,
    ({ shape, axis, lengths }) => ({
      inputs: lengths.map(() => ({ shape })),
      ours: (...xs) => a.stack(xs, axis),
      theirs: `lambda *xs: jnp.stack(xs, axis=${axis})`,
    }),
    first,
  ),
  alongAxis(
    "split, middle part",
    (x, axis) => a.split(x, [0, x.shape.at(axis)!], axis)[1]!,
    "(lambda a, axis: a)",
    { ...first, runs: 2 },
  ),
  operation(
    "tril",
    filledShapes(2, 3).chain((shape) => fc.tuple(fc.constant(shape), fc.integer({ min: -2, max: 2 }))),
    ([shape, k]) => ({
      inputs: [{ shape }],
      ours: (x) => a.tril(x, k),
      theirs: `lambda a: jnp.tril(a, ${k})`,
    }),
    first,
  ),
  operation(
    "triu",
    filledShapes(2, 3).chain((shape) => fc.tuple(fc.constant(shape), fc.integer({ min: -2, max: 2 }))),
    ([shape, k]) => ({
      inputs: [{ shape }],
      ours: (x) => a.triu(x, k),
      theirs: `lambda a: jnp.triu(a, ${k})`,
    }),
    first,
  ),
];

export const reduced: readonly Operation[] = [
  reduction("sum", a.sum, "jnp.sum", "moderate", { linear: true }),
  reduction("mean", a.mean, "jnp.mean", "moderate", { linear: true }),
  reduction("max", a.max, "jnp.max", "rough", { linear: true }),
  reduction("min", a.min, "jnp.min", "rough", { linear: true }),
  reduction("max of equals", a.max, "jnp.max", "small", { linear: true }),
  reduction("prod", a.prod, "jnp.prod", "rough", { tolerance: 1e-4 }),
  reduction("prod with zeros", a.prod, "jnp.prod", "small", { linear: true }),
  reduction("variance", a.variance, "jnp.var"),
  reduction(
    "std",
    (x, axes, o) =>
      a.std(
        a.concatenate([x.reshape([...x.shape, 1]), x.reshape([...x.shape, 1]).add(1)], -1),
        axes === undefined ? undefined : [...axes.map((i) => (i < 0 ? i + x.ndim : i)), x.ndim],
        o,
      ),
    "(lambda a, axis, keepdims: jnp.std(jnp.stack([a, a + 1], -1), axis=None if axis is None else tuple(i % a.ndim for i in axis) + (a.ndim,), keepdims=keepdims))",
    "rough",
    { tolerance: 1e-4 },
  ),
  reduction("logsumexp", a.logsumexp, "nn.logsumexp", "moderate"),
  reduction(
    "norm",
    (x, axes, o) => a.norm(a.add(x, 4), axes, o),
    "(lambda a, axis, keepdims: jnp.sqrt(jnp.sum((a + 4) ** 2, axis=axis, keepdims=keepdims)))",
    "moderate",
  ),
  alongAxis("softmax", (x, axis) => a.softmax(x, axis), "nn.softmax"),
  alongAxis("logSoftmax", (x, axis) => a.logSoftmax(x, axis), "nn.log_softmax"),
  alongAxis("argmax", (x, axis) => a.argmax(x, axis), "jnp.argmax", { forwardOnly: true }),
  alongAxis("argmin", (x, axis) => a.argmin(x, axis), "jnp.argmin", { forwardOnly: true }),
];

const lengths = fc.tuple(
  fc.integer({ min: 1, max: 3 }),
  fc.integer({ min: 1, max: 3 }),
  fc.integer({ min: 1, max: 4 }),
  fc.integer({ min: 1, max: 2 }),
  fc.integer({ min: 1, max: 2 }),
);

const equations = [
  "ij,jk->ik",
  "ij,kj->ik",
  "bij,bjk->bik",
  "btd,df->btf",
  "bqhd,bkhd->bhqk",
  "bhqk,bkhd->bqhd",
  "i,j->ij",
  "ij->ji",
  "ij->",
  "ii->i",
  "ii",
  "ij,j",
  "ij,ij->i",
  "ij,ij,ij->ij",
  "ij,jk,kl->il",
  "b...d,de->b...e",
  "...ij,...jk",
  "ijk,ilm,njm,nlk->",
  "iji->j",
  "ij,kl->",
  "a,ab,abc->abc",
] as const;

export const contraction: readonly Operation[] = [
  operation(
    "matmul",
    lengths,
    ([m, k, n, b, c]) => ({
      inputs: [{ shape: [b, 1, m, k] }, { shape: [c, k, n] }],
      ours: (x, y) => a.matmul(x!, y!),
      theirs: "jnp.matmul",
    }),
    { runs: 3 },
  ),
  operation(
    "matmul of matrices",
    lengths,
    ([m, k, n]) => ({
      inputs: [{ shape: [m, k] }, { shape: [k, n] }],
      ours: (x, y) => a.matmul(x!, y!),
      theirs: "jnp.matmul",
    }),
    { runs: 3 },
  ),
  operation(
    "matmul with a vector",
    lengths,
    ([m, k, , b]) => ({
      inputs: [{ shape: [b, m, k] }, { shape: [k] }],
      ours: (x, y) => a.matmul(x!, y!),
      theirs: "jnp.matmul",
    }),
    { runs: 2 },
  ),
  operation(
    "matmul of a vector",
    lengths,
    ([, k, n, b]) => ({
      inputs: [{ shape: [k] }, { shape: [b, k, n] }],
      ours: (x, y) => a.matmul(x!, y!),
      theirs: "jnp.matmul",
    }),
    { runs: 2 },
  ),
  operation(
    "dotGeneral",
    lengths,
    ([m, k, n, b, c]) => ({
      inputs: [{ shape: [k, b, m, c] }, { shape: [b, c, n, k] }],
      ours: (x, y) =>
        a.dotGeneral(x!, y!, {
          contract: [
            [3, 0],
            [1, 3],
          ],
          batch: [[1], [0]],
        }),
      theirs: "lambda a, b: lax.dot_general(a, b, (((3, 0), (1, 3)), ((1,), (0,))))",
    }),
    { runs: 3 },
  ),
  ...equations.map((equation) =>
    operation(
      `einsum "${equation}"`,
      lengths,
      (sizes) => {
        const terms = equation.split("->")[0]!.split(",");
        const labels = [...new Set(equation.replaceAll(/[^a-z]/g, ""))];
        const shapeOf = (term: string): number[] =>
          [...term.replace("...", "#")].flatMap((c) =>
            c === "#" ? [sizes[0]!, sizes[3]!] : [sizes[labels.indexOf(c) % 5]!],
          );
        return {
          inputs: terms.map((term) => ({ shape: shapeOf(term) })),
          ours: (...xs) => a.einsum(equation, ...xs),
          theirs: `lambda *xs: jnp.einsum("${equation}", *xs)`,
        };
      },
      { runs: 2 },
    ),
  ),
];

const indices = (
  shape: readonly number[],
): { shape: readonly number[]; dtype: "int32"; palette: "moderate" } => ({
  shape,
  dtype: "int32",
  palette: "moderate",
});

const placed = filledShapes(1, 3).chain((shape) =>
  fc.record({
    shape: fc.constant(shape),
    axis: fc.integer({ min: 0, max: shape.length - 1 }),
    at: filledShapes(0, 2, 3),
  }),
);

const prefix = (axis: number): string => ":, ".repeat(axis);

export const indexing: readonly Operation[] = [
  operation(
    "take",
    placed,
    ({ shape, axis, at }) => ({
      inputs: [{ shape }, indices(at)],
      ours: (x, i) => a.take(x!, i!, axis),
      theirs: `lambda a, i: a.at[${prefix(axis)}i].get(mode="clip")`,
    }),
    first,
  ),
  operation(
    "takeAlongAxis",
    placed,
    ({ shape, axis, at }) => ({
      inputs: [{ shape }, { ...indices(shape.with(axis, (at[0] ?? 1) + 1)), palette: "small" }],
      ours: (x, i) => a.takeAlongAxis(x!, a.mod(i!, shape[axis]!), axis),
      theirs: `lambda a, i: jnp.take_along_axis(a, i % ${shape[axis]}, axis=${axis})`,
    }),
    first,
  ),
  operation(
    "dynamicSlice",
    filledShapes(1, 3),
    (shape) => ({
      inputs: [{ shape }, ...shape.map(() => indices([]))],
      ours: (x, ...starts) =>
        a.dynamicSlice(
          x!,
          starts,
          shape.map((d) => Math.ceil(d / 2)),
        ),
      theirs: `lambda a, *s: lax.dynamic_slice(a, s, ${python(shape.map((d) => Math.ceil(d / 2)))}, allow_negative_indices=False)`,
    }),
    first,
  ),
  operation(
    "dynamicUpdateSlice",
    filledShapes(1, 3),
    (shape) => ({
      inputs: [{ shape }, { shape: shape.map((d) => Math.ceil(d / 2)) }, ...shape.map(() => indices([]))],
      ours: (x, update, ...starts) => a.dynamicUpdateSlice(x!, update!, starts),
      theirs: "lambda a, u, *s: lax.dynamic_update_slice(a, u, s, allow_negative_indices=False)",
    }),
    first,
  ),
];

export const operations = { elementwise, shaping, reduced, contraction, indexing } as const;
