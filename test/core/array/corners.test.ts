/** Values at the edges of their types and shapes, which random ones seldom meet: each was once another than jax's. */
import type { Tensor } from "aronnax";
import * as a from "aronnax";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type HostArray, hostArray, randomArray } from "../../oracle/arrays.js";
import { checkProperties, type Property } from "../../oracle/properties.js";

const row = (
  name: string,
  arrays: readonly HostArray[],
  ours: (...x: Tensor[]) => Tensor | readonly Tensor[],
  theirs: string,
): Property => ({
  name,
  runs: 1,
  trials: fc.constant({
    inputs: Object.fromEntries(arrays.map((x, i) => ["xyz"[i], x])),
    ours: ({ x, y, z }) => ours(...([x, y, z].slice(0, arrays.length) as Tensor[])),
    theirs: `(${theirs})(${[..."xyz"].slice(0, arrays.length).join(", ")})`,
    tolerance: 1e-5,
  }),
});

const inf = Number.POSITIVE_INFINITY;
const nan = Number.NaN;
const floats = [0, -0, 1, -1, 0.1, -0.3, 2.5, 7, -7, inf, -inf, nan];
const pairs = (list: readonly number[], dtype: HostArray["dtype"]): HostArray[] => [
  hostArray(
    list.flatMap((x) => list.map(() => x)),
    dtype,
  ),
  hostArray(
    list.flatMap(() => list),
    dtype,
  ),
];
const integers = [0, 1, -1, 7, -7, 3, 127, -128];
const gradient =
  (f: (x: Tensor) => Tensor) =>
  (x: Tensor): Tensor =>
    a.grad((y: Tensor) => f(y).sum())(x);
const float32 = (values: readonly number[], shape?: readonly number[]): HostArray =>
  hostArray(values, "float32", shape);
const zeros = float32([1, 1, 0, 0, 0, 3, 2, 5, 0], [3, 3]);
const complexes = randomArray("complex64", [2, 3], 1);
const broken = hostArray([1, nan, nan, 1, inf, 1, 2, 3], "complex64", [4]);

