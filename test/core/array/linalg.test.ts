import * as a from "aronnax";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { placeholder } from "../../../core/src/array/bind.js";
import { close } from "../../../core/src/array/program.js";
import { lower } from "../../../core/src/graph/lowering.js";
import { randomArray } from "../../oracle/arrays.js";
import { linear } from "../../oracle/linear.js";
import { derivative, forward, secondDerivatives, vectorised } from "../../oracle/operations.js";
import { askOne, verifyModules } from "../../oracle/oracle.js";
import { checkProperties, type Property } from "../../oracle/properties.js";

checkProperties("linear algebra", linear.map(forward));
checkProperties(
  "derivatives of linear algebra",
  linear.map((o) => derivative({ ...o, runs: 2 })),
);
checkProperties("second derivatives of linear algebra", secondDerivatives(linear));
checkProperties(
  "linear algebra, vectorised",
  linear.map((o) => vectorised({ ...o, runs: 1 })),
);

const { linalg } = a;

const inDouble = (name: string, ours: (x: a.Tensor) => readonly a.Tensor[], theirs: string): Property => ({
  name,
  runs: 1,
  trials: fc.constant({
    inputs: { x: randomArray("float64", [2, 6, 6], 5) },
    ours: ({ x }) => ours(x!),
    theirs,
    x64: true,
    tolerance: 1e-11,
  }),
});

checkProperties("linear algebra in float64", [
  inDouble("solve", (x) => [linalg.solve(x, x.sin())], "(jnp.linalg.solve(x, jnp.sin(x)),)"),
  inDouble("eigvalsh", (x) => [linalg.eigvalsh(x)], "(jnp.linalg.eigvalsh(x),)"),
  inDouble(
    "svdvals and slogdet",
    (x) => [linalg.svdvals(x), ...linalg.slogdet(x)],
    "(jnp.linalg.svd(x, compute_uv=False), *jnp.linalg.slogdet(x))",
  ),
]);

/** The largest absolute element. */
const largest = async (x: a.Tensor): Promise<number> => a.max(a.abs(x)).item();

describe("what is not regular", () => {
  it("cholesky of what is not positive definite is NaN", async () => {
    const x = a
      .tensor([
        [
          [1, 2],
          [2, 1],
        ],
        [
          [4, 0],
          [0, 9],
        ],
      ])
      .astype("float32");
    expect(await linalg.cholesky(x).array()).toEqual([
      [
        [Number.NaN, Number.NaN],
        [Number.NaN, Number.NaN],
      ],
      [
        [2, 0],
        [0, 3],
      ],
    ]);
  });
  it("the determinant of a singular matrix is 0", async () => {
    const x = a
      .tensor([
        [1, 2],
        [2, 4],
      ])
      .astype("float32");
    expect(Math.abs(await linalg.det(x).item())).toBeLessThan(1e-6);
    expect(await linalg.det(a.zeros([3, 3])).item()).toBe(0);
  });
  for (const [name, x] of [
    ["zeros", () => a.zeros([5, 3])],
    ["rank 1", () => a.ones([3, 5])],
    ["equal singular values", () => a.eye(4).mul(3)],
    ["sizes far apart", () => a.eye(4).mul(a.tensor([1e6, 1, 1e-3, 0]))],
  ] as const) {
    it(`svd of ${name}: orthonormal factors that give it back`, async () => {
      const matrix = x();
      const [u, s, vt] = linalg.svd(matrix);
      const k = s.shape[0]!;
      expect(await largest(u.transpose().matmul(u).sub(a.eye(k)))).toBeLessThan(1e-5);
      expect(await largest(vt.matmul(vt.transpose()).sub(a.eye(k)))).toBeLessThan(1e-5);
      const scale = Math.max(1, await largest(matrix));
      expect(await largest(u.mul(s).matmul(vt).sub(matrix))).toBeLessThan(2e-5 * scale);
    });
  }
  it("matrices without elements", async () => {
    expect(linalg.qr(a.zeros([0, 3])).map((x) => x.shape)).toEqual([
      [0, 0],
      [0, 3],
    ]);
    expect(linalg.svd(a.zeros([2, 3, 0])).map((x) => x.shape)).toEqual([
      [2, 3, 0],
      [2, 0],
      [2, 0, 0],
    ]);
    expect(await linalg.det(a.zeros([0, 0])).item()).toBe(1);
  });
});

