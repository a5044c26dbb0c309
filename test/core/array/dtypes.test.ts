import type { Tensor } from "aronnax";
import * as a from "aronnax";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decode, encode } from "../../../core/src/array/hostdata.js";
import {
  type DType,
  dtypes,
  isComplex,
  isDType,
  isFloat,
  promoteTypes,
} from "../../../core/src/graph/dtype.js";
import { hostArray, randomArray, seeds, shapes } from "../../oracle/arrays.js";
import { askOne } from "../../oracle/oracle.js";
import { checkProperties } from "../../oracle/properties.js";

const real = dtypes.filter((dtype) => !isComplex(dtype));
const wide = (...list: readonly DType[]): boolean => list.some((d) => d.endsWith("64") && d !== "complex64");

describe("the type of numbers written down", () => {
  const ids = Int32Array.of(1, 2);
  it.each<[string, () => Tensor, DType]>([
    ["whole numbers", () => a.tensor([1.0, 2.0]), "float32"],
    ["fractions", () => a.tensor([1.5, 2]), "float32"],
    ["one number", () => a.tensor(3), "float32"],
    ["numbers in rows", () => a.tensor([[1], [2]]), "float32"],
    ["numbers and booleans", () => a.tensor([1, true]), "float32"],
    ["booleans", () => a.tensor([true, false]), "bool"],
    ["one boolean", () => a.tensor(true), "bool"],
    ["nothing", () => a.tensor([]), "float32"],
    ["integers of a typed array", () => a.tensor(ids), "int32"],
    ["a dtype", () => a.tensor([1, 2], { dtype: "uint8" }), "uint8"],
    ["full", () => a.full([2], 1), "float32"],
    ["full of booleans", () => a.full([2], true), "bool"],
    ["full of a dtype", () => a.full([2], 1, { dtype: "int32" }), "int32"],
    ["numbers alone", () => a.add(1, 2), "float32"],
    ["a choice of numbers", () => a.where(a.tensor([true]), 1, 0), "float32"],
    ["a choice of booleans", () => a.where(a.tensor([true]), true, false), "bool"],
    ["a number and a boolean", () => a.maximum(true, 2), "float32"],
    ["integers and a whole number", () => a.tensor(ids).add(1), "int32"],
    ["integers and whole numbers", () => a.tensor(ids).add([1, 2]), "int32"],
    ["integers and a fraction", () => a.tensor(ids).add(0.5), "float32"],
    ["integers and fractions", () => a.tensor(ids).add([0.5, 2]), "float32"],
    ["bools and a number", () => a.tensor([true]).add(1), "int32"],
    ["bfloat16 and numbers", () => a.ones([2], { dtype: "bfloat16" }).mul([1, 2.5]), "bfloat16"],
    ["integers and a typed array", () => a.tensor(ids).add(Float32Array.of(1, 2) as never), "float32"],
  ])("%s", (_, make, dtype) => expect(make().dtype).toBe(dtype));

  it("does not follow the data", async () => {
    expect(await a.tensor([100000.0, 100000.0]).square().sum().item()).toBe(2e10);
  });

  it("counts indices written down as integers, and refuses others", async () => {
    const x = a.tensor([10, 20, 30]);
    expect(await x.take([2, 0]).array()).toEqual([30, 10]);
    expect(await x.take(-1).item()).toBe(30);
    const floats = a.tensor([2, 0]);
    for (const use of [
      () => x.take(floats),
      () => x.take([0.5]),
      () => x.takeAlongAxis(floats, 0),
      () => a.at(x, floats).get(),
      () => a.scatterAlongAxis(x, floats, floats),
      () => a.dynamicSlice(x, [a.tensor(1)], [1]),
      () => a.bincount(floats, 3),
      () => a.oneHot(floats, 3),
      () => a.switchCase(a.tensor(1), [(y: Tensor) => y, (y: Tensor) => y.neg()], x),
      () => a.random.foldIn(0, a.tensor(1)),
      () => a.nn.crossEntropy(a.zeros([2, 3]), floats),
    ]) {
      expect(use).toThrow(expect.objectContaining({ fix: expect.stringContaining('{ dtype: "int32" }') }));
    }
  });
});

