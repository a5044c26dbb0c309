/**
 * Linear algebra that every transform is tested with. Decompositions are unique up to signs: both sides turn columns so that their sums
 * (for QR: R's diagonal) are positive.
 */
import fc from "fast-check";
import type { Tensor } from "../../core/src/index.js";
import * as a from "../../core/src/index.js";
import { type Operation, operation } from "./operations.js";

const { linalg } = a;
const transposed = (x: Tensor): Tensor => a.swapAxes(x, -1, -2);
const flat = (...parts: Tensor[]): Tensor => a.concatenate(parts.map((x) => x.reshape([-1])));
const python = {
  flat: "(lambda *parts: jnp.concatenate([jnp.ravel(p) for p in parts]))",
  t: "(lambda x: jnp.swapaxes(x, -1, -2))",
  positive: "(lambda x: x @ jnp.swapaxes(x, -1, -2) + 2 * jnp.eye(x.shape[-1]))",
  regular: "(lambda x: x + 6 * jnp.eye(x.shape[-1]))",
};
const positive = (x: Tensor): Tensor => x.matmul(transposed(x)).add(a.eye(x.shape.at(-1)!).mul(2));
const regular = (x: Tensor): Tensor => x.add(a.eye(x.shape.at(-1)!).mul(6));

const lead = fc.constantFrom([], [], [2], [2, 1]);
const side = fc.integer({ min: 1, max: 4 });
const options = { runs: 3, tolerance: 1e-3 } as const;

const ofSquare = (
  name: string,
  ours: (x: Tensor) => Tensor,
  theirs: string,
  more: Partial<Operation> = {},
): Operation =>
  operation(
    name,
    fc.tuple(lead, side),
    ([batch, n]) => ({ inputs: [{ shape: [...batch, n, n] }], ours: (x) => ours(x!), theirs }),
    { ...options, ...more },
  );

const ofPair = (
  name: string,
  ours: (x: Tensor, b: Tensor) => Tensor,
  theirs: string,
  rightHandSide: (n: number, k: number) => number[] = (n, k) => [n, k],
  more: Partial<Operation> = {},
): Operation =>
  operation(
    name,
    fc.tuple(lead, side, fc.integer({ min: 1, max: 3 })),
    ([batch, n, k]) => {
      const shape = rightHandSide(n, k);
      return {
        inputs: [{ shape: [...batch, n, n] }, { shape: shape.length === 1 ? shape : [...batch, ...shape] }],
        ours: (x, b) => ours(x!, b!),
        theirs,
      };
    },
    { ...options, ...more },
  );

const triangular = (lower: boolean, transpose: boolean, right: boolean, unitDiagonal: boolean): Operation => {
  const words = [
    lower ? "lower" : "upper",
    transpose && "transposed",
    right && "right",
    unitDiagonal && "unit diagonal",
  ];
  const flag = (value: boolean): string => (value ? "True" : "False");
  return ofPair(
    `triangularSolve, ${words.filter(Boolean).join(", ")}`,
    (x, b) => linalg.triangularSolve(regular(x), b, { lower, transpose, right, unitDiagonal }),
    `lambda x, b: lax.linalg.triangular_solve(${python.regular}(x), b, left_side=${flag(!right)}, lower=${flag(lower)}, transpose_a=${flag(transpose)}, unit_diagonal=${flag(unitDiagonal)})`,
    right ? (n, k) => [k, n] : undefined,
    { linear: right || unitDiagonal },
  );
};

const decomposed = (
  name: string,
  ours: (x: Tensor) => Tensor,
  theirs: string,
  more: Partial<Operation> = {},
): Operation =>
  operation(
    name,
    fc.tuple(lead, side, side),
    ([batch, m, n]) => ({
      inputs: [{ shape: [...batch, m, n] }],
      // A dominant diagonal keeps ranks full and singular values apart.
      ours: (x) => ours(x!.add(diagonal(m, n))),
      theirs: `lambda x: (${theirs})(x + ${pythonDiagonal})`,
    }),
    { ...options, ...more },
  );

const diagonal = (m: number, n: number): Tensor =>
  a.eye(m, n).mul(a.expandDims(a.arange(m).add(1).mul(4).astype("float32"), -1));
const pythonDiagonal = "jnp.eye(*x.shape[-2:]) * (jnp.arange(x.shape[-2])[:, None] + 1) * 4";