checkProperties("corners", [
  row("floorDiv of floats", pairs(floats, "float32"), a.floorDiv, "jnp.floor_divide"),
  row("mod of integers", pairs(integers, "int32"), a.mod, "jnp.mod"),
  row("mod of bytes", pairs(integers, "int8"), a.mod, "jnp.mod"),
  row("rem of integers", pairs(integers, "int32"), a.rem, "jnp.fmod"),
  row("hypot", pairs(floats, "float32"), a.hypot, "jnp.hypot"),
  row("hypot of integers", pairs(integers, "int8"), a.hypot, "jnp.hypot"),
  ...(
    [
      ["floor", a.floor],
      ["ceil", a.ceil],
      ["round", a.round],
      ["truncate", a.truncate],
    ] as const
  ).map(([name, rounded]) =>
    row(
      `${name} of integers`,
      [hostArray([2147483647, -5], "int32")],
      (x) => rounded(x),
      `jnp.${name.slice(0, 5)}`,
    ),
  ),
  row(
    "gelu of bytes",
    [hostArray([0, 1, 200], "uint8")],
    (x) => a.gelu(x),
    "lambda x: nn.gelu(x, approximate=False)",
  ),
  row("softplus of bytes", [hostArray([0, 1, 200], "uint8")], a.softplus, "nn.softplus"),
  row(
    "gradient of a negative power at 0",
    [float32([0, 2])],
    gradient((x) => a.pow(x, -2)),
    "jax.grad(lambda x: jnp.sum(x ** -2))",
  ),
  row(
    "gradient of cbrt at 0",
    [float32([0, -8])],
    gradient(a.cbrt),
    "jax.grad(lambda x: jnp.sum(jnp.cbrt(x)))",
  ),
  row(
    "gradient of leakyRelu at 0",
    [float32([0, -8])],
    gradient((x) => a.leakyRelu(x)),
    "jax.grad(lambda x: jnp.sum(nn.leaky_relu(x)))",
  ),
  row(
    "isfinite and isinf of complex numbers",
    [broken],
    (z) => [a.isfinite(z), a.isinf(z)],
    "lambda z: (jnp.isfinite(z), jnp.isinf(z))",
  ),
  row(
    "variance, std and norm of complex numbers",
    [complexes],
    (z) => [a.variance(z, 1), a.std(z), a.norm(z)],
    "lambda z: (jnp.var(z, 1), jnp.std(z), jnp.linalg.norm(z))",
  ),
  row("norm of integers", [hostArray([100000, 100000], "int32")], (x) => a.norm(x), "jnp.linalg.norm"),
  ...[1, 2].map((order) =>
    row(
      `derivative ${order + 1} of a product with zeros`,
      [zeros],
      (x) => {
        let f = gradient((y) => a.prod(y, 1));
        for (let i = 0; i < order; i++) {
          const inner = f;
          f = gradient((y) => inner(y).sin());
        }
        return f(x);
      },
      `(lambda d: ${order === 1 ? "d(lambda y: jnp.sin(f(y)))" : "d(lambda y: jnp.sin(d(lambda z: jnp.sin(f(z)))(y)))"})(lambda g: jax.grad(lambda y: jnp.sum(g(y))))`.replaceAll(
        "f(",
        "jax.grad(lambda q: jnp.sum(jnp.prod(q, 1)))(",
      ),
    ),
  ),
  row(
    "gradient of a product over two axes",
    [zeros],
    gradient((x) => a.prod(x, [0, 1])),
    "jax.grad(lambda x: jnp.prod(x))",
  ),
  row(
    "median and quantile with NaN",
    [float32([1, nan, 3, 1, 2, 4], [2, 3])],
    (x) => [a.median(x, 1), a.quantile(x, 0.3, 1)],
    "lambda x: (jnp.median(x, 1), jnp.quantile(x, 0.3, 1))",
  ),
  ...(["left", "right"] as const).map((side) =>
    row(
      `searchSorted with NaN, ${side}`,
      [float32([1, 2, 2, 3, nan]), float32([2, nan, 0, 9, inf, 3])],
      (edges, x) => a.searchSorted(edges, x, { side }),
      `lambda e, x: jnp.searchsorted(e, x, side="${side}")`,
    ),
  ),
  row(
    "searchSorted among nothing",
    [float32([]), float32([2])],
    (e, x) => a.searchSorted(e, x),
    "jnp.searchsorted",
  ),
  row("cumprod of bools", [randomArray("bool", [6], 3)], (x) => a.cumprod(x), "jnp.cumprod"),
  row(
    "diagonal and trace of bools",
    [randomArray("bool", [4, 4], 3)],
    (x) => [a.diagonal(x), a.trace(x)],
    "lambda x: (jnp.diagonal(x), jnp.trace(x))",
  ),
  row(
    "logsumexp of nothing",
    [float32([], [0, 3])],
    (x) => [a.logsumexp(x, 0), a.softmax(x, 0)],
    "lambda x: (nn.logsumexp(x, 0), nn.softmax(x, 0))",
  ),
  row(
    "take of nothing",
    [float32([], [0, 3]), hostArray([], "int32")],
    (x, i) => [a.take(x, i), a.at(x, i).get()],
    "lambda x, i: (jnp.take(x, i, axis=0), x[i])",
  ),
  row(
    "indices of a narrow type",
    [randomArray("float32", [300], 1), hostArray([-1, 100, 127], "int8"), hostArray([255, 1, 1], "uint8")],
    (x, i, j) => [
      a.take(x, i),
      a.takeAlongAxis(x, i),
      a.at(x, i).get(),
      a.at(x, j).add(1),
      a.dynamicSlice(x, [j.slice(0)], [20]),
    ],
    'lambda x, i, j: (x[i.astype("int32")], jnp.take_along_axis(x, i, 0), x[i.astype("int32")], x.at[j.astype("int32")].add(1), lax.dynamic_slice(x, (255,), (20,)))',
  ),
  row(
    "start indices of two types",
    [randomArray("float32", [4, 5], 1), hostArray([1], "int64"), hostArray([2], "uint8")],
    (x, i, j) => a.dynamicSlice(x, [i.slice(0), j.slice(0)], [2, 2]),
    "lambda x, i, j: x[1:3, 2:4]",
  ),
  ...(
    [
      ["softplus", (x) => a.softplus(x), "nn.softplus"],
      ["logSigmoid", (x) => a.logSigmoid(x), "nn.log_sigmoid"],
      ["logaddexp", (x) => a.logaddexp(x, 0), "lambda x: jnp.logaddexp(x, 0.0)"],
      ["logcumsumexp", (x) => a.logcumsumexp(x), "lax.cumlogsumexp"],
      ["hypot", (x) => a.hypot(x.add(3), 3), "lambda x: jnp.hypot(x + 3, 3.0)"],
    ] as readonly [string, (x: Tensor) => Tensor, string][]
  ).map(([name, ours, theirs]) =>
    row(
      `second derivative of ${name} where its pieces meet`,
      [float32([0, 0, 2, -100])],
      gradient((x) => gradient(ours)(x).sin()),
      `lambda x: jax.grad(lambda y: jnp.sum(jnp.sin(jax.grad(lambda z: jnp.sum((${theirs})(z)))(y))))(x)`,
    ),
  ),
  row(
    "gradient of logcumsumexp from -infinity",
    [float32([-inf, 1, 2])],
    gradient((x) => a.logcumsumexp(x)),
    "jax.grad(lambda x: jnp.sum(lax.cumlogsumexp(x)))",
  ),
  row(
    "gradient of logaddexp at infinities",
    [float32([inf, -inf, 3]), float32([inf, 2, -inf])],
    (x, y) => [gradient((z) => a.logaddexp(z, y))(x), gradient((z) => a.logaddexp(x, z))(y)],
    "jax.grad(lambda x, y: jnp.sum(jnp.logaddexp(x, y)), (0, 1))",
  ),
  row(
    "arange to a fraction",
    [],
    () => [a.arange(2.5), a.arange(0, 3, 1)],
    "lambda: (jnp.arange(2.5), jnp.arange(0, 3, 1))",
  ),
  row(
    "a rounded number, widened",
    [],
    () => [a.scalar(0.1, "bfloat16").astype("float32"), a.scalar(1e10, "float16").astype("float32")],
    'lambda: (jnp.bfloat16(0.1).astype("float32"), jnp.float32(jnp.inf))',
  ),
  row(
    "negative places to write",
    [randomArray("float32", [2, 4], 1), hostArray([-1, 0], "int32", [2, 1])],
    (x, i) => a.scatterAlongAxis(x, i, a.zeros([2, 1])),
    "lambda x, i: jnp.put_along_axis(x, i, 0.0, axis=1, inplace=False)",
  ),
  row(
    "bincount with negatives",
    [hostArray([-1, 0, 2, 2, 9], "int32")],
    (x) => a.bincount(x, 3),
    "lambda x: jnp.bincount(x[1:], length=10)[:3]",
  ),
]);