describe("type promotion", () => {
  it("is jax.numpy's for every pair of types", async () => {
    const comparable = (x: DType, y: DType): boolean =>
      x === y ||
      ![x, y].some((d) => d.startsWith("float8") || (d === "float64" && isComplex(x === d ? y : x)));
    const pairs = dtypes.flatMap((x) => dtypes.flatMap((y) => (comparable(x, y) ? [[x, y] as const] : [])));
    const list = pairs.map(([x, y]) => `("${x}", "${y}")`).join(", ");
    const code = `np.frombuffer("|".join(str(jnp.promote_types(x, y)) for x, y in [${list}]).encode(), np.uint8)`;
    const [answer] = await askOne(code, {}, { jit: false, x64: true });
    const theirs = new TextDecoder().decode(answer!.data).split("|");
    const table = (types: readonly string[]): Record<string, string | undefined> =>
      Object.fromEntries(pairs.map(([x, y], i) => [`${x} with ${y}`, types[i]]));
    // uint64 and a signed type meet in the default float, which is float32 here and float64 in jax with 64-bit types.
    const expected = theirs.map((type, i) =>
      type === "float64" && !pairs[i]!.some((d) => d === "float64") ? "float32" : type,
    );
    expect(table(pairs.map(([x, y]) => promoteTypes(x, y)))).toEqual(table(expected));
  });

  it("has no implicit path between float8 types and wider floats", () => {
    for (const other of dtypes.filter((d) => isFloat(d) && d !== "float8_e4m3fn")) {
      expect(() => promoteTypes("float8_e4m3fn", other)).toThrow(
        `float8_e4m3fn and ${other} have no common type`,
      );
    }
  });

  const scalars: readonly (number | boolean)[] = [2, 2.5, true];
  it.each(scalars)("treats the scalar %s as weak", async (value) => {
    const python = typeof value === "boolean" ? "True" : String(value);
    const types = dtypes.filter((d) => !wide(d));
    const theirs = await Promise.all(
      types.map((d) =>
        askOne(
          `jnp.add(jnp.zeros((), "${d}"), ${python}), jnp.where(True, jnp.zeros((), "${d}"), ${python})`,
        ),
      ),
    );
    const ours = types.map((d) => [
      a.add(a.zeros([], { dtype: d }), value).dtype,
      a.where(true, a.zeros([], { dtype: d }), value).dtype,
    ]);
    expect(Object.fromEntries(types.map((d, i) => [d, ours[i]]))).toEqual(
      Object.fromEntries(types.map((d, i) => [d, theirs[i]!.map((v) => v.dtype)])),
    );
  });
});

checkProperties("conversion", [
  {
    name: "astype between all real types",
    runs: 120,
    trials: fc
      .tuple(fc.constantFrom(...real), fc.constantFrom(...real), shapes(2), seeds)
      .map(([from, to, shape, seed]) => ({
        inputs: { x: randomArray(from, shape, seed, isFloat(from) && !isFloat(to) ? "moderate" : "special") },
        ours: ({ x }) => x!.astype(to),
        theirs: `x.astype("${to}")`,
        x64: true,
        exact: true,
      })),
  },
  {
    name: "astype to float8 with saturation",
    runs: 6,
    trials: fc
      .tuple(
        fc.constantFrom<DType>("float32", "bfloat16"),
        fc.constantFrom<DType>("float8_e4m3fn", "float8_e5m2"),
      )
      .map(([from, to]) => ({
        inputs: {
          x: hostArray([0, 1, -1, 300, 448, 460, 500, 1e6, -1e6, 57344, 60000, 1 / 0, -1 / 0], from),
        },
        ours: ({ x }) => x!.astype(to, { saturate: true }),
        theirs: `jnp.clip(x, float(jnp.finfo("${to}").min), float(jnp.finfo("${to}").max)).astype("${to}")`,
        exact: true,
      })),
  },
]);

