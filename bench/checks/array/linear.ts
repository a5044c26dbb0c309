/** Products and decompositions of matrices: by brute force where that is short, else by the identities that define them. */

import type { DType, Tensor } from "aronnax";
import * as a from "aronnax";
import { type Check, check, type Pair, upload } from "../check.js";
import {
  build,
  type Dense,
  draw,
  drawCoarse,
  invert,
  map,
  matmul,
  scaledIdentity,
  sizeOf,
  smallFloats,
  transposed,
} from "../reference.js";

const { linalg } = a;
const highest = { precision: "highest" } as const;
const product = (x: Tensor, y: Tensor): Tensor => x.matmul(y, highest);
const identities = (shape: readonly number[], n: number): Dense =>
  build([...shape, n, n], (index) => (index.at(-1) === index.at(-2) ? 1 : 0));
const zerosOf = (shape: readonly number[]): Dense => build(shape, () => 0);
/** For comparing with zero: 1 added, so that relative errors mean something. */
const nearZero = (x: Tensor, scale = 1): Pair => [x.add(scale), build(x.shape, () => scale)];

/** Symmetric and well conditioned. */
function positive(lead: readonly number[], n: number, seed: number): Dense {
  const x = draw([...lead, n, n], seed);
  const square = matmul(x, transposed(x));
  return build(square.shape, (index, flat) =>
    Math.fround(square.data[flat]! / n + (index.at(-1) === index.at(-2) ? 1 : 0)),
  );
}

/** Far from singular, with different singular values. */
const regular = (n: number, seed: number): Dense => {
  const noise = draw([n, n], seed);
  return build([n, n], ([i, j], flat) => noise.data[flat]! + (i === j ? n + i! : 0));
};

const accuracy: Partial<Record<DType, number>> = { float32: 2e-5, float64: 1e-12 };
const bothTypes: readonly DType[] = ["float32", "float64"];
const label = (name: string, shape: readonly number[], dtype: DType): string =>
  `${name} ${dtype}[${shape.join(", ")}]`;