const big = (...values: bigint[]): HostArray => hostArray(values as never, "int64");
const x3 = float32([10, 20, 30]);
checkProperties("indices outside", [
  ...(["add", "set"] as const).flatMap((kind) => [
    row(
      `gradient of at().${kind} by what is written`,
      [float32([1, 2, 3, 4]), hostArray([3, 2, -1, 7], "int32")],
      (v, i) =>
        a.grad((w: Tensor) =>
          a
            .at(a.ones([3]), i)
            [kind](w)
            .mul([2, 3, 4])
            .sum(),
        )(v),
      `lambda v, i: jax.grad(lambda w: jnp.sum(jnp.ones(3).at[i].${kind}(w) * jnp.array([2.0, 3.0, 4.0])))(v)`,
    ),
    row(
      `gradient of at().${kind} of rows and columns`,
      [
        randomArray("float32", [4, 2], 3),
        hostArray([0, 5, 1, -9], "int32"),
        hostArray([1, 1, 4, 0], "int32"),
      ],
      (v, i, j) =>
        a.grad((w: Tensor) =>
          a
            .at(a.zeros([3, 4, 2]), i, j)
            [kind](w)
            .sin()
            .sum(),
        )(v),
      `lambda v, i, j: jax.grad(lambda w: jnp.sum(jnp.sin(jnp.zeros((3, 4, 2)).at[i, j].${kind}(w))))(v)`,
    ),
  ]),
  row(
    "gradient of scatterAlongAxis",
    [randomArray("float32", [3, 2], 4), hostArray([3, 2, 0, 1, 1, -7], "int32", [3, 2])],
    (v, i) =>
      a.grad((w: Tensor) =>
        a
          .scatterAlongAxis(a.ones([3, 2]), i, w, { axis: 0, kind: "add" })
          .sin()
          .sum(),
      )(v),
    "lambda v, i: jax.grad(lambda w: jnp.sum(jnp.sin(jnp.ones((3, 2)).at[i, jnp.arange(2)[None]].add(w))))(v)",
  ),
  row(
    "gradient of a scatter of windows",
    [randomArray("float32", [3, 2], 5), hostArray([0, 2, -1], "int32", [3, 1])],
    (v, i) =>
      a.grad((w: Tensor) =>
        a
          .scatter(a.ones([3]), i, w, {
            kind: "add",
            updateWindowDims: [1],
            insertedWindowDims: [],
            inputBatchingDims: [],
            scatterIndicesBatchingDims: [],
            scatterDimsToOperandDims: [0],
          })
          .sin()
          .sum(),
      )(v),
    "lambda v, i: jax.grad(lambda w: jnp.sum(jnp.sin(lax.scatter_add(jnp.ones(3), i, w, lax.ScatterDimensionNumbers((1,), (), (0,))))))(v)",
  ),
  ...[
    ["int64", big(4294967296n, -4294967297n, 1n), [30, 10, 20]],
    ["uint32", hostArray([4294967295, 2147483648, 1], "uint32"), [30, 30, 20]],
    ["uint64", hostArray([2n ** 63n, 1n, 2n ** 32n] as never, "uint64"), [30, 20, 30]],
  ].map(([name, i, expected]) =>
    row(
      `reading at ${name as string}`,
      [x3, i as HostArray],
      (x, at) => [a.at(x, at).get(), a.take(x, at), a.takeAlongAxis(x, at)],
      `lambda x, i: [jnp.array(${JSON.stringify(expected)}, "float32")] * 3`,
    ),
  ),
  row(
    "writing at int64",
    [x3, big(4294967296n, 1n, -1n)],
    (x, i) => [a.at(x, i).add(1), a.scatterAlongAxis(x, i, a.ones([3]), { kind: "add" })],
    'lambda x, i: [jnp.array([10, 21, 31], "float32")] * 2',
  ),
  row(
    "bincount of wide and narrow integers",
    [big(4294967297n, 1n, -5n), hostArray([255, 1], "uint8"), hostArray([127, -128], "int8")],
    (x, y, z) => [a.bincount(x, 3), a.bincount(y, 300).slice([254, 257]), a.bincount(z, 200).sum()],
    "lambda x, y, z: (jnp.array([0, 1, 0]), jnp.array([0, 1, 0]), jnp.int32(1))",
  ),
  row(
    "oneHot of narrow and wide integers",
    [hostArray([1, 255], "uint8"), hostArray([-100, 100], "int8"), big(4294967297n, 1n)],
    (x, y, z) => [a.oneHot(x, 300).sum(0), a.oneHot(y, 200).sum(0), a.oneHot(z, 3)],
    "lambda x, y, z: (jnp.zeros(300).at[jnp.array([1, 255])].set(1), jnp.zeros(200).at[100].set(1), jnp.array([[0.0, 0, 0], [0, 1, 0]]))",
  ),
  row(
    "dynamicSlice at wide integers, also under vmap",
    [x3, big(4294967296n, -4294967295n)],
    (x, i) => a.vmap((at: Tensor) => a.dynamicSlice(x, [at], [2]), { in: 0 })(i),
    'lambda x, i: jnp.array([[20, 30], [10, 20]], "float32")',
  ),
]);