const turn = (columns: Tensor): Tensor => a.sign(columns.sum(-2, { keepDims: true }));

export const linear: readonly Operation[] = [
  ofSquare(
    "cholesky",
    (x) => linalg.cholesky(positive(x)),
    `lambda x: jnp.linalg.cholesky(${python.positive}(x))`,
  ),
  ofSquare(
    "cholesky of what is not symmetric",
    (x) => linalg.cholesky(positive(x).add(x.mul(0.1))),
    `lambda x: jnp.linalg.cholesky(${python.positive}(x) + x * 0.1)`,
    { linear: true },
  ),
  triangular(true, false, false, false),
  triangular(false, false, false, false),
  triangular(true, true, false, false),
  triangular(false, true, true, false),
  triangular(true, false, true, true),
  triangular(false, true, false, true),
  ofPair(
    "solve",
    (x, b) => linalg.solve(regular(x), b),
    `lambda x, b: jnp.linalg.solve(${python.regular}(x), b)`,
  ),
  ofPair(
    "solve for a vector",
    (x, b) => linalg.solve(regular(x), b),
    `lambda x, b: jnp.linalg.solve(${python.regular}(x), b)`,
    (n) => [n],
    { linear: true },
  ),
  ofSquare("inv", (x) => linalg.inv(regular(x)), `lambda x: jnp.linalg.inv(${python.regular}(x))`, {
    linear: true,
  }),
  ofSquare("det", (x) => linalg.det(x), "lambda x: jnp.linalg.det(x)"),
  ofSquare("slogdet", (x) => a.stack([...linalg.slogdet(x)]), "lambda x: jnp.stack(jnp.linalg.slogdet(x))"),
  decomposed(
    "qr",
    (x) => {
      const [q, r] = linalg.qr(x);
      const signs = a.sign(r.mul(a.eye(...(r.shape.slice(-2) as [number, number]))).sum(-1));
      return flat(q.mul(a.expandDims(signs, -2)), r.mul(a.expandDims(signs, -1)));
    },
    `lambda x: (lambda q, r: (lambda s: ${python.flat}(q * s[..., None, :], r * s[..., None]))(jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))))(*jnp.linalg.qr(x))`,
    { linear: true },
  ),
  ofSquare(
    "eigh",
    (x) => {
      const shifted = x.add(transposed(x)).add(diagonal(x.shape.at(-1)!, x.shape.at(-1)!));
      const [w, v] = linalg.eigh(shifted);
      return flat(w, v.mul(turn(v)));
    },
    `lambda x: (lambda w, v: ${python.flat}(w, v * jnp.sign(v.sum(-2, keepdims=True))))(*jnp.linalg.eigh(x + ${python.t}(x) + ${pythonDiagonal}))`,
  ),
  ofSquare(
    "eigvalsh",
    (x) => linalg.eigvalsh(x.add(diagonal(x.shape.at(-1)!, x.shape.at(-1)!))),
    `lambda x: jnp.linalg.eigvalsh(x + ${pythonDiagonal})`,
    { linear: true },
  ),
  decomposed(
    "svd",
    (x) => {
      const [u, s, vt] = linalg.svd(x);
      const signs = turn(u);
      return flat(u.mul(signs), s, vt.mul(transposed(signs)));
    },
    `lambda x: (lambda u, s, vt: (lambda t: ${python.flat}(u * t, s, vt * ${python.t}(t)))(jnp.sign(u.sum(-2, keepdims=True))))(*jnp.linalg.svd(x, full_matrices=False))`,
    { linear: true },
  ),
  decomposed(
    "svdvals",
    (x) => linalg.svdvals(x),
    "lambda x: jnp.linalg.svd(x, full_matrices=False, compute_uv=False)",
  ),
  operation(
    "leastSquares",
    fc.tuple(side, fc.nat(2)),
    ([n, more]) => ({
      inputs: [{ shape: [n + more, n] }, { shape: [n + more, 2] }],
      ours: (x, b) => linalg.leastSquares(x!.add(diagonal(n + more, n)), b!),
      theirs: `lambda x, b: (lambda y: jnp.linalg.solve(y.T @ y, y.T @ b))(x + ${pythonDiagonal})`,
    }),
    options,
  ),
];