const products: Check[] = [
  ...(
    [
      ["float32", "default", 3e-3],
      ["float32", "highest", 1e-5],
      ["float64", "default", 1e-13],
      ["bfloat16", "default", 1e-2],
      ["float16", "default", 2e-3],
    ] as const
  ).flatMap(([dtype, precision, limit]) =>
    [
      [
        [3, 5],
        [5, 2],
      ],
      [
        [256, 384],
        [384, 128],
      ],
      [
        [4, 33, 65],
        [4, 65, 17],
      ],
    ].map(([x, y]) =>
      check(`matmul ${precision} ${dtype}[${x}] x [${y}]`, limit, () => {
        const [left, right] = [drawCoarse(x!, 1), drawCoarse(y!, 2)];
        return [upload(left, dtype).matmul(upload(right, dtype), { precision }), matmul(left, right)];
      }),
    ),
  ),
  check("matmul of bfloat16 with float32 result", 1e-5, () => {
    const [x, y] = [drawCoarse([64, 512], 3), drawCoarse([512, 32], 4)];
    return [upload(x, "bfloat16").matmul(upload(y, "bfloat16"), { dtype: "float32" }), matmul(x, y)];
  }),
  check("matmul of int8 with int32 result", 0, () => {
    const [x, y] = [map(drawCoarse([32, 64], 5), (v) => 32 * v), map(drawCoarse([64, 16], 6), (v) => 32 * v)];
    const [l, r] = [map(x, Math.round), map(y, Math.round)];
    return [upload(l, "int8").matmul(upload(r, "int8"), { dtype: "int32" }), matmul(l, r)];
  }),
  check("matmul of float8_e4m3fn by float8_e5m2 with bfloat16 result", 1e-2, () => {
    const values = [0, 0.5, 1, 1.5, 2, -1, -0.75, 3];
    const pick = (shape: number[], seed: number): Dense =>
      map(draw(shape, seed, 0, 8), (v) => values[Math.floor(v)]!);
    const [x, y] = [pick([64, 128], 7), pick([128, 32], 8)];
    const product = a.dotGeneral(
      upload(x, "float8_e4m3fn"),
      upload(y, "float8_e5m2"),
      { contract: [[1], [0]], batch: [[], []] },
      { dtype: "bfloat16" },
    );
    return [product, matmul(x, y)];
  }),
  check("matmul of complex64", 1e-5, () => {
    const [p, q, r, s] = [1, 2, 3, 4].map((seed) => draw([16, 16], seed)) as [Dense, Dense, Dense, Dense];
    const z = a.matmul(a.complex(upload(p), upload(q)), a.complex(upload(r), upload(s)), highest);
    const [pr, qs, ps, qr] = [matmul(p, r), matmul(q, s), matmul(p, s), matmul(q, r)];
    return [
      [a.real(z), map(pr, (v) => v).data.map((v, i) => v - qs.data[i]!)],
      [a.imag(z), ps.data.map((v, i) => v + qr.data[i]!)],
    ];
  }),
  check("einsum of three operands, and its gradient", 3e-3, () => {
    const [x, y, z] = [draw([2, 6, 5], 1), draw([5, 7], 2), draw([2, 7, 3], 3)];
    const xy = matmul(
      x,
      build([2, 5, 7], ([, i, j]) => y.data[i! * 7 + j!]!),
    );
    const yz = matmul(
      build([2, 5, 7], ([, i, j]) => y.data[i! * 7 + j!]!),
      z,
    );
    const f = (u: Tensor): Tensor => a.einsum("bij,jk,bkl->bil", u, upload(y), upload(z));
    const cotangent = build([2, 5, 3], () => 1);
    const expected = build([2, 6, 5], ([b, , j]) =>
      cotangent.shape[2] === 3
        ? yz.data.subarray((b! * 5 + j!) * 3, (b! * 5 + j! + 1) * 3).reduce((p, q) => p + q, 0)
        : 0,
    );
    return [
      [f(upload(x)), matmul(xy, z)],
      [a.grad((u: Tensor) => f(u).sum())(upload(x)), expected],
    ];
  }),
];

const shapes: readonly (readonly number[])[] = [
  [1, 1],
  [5, 5],
  [64, 64],
  [20, 7],
  [7, 20],
  [3, 2, 9, 4],
  [130, 130],
];

const decompositions: Check[] = bothTypes.flatMap((dtype) => {
  const limit = accuracy[dtype]!;
  return shapes.flatMap((shape) => {
    const [m, n] = [shape.at(-2)!, shape.at(-1)!];
    const lead = shape.slice(0, -2);
    const k = Math.min(m, n);
    const checks: Check[] = [
      check(label("qr", shape, dtype), limit, () => {
        const x = draw(shape, 11);
        const [q, r] = linalg.qr(upload(x, dtype));
        return [[product(q, r), x], [product(q.mT, q), identities(lead, k)], nearZero(a.tril(r, -1))];
      }),
      check(label("svd", shape, dtype), limit, () => {
        const x = draw(shape, 12);
        const [u, s, vt] = linalg.svd(upload(x, dtype));
        const falling = a.minimum(a.diff(s).neg(), 0);
        return [
          [product(u.mul(a.expandDims(s, -2)), vt), x],
          [product(u.mT, u), identities(lead, k)],
          [product(vt, vt.mT), identities(lead, k)],
          nearZero(falling),
          nearZero(a.minimum(s, 0)),
        ];
      }),
    ];
    if (m === n) {
      checks.push(
        check(label("eigh", shape, dtype), limit, () => {
          const x = positive(lead, n, 13);
          const [w, v] = linalg.eigh(upload(x, dtype));
          return [
            [product(v.mul(a.expandDims(w, -2)), v.mT), x],
            [product(v.mT, v), identities(lead, n)],
            nearZero(a.minimum(a.diff(w), 0)),
          ];
        }),
        check(label("cholesky", shape, dtype), limit, () => {
          const x = positive(lead, n, 14);
          const l = linalg.cholesky(upload(x, dtype));
          return [[product(l, l.mT), x], nearZero(a.triu(l, 1))];
        }),
        check(label("solve and inv", shape, dtype), limit * 5, () => {
          const x = positive(lead, n, 15);
          const b = draw([...lead, n, 3], 16);
          const t = upload(x, dtype);
          return [
            [product(t, linalg.solve(t, upload(b, dtype))), b],
            [product(t, linalg.inv(t)), identities(lead, n)],
          ];
        }),
        ...[true, false].flatMap((lower) =>
          [true, false].map((transpose) =>
            check(
              `${label("triangularSolve", shape, dtype)} ${lower ? "lower" : "upper"}${transpose ? " transposed" : ""}`,
              limit * 5,
              () => {
                const noise = draw(shape, 17);
                const t = build(shape, (index, flat) => {
                  const [i, j] = [index.at(-2)!, index.at(-1)!];
                  if (i === j) return 2;
                  return (lower ? i > j : i < j) ? Math.fround(noise.data[flat]! / n) : 0;
                });
                const b = draw([...lead, n, 2], 18);
                const x = linalg.triangularSolve(upload(t, dtype), upload(b, dtype), { lower, transpose });
                const left = upload(t, dtype);
                return [product(transpose ? left.mT : left, x), b];
              },
            ),
          ),
        ),
      );
    }
    return checks;
  });
});