checkProperties("numpy's order of indexed axes", [
  ...(
    [
      ["x[0, :, i]", (x, i) => a.at(x, 0, null, i).get()],
      ["x[:, 0, i]", (x, i) => a.at(x, null, 0, i).get()],
      ["x[i, 0]", (x, i) => a.at(x, i, 0).get()],
      ["x[-1, i]", (x, i) => a.at(x, -1, i).get()],
      ["x[i, :, -1]", (x, i) => a.at(x, i, null, -1).get()],
      ["x[1:, 0, i]", (x, i) => a.at(x, [1, null], 0, i).get()],
      ["x[0, ::-1, i]", (x, i) => a.at(x, 0, [null, null, -1], i).get()],
      ["x.at[0, :, i].add(2.0)", (x, i) => a.at(x, 0, null, i).add(2)],
      [
        "x.at[0, :, i].set(jnp.arange(3.0))",
        (x, i) => a.at(x, 0, null, i).set(a.arange(3).astype("float32")),
      ],
    ] satisfies [string, (x: Tensor, i: Tensor) => Tensor][]
  ).map(([python, ours]) =>
    row(
      python,
      [randomArray("float32", [2, 3, 4], 6), hostArray([0, 1, 1, 0], "int32")],
      ours,
      `lambda x, i: ${python}`,
    ),
  ),
]);