it("larger matrices", async () => {
  const x = a.random.normal(a.random.key(3), [96, 64]);
  const [q, r] = linalg.qr(x);
  expect(await largest(q.matmul(r).sub(x))).toBeLessThan(1e-4);
  const [u, s, vt] = linalg.svd(x);
  expect(await largest(u.mul(s).matmul(vt).sub(x))).toBeLessThan(1e-4);
  const symmetric = x.transpose().matmul(x);
  const [w, v] = linalg.eigh(symmetric);
  expect(await largest(v.mul(w).matmul(v.transpose()).sub(symmetric))).toBeLessThan(1e-2);
});

/** The calls of solvers in a module: what is called, with which settings and layouts, on which types. */
function solverCalls(text: string): string[] {
  const pattern =
    /custom_call @((?:cusolver|lapack)_\w+)\(.*?[ .]backend_config = \{(.*?)\}.*?operand_layouts = (.*?), output_operand_aliases = (.*?), result_layouts = (.*?tensor<\d+xindex>)\].*? : (\(tensor.*)$/gm;
  return [...text.matchAll(pattern)].map((match) => match.slice(1).join(" | "));
}

const tall = { shape: [5, 3], dtype: "float32" } as const;
const batched = { shape: [2, 3, 3], dtype: "float64" } as const;
const decompositions = [
  ["qr", tall, linalg.qr, "lambda x: lax.linalg.qr(x, full_matrices=False)"],
  ["eigh", batched, linalg.eigh, "lax.linalg.eigh"],
  ["svd", tall, linalg.svd, "lambda x: lax.linalg.svd(x, full_matrices=False, algorithm=algorithm)"],
  ["cholesky", batched, (x: a.Tensor) => [linalg.cholesky(x)], "lax.linalg.cholesky"],
  [
    "triangularSolve",
    batched,
    (x: a.Tensor) => [linalg.triangularSolve(x, x, { lower: false, transpose: true, unitDiagonal: true })],
    "lambda x: lax.linalg.triangular_solve(x, x, left_side=True, lower=False, transpose_a=True, unit_diagonal=True)",
  ],
] as const;

for (const [platform, algorithm] of [
  ["cpu", "DEFAULT"],
  ["cuda", "QR"],
] as const) {
  const own = platform === "cuda" ? ["cholesky", "triangularSolve"] : [];
  it.each(decompositions.filter(([name]) => !own.includes(name)))(
    `%s calls the solver of ${platform} as jax does`,
    async (_, aval, ours, theirs) => {
      const x = placeholder(aval);
      const { key } = lower(close([...ours(x)], [x]), { platform });
      expect(await verifyModules([key])).toEqual([null]);
      const code = `(lambda f, x: jnp.asarray(np.frombuffer(jax.jit(f).trace(x).lower(lowering_platforms=("${platform}",)).as_text().encode(), np.uint8)))((lambda algorithm: ${theirs})(lax.linalg.SvdAlgorithm.${algorithm}), jax.ShapeDtypeStruct((${aval.shape}), jnp.${aval.dtype}))`;
      const [text] = await askOne(code, {}, { jit: false, x64: true });
      const calls = solverCalls(key);
      expect(calls.length).toBeGreaterThan(0);
      expect(calls).toEqual(solverCalls(new TextDecoder().decode(text!.data)));
    },
  );
}

describe("linear algebra refuses", () => {
  it("vectors", () => {
    expect(() => linalg.qr(a.zeros([3]))).toThrow("qr of shape [3]");
  });
  it("matrices that are not square", () => {
    expect(() => linalg.cholesky(a.zeros([2, 3]))).toThrow("cholesky of [2, 3]");
  });
  it("other types", () => {
    expect(() => linalg.eigh(a.zeros([2, 2], { dtype: "bfloat16" }))).toThrow("eigh of bfloat16");
  });
  it("right-hand sides of another height", () => {
    expect(() => linalg.solve(a.eye(3), a.zeros([2, 4]))).toThrow(
      "solve of Tensor float32[3, 3] and Tensor float32[2, 4]",
    );
  });
  it("more unknowns than equations", () => {
    expect(() => linalg.leastSquares(a.zeros([2, 3]), a.zeros([2]))).toThrow("leastSquares of [2, 3]");
  });
});