const failures: Check[] = [
  check("cholesky of a batch of which one matrix is not positive definite", 1e-6, () => {
    const x = build([2, 3, 3], ([b, i, j]) => (i === j ? (b === 0 ? 4 : i === 1 ? -1 : 1) : 0));
    return [
      linalg.cholesky(upload(x)),
      build([2, 3, 3], ([b, i, j]) => (b === 1 ? Number.NaN : i === j ? 2 : 0)),
    ];
  }),
  check("eigh and svd of a matrix with a NaN", 0, () => {
    const x = build([3, 3], (_, flat) => (flat === 4 ? Number.NaN : flat));
    const nan = (t: Tensor): Pair => [a.isnan(t).all(), [1]];
    return [nan(linalg.eigvalsh(upload(x))), nan(linalg.svdvals(upload(x)))];
  }),
  check("svd of matrices of rank 1 and 0", 2e-6, () => {
    const x = build([2, 6, 4], ([b, i, j]) => (b === 0 ? (i! + 1) * (j! - 1.5) : 0));
    const [u, s, vt] = linalg.svd(upload(x));
    return [
      [product(u.mul(a.expandDims(s, -2)), vt), x],
      [product(u.mT, u), identities([2], 4)],
      [product(vt, vt.mT), identities([2], 4)],
    ];
  }),
];