const halves = ["bfloat16", "float16"] as const;
/** One unit in the last place, which a sum in another order may move. */
const ulp = { bfloat16: 2 ** -7, float16: 2 ** -10 };

checkProperties(
  "reductions of 16-bit floats",
  (
    [
      ["sum", (x, axis) => x.sum(axis), "jnp.sum(x, axis)"],
      ["mean", (x, axis) => x.mean(axis), "jnp.mean(x, axis)"],
      ["variance", (x, axis) => x.variance(axis), "jnp.var(x, axis)"],
      ["std", (x, axis) => x.std(axis, { correction: 1 }), "jnp.std(x, axis, ddof=1)"],
      ["prod", (x, axis) => x.div(4).add(1).prod(axis), "jnp.prod(x / 4 + 1, axis)"],
      ["logsumexp", (x, axis) => x.logsumexp(axis), "nn.logsumexp(x, axis)"],
      ["norm", (x, axis) => a.norm(x, axis), "jnp.linalg.norm(x, axis=axis)"],
      [
        "gradient of sum",
        (x, axis) => a.grad((y: a.Tensor) => y.sum(axis).square().sum())(x),
        "jax.grad(lambda x: jnp.sum(jnp.sum(x, axis) ** 2))(x)",
      ],
      [
        "gradient of mean",
        (x, axis) => a.grad((y: a.Tensor) => y.mean(axis).square().sum())(x),
        "jax.grad(lambda x: jnp.sum(jnp.mean(x, axis) ** 2))(x)",
      ],
    ] as [string, (x: a.Tensor, axis: number) => a.Tensor, string][]
  ).map(([name, ours, theirs]) => ({
    name,
    runs: 6,
    trials: fc
      .tuple(fc.constantFrom(...halves), fc.constantFrom(0, 1), fc.integer({ min: 1, max: 700 }), seeds)
      .map(([dtype, axis, length, seed]) => ({
        inputs: { x: randomArray(dtype, axis === 0 ? [length, 2] : [2, length], seed, "positive") },
        ours: ({ x }: Readonly<Record<string, a.Tensor>>) => ours(x!, axis),
        theirs: `(lambda axis: ${theirs})(${axis})`,
        tolerance: ulp[dtype],
      })),
  })),
);

it("adds ones in bfloat16 beyond 256", async () => {
  expect(await a.ones([4096], { dtype: "bfloat16" }).sum().item()).toBe(4096);
  expect(await a.full([4096], 60, { dtype: "float16" }).mean().item()).toBe(60);
});

describe("host data", () => {
  it.each(dtypes.filter((d) => !isComplex(d)))("is encoded as %s like ml_dtypes does", async (dtype) => {
    const values = isFloat(dtype)
      ? [
          0,
          -0,
          1,
          -1.5,
          0.1,
          1e-3,
          3e-8,
          1e-40,
          447,
          449,
          464,
          465,
          500,
          65519,
          65520,
          1e6,
          -1e39,
          1 / 0,
          -1 / 0,
          0 / 0,
          2 ** -9,
          2 ** -10,
          1.0625,
          1.1875,
        ]
      : [0, 1, 2, 3, 100];
    const [theirs] = await askOne(
      `np.asarray(x).astype(jnp.dtype("${dtype}"))`,
      { x: { dtype: "float64", shape: [values.length], data: encode(values, "float64") } },
      { x64: true, jit: false },
    );
    const bytes =
      isFloat(dtype) || dtype === "bool" ? values : values.map((v) => (wide(dtype) ? BigInt(v) : v));
    const mine = encode(bytes as number[], dtype);
    expect([...decode(mine, dtype)]).toEqual([...decode(theirs!.data, dtype)]);
  });

  it("knows its names", () => {
    expect(isDType("bfloat16")).toBe(true);
    expect(isDType("float")).toBe(false);
  });
});