checkProperties("more corners", [
  row(
    "median and quantile beside infinities",
    [float32([1, inf, inf]), float32([-inf, 1, inf, inf]), float32([-inf, -inf, 3])],
    (x, y, z) => [a.median(x), a.median(z), a.quantile(y, 1 / 3), a.quantile(y, 0.5), a.quantile(x, 0.25)],
    "lambda x, y, z: [jnp.float32(v) for v in (jnp.inf, -jnp.inf, 1, jnp.inf, jnp.inf)]",
  ),
  ...[-5, -3, -2, 2, 3, 7].map((offset) =>
    row(
      `diagonal and trace at ${offset}`,
      [randomArray("float32", [2, 3], 8), randomArray("int32", [2, 3, 2], 8)],
      (x, y) => [
        a.diagonal(x, { offset }),
        a.trace(x, offset),
        a.diagonal(y, { offset }),
        a.diagonal(a.greater(x, 0), { offset }),
      ],
      `lambda x, y: (jnp.diagonal(x, ${offset}), jnp.trace(x, ${offset}), jnp.diagonal(y, ${offset}), jnp.diagonal(x > 0, ${offset}))`,
    ),
  ),
  row(
    "floorDiv by 0, as NumPy's",
    [hostArray([-7, 7, 0, -7, 7], "int32"), hostArray([0, 0, 0, 2, -2], "int32"), hostArray([7, 0], "uint8")],
    (x, y, z) => [
      a.floorDiv(x, y),
      a.floorDiv(x, 0),
      a.floorDiv(z, 0),
      a.floorDiv(x, y).mul(y).add(a.mod(x, y)),
    ],
    'lambda x, y, z: (jnp.array([0, 0, 0, -4, -4]), jnp.zeros(5, "int32"), jnp.zeros(2, "uint8"), jnp.array([0, 0, 0, -7, 7]))',
  ),
]);

describe("numbers that a type does not have", () => {
  it("are refused in nested arrays, with the type's range", () => {
    expect(() => a.tensor([1, 3e9], { dtype: "int32" })).toThrow(
      "3000000000 is outside int32, -2147483648 to 2147483647",
    );
    expect(() => a.tensor([300], { dtype: "uint8" })).toThrow("300 is outside uint8, 0 to 255");
    expect(() => a.tensor([nan], { dtype: "int32" })).toThrow("NaN is outside int32");
    expect(() => a.tensor([[1n]] as never)).toThrow("an array element is 1n");
    expect(() => a.tensor([a.ones([2])] as never)).toThrow("an array element is the Tensor float32[2]");
    expect(() => a.tensor(new Uint8ClampedArray(2) as never)).toThrow("an array of Uint8ClampedArray");
  });
  it("lose their fraction in wide integers as in narrow ones", async () => {
    expect(await a.tensor([1.5, -2.5], { dtype: "int64" }).array()).toEqual([1, -2]);
    expect(await a.tensor(Float64Array.of(1.5, nan), { dtype: "uint64" }).array()).toEqual([1, 0]);
  });
  it("are real parts of complex numbers", async () => {
    expect(await a.tensor([1, 2.5], { dtype: "complex64" }).array()).toEqual([
      [1, 0],
      [2.5, 0],
    ]);
  });
});

it("an integer to a negative power is refused", () => {
  expect(() => a.tensor([2, 3], { dtype: "int32" }).pow(-1)).toThrow("pow: int32 to the power -1");
});
it("indices into nothing are refused", () => {
  expect(() => a.take(a.zeros([0, 3]), [0])).toThrow("axis 0 of [0, 3], which has no elements");
});