const derived: Check[] = [
  check("det and slogdet, and their gradients", 2e-5, () => {
    const x = regular(6, 21);
    const { inverse, determinant } = invert(x);
    const toInverse = transposed(inverse);
    const t = upload(x);
    const [sign, logarithm] = linalg.slogdet(t);
    return [
      [linalg.det(t), [determinant]],
      [sign, [Math.sign(determinant)]],
      [logarithm, [Math.log(Math.abs(determinant))]],
      [a.grad((y: Tensor) => linalg.slogdet(y)[1])(t), toInverse],
      [a.grad(linalg.det)(t), map(toInverse, (v) => v * determinant)],
    ];
  }),
  check("gradients of the sums of eigenvalues and of their squares", 2e-5, () => {
    const x = positive([], 12, 22);
    const t = upload(x);
    return [
      [a.grad((y: Tensor) => linalg.eigvalsh(y).sum())(t), scaledIdentity(12)],
      [a.grad((y: Tensor) => linalg.eigvalsh(y).square().sum())(t), map(x, (v) => 2 * v)],
    ];
  }),
  check("gradient through eigenvectors: of V f(w) Vᵀ with f the square", 1e-4, () => {
    const x = positive([], 5, 23);
    const g = draw([5, 5], 24);
    const f = (y: Tensor): Tensor => {
      const [w, v] = linalg.eigh(y);
      return product(v.mul(w.square()), v.mT).mul(upload(g)).sum();
    };
    // d tr(Gᵀ X²) = tr((Xᵀ Gᵀ + Gᵀ Xᵀ)ᵀ dX), made symmetric.
    const whole = matmul(x, g).data.map((v, i) => v + matmul(g, x).data[i]!);
    const expected = build([5, 5], ([i, j]) => (whole[i! * 5 + j!]! + whole[j! * 5 + i!]!) / 2);
    return [a.grad(f)(upload(x)), expected];
  }),
  check("gradient of the nuclear norm: U Vᵀ", 1e-4, () => {
    const t = upload(draw([9, 5], 25));
    const [u, , vt] = linalg.svd(t);
    const gradient = a.grad((y: Tensor) => linalg.svdvals(y).sum())(t);
    return nearZero(gradient.sub(product(u, vt)));
  }),
  check("gradient of the squared Frobenius norm through svd's three factors", 1e-4, () => {
    const x = draw([8, 4], 26);
    const f = (y: Tensor): Tensor => {
      const [u, s, vt] = linalg.svd(y);
      return product(u.mul(s), vt).square().sum();
    };
    return [a.grad(f)(upload(x)), map(x, (v) => 2 * v)];
  }),
  check("gradient of log det through cholesky: the inverse", 5e-5, () => {
    const x = positive([], 10, 27);
    const f = (y: Tensor): Tensor =>
      a
        .log(a.diagonal(linalg.cholesky(y)))
        .sum()
        .mul(2);
    return [a.grad(f)(upload(x)), invert(x).inverse];
  }),
  check("gradient of |QR|² through qr", 5e-5, () => {
    const x = draw([12, 6], 28);
    const f = (y: Tensor): Tensor => {
      const [q, r] = linalg.qr(y);
      return product(q, r).square().sum();
    };
    return [a.grad(f)(upload(x)), map(x, (v) => 2 * v)];
  }),
  check("leastSquares: the residual is orthogonal to the columns", 2e-5, () => {
    const [x, b] = [upload(draw([30, 6], 29)), upload(draw([30], 30))];
    const residual = product(x, linalg.leastSquares(x, b)).sub(b);
    return nearZero(product(x.mT, residual));
  }),
  check("vmap of cholesky, qr, eigh, svd and solve against a loop", 1e-4, () => {
    const many = upload(positive([4], 6, 31));
    const f = (x: Tensor): Tensor => {
      const [q, r] = linalg.qr(x);
      const [u, s, vt] = linalg.svd(x);
      const [w, v] = linalg.eigh(x);
      const l = linalg.cholesky(x);
      const parts = [
        product(q, r),
        product(u.mul(s), vt),
        product(v.mul(w), v.mT),
        product(l, l.mT),
        linalg.inv(x),
      ];
      return a.stack(parts);
    };
    const looped = a.stack(Array.from({ length: 4 }, (_, i) => f(many.slice(i))));
    return nearZero(a.vmap(f)(many).sub(looped));
  }),
  check("float8_e4m3fn and float8_e5m2: every bit pattern", 0, () => {
    const bits = a.arange(0, 256, 1, { dtype: "int32" }).astype("uint8");
    return [
      [a.bitcast(bits, "float8_e4m3fn").astype("float32"), smallFloats(3)],
      [a.bitcast(bits, "float8_e5m2").astype("float32"), smallFloats(2)],
    ];
  }),
];

export const linear: readonly Check[] = [
  ...products,
  ...decompositions,
  ...failures,
  ...derived,
  check("empty matrices", 0, () => [
    [linalg.qr(a.zeros([0, 3]))[1], zerosOf([0, 3])],
    [linalg.svdvals(a.zeros([2, 0, 3])), new Float64Array(sizeOf([2, 0]))],
    [linalg.det(a.zeros([0, 0])), [1]],
    [a.zeros([2, 0]).matmul(a.zeros([0, 3])), zerosOf([2, 3])],
  ]),
];
