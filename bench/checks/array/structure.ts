/** Order, indexing, Fourier transforms, random numbers and control flow. */

import type { DType, Tensor } from "aronnax";
import * as a from "aronnax";
import { type Check, check, type Pair, upload } from "../check.js";
import { build, type Dense, draw, fourier, generator, map, sizeOf, threefry } from "../reference.js";

const whole = (shape: readonly number[], seed: number, low: number, high: number): Dense =>
  map(draw(shape, seed, low, high), Math.floor);

/** The order of `keys`: stable, NaN last. */
function orderOf(keys: ArrayLike<number>, descending = false): number[] {
  const rank = (x: number): number => (Number.isNaN(x) ? Number.POSITIVE_INFINITY : x);
  const both = (i: number, j: number): number => {
    const [x, y] = [keys[i]!, keys[j]!];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
    return Math.sign(rank(x) - rank(y)) || 0;
  };
  return Array.from(keys, (_, i) => i).sort((i, j) => (descending ? both(j, i) : both(i, j)) || i - j);
}

const sortable: readonly DType[] = [
  "float32",
  "bfloat16",
  "float16",
  "float64",
  "int8",
  "uint8",
  "int32",
  "uint32",
  "int64",
];

const order: Check[] = [
  ...sortable.flatMap((dtype) =>
    [17, 3000].map((n) =>
      check(`sort and argsort with equal elements, ${dtype}[${n}]`, 0, () => {
        const x = whole([n], 61, 0, 100);
        const [rising, falling] = [orderOf(x.data), orderOf(x.data, true)];
        return [
          [a.sort(upload(x, dtype)).astype("float32"), rising.map((i) => x.data[i]!)],
          [a.argsort(upload(x, dtype)), rising],
          [a.argsort(upload(x, dtype), -1, { descending: true }), falling],
        ];
      }),
    ),
  ),
  check("sort with NaN, infinities and both zeros, and its gradient", 0, () => {
    const x = Float64Array.of(
      2,
      Number.NaN,
      -1,
      Number.POSITIVE_INFINITY,
      0,
      -0,
      Number.NEGATIVE_INFINITY,
      7,
    );
    const g = Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const places = orderOf(x);
    const t = a.tensor(x, { dtype: "float32" });
    const back = new Float64Array(8);
    for (const [to, from] of places.entries()) back[from] = g[to]!;
    const [sorted, pull] = a.vjp((y: Tensor) => a.sort(y), t);
    return [
      [sorted, places.map((i) => x[i]!)],
      [pull(a.tensor(g, { dtype: "float32" }))[0]!, back],
    ];
  }),
  check("sort of 200,000 numbers", 0, () => {
    const x = draw([200_000], 62);
    return [a.sort(upload(x)), Float64Array.from(x.data).sort()];
  }),
  check("sort along the first axis of [50, 40]", 0, () => {
    const x = draw([50, 40], 63);
    const columns = Array.from({ length: 40 }, (_, j) =>
      Float64Array.from({ length: 50 }, (_, i) => x.data[i * 40 + j]!).sort(),
    );
    return [a.sort(upload(x), 0), build([50, 40], ([i, j]) => columns[j!]![i!]!)];
  }),
  ...(
    [
      [8, 3],
      [5000, 50],
      [70_000, 5],
    ] as const
  ).map(([n, k]) =>
    check(`topK, ${k} of ${n}, and its gradient`, 0, () => {
      const x = draw([n], 64);
      const best = orderOf(x.data, true).slice(0, k);
      const marks = new Float64Array(n);
      for (const i of best) marks[i] = 1;
      const [values, indices] = a.topK(upload(x), k);
      return [
        [values, best.map((i) => x.data[i]!)],
        [indices, best],
        [a.grad((y: Tensor) => a.topK(y, k)[0].sum())(upload(x)), marks],
      ];
    }),
  ),
  check("argmax and argmin: the first of equal ones, NaN before all", 0, () => {
    const x = a.tensor([
      [1, 3, 3, 0, 0],
      [2, Number.NaN, 5, Number.NaN, 1],
    ]);
    return [
      [a.argmax(x), [1, 1]],
      [a.argmin(x), [3, 1]],
    ];
  }),
  check("quantile, median, searchSorted, bincount", 1e-6, () => {
    const x = a.tensor([4, 1, 3, 2, 5]);
    return [
      [a.median(x), [3]],
      [a.quantile(x.astype("float32"), 0.25), [2]],
      [a.searchSorted(a.tensor([1, 2, 2, 3]), a.tensor([0, 2, 4])), [0, 1, 4]],
      [a.bincount(a.tensor([1, 1, 3], { dtype: "int32" }), 5), [0, 2, 0, 1, 0]],
    ];
  }),
];

const indexing: Check[] = [
  check("take, its gradient with repeated rows, and writing: set, add, min, max", 1e-5, () => {
    const [rows, width, picks] = [40, 8, 5000];
    const x = draw([rows, width], 71);
    const indices = whole([picks], 72, 0, rows);
    const updates = draw([picks, width], 73);
    const gathered = build([picks, width], ([i, j]) => x.data[indices.data[i!]! * width + j!]!);
    const combine = (start: Dense, f: (old: number, value: number) => number): Dense => {
      const result = map(start, (v) => v);
      build([picks, width], ([i, j], flat) => {
        const at = indices.data[i!]! * width + j!;
        result.data[at] = f(result.data[at]!, updates.data[flat]!);
        return 0;
      });
      return result;
    };
    const [t, where, u] = [upload(x), upload(indices, "int32"), upload(updates)];
    const once = a.arange(0, rows).mul(3).mod(rows);
    return [
      [a.take(t, where), gathered],
      [
        a.grad((y: Tensor) => a.take(y, where).mul(u).sum())(t),
        combine(
          map(x, () => 0),
          (p, q) => p + q,
        ),
      ],
      [a.at(t, where).add(u), combine(x, (p, q) => p + q)],
      [a.at(t, where).max(u), combine(x, Math.max)],
      [a.at(t, where).min(u), combine(x, Math.min)],
      [
        a.at(t, once).set(t.mul(2)),
        build([rows, width], ([i, j]) => {
          const from = Array.from({ length: rows }, (_, k) => (3 * k) % rows).indexOf(i!);
          return 2 * x.data[from * width + j!]!;
        }),
      ],
    ];
  }),
  check("at(...).add of bfloat16, int32 and float64", 2e-2, () => {
    const indices = whole([64], 74, 0, 4);
    const counts = new Float64Array(4);
    for (const i of indices.data) counts[i]! += 1;
    return (["bfloat16", "int32", "float64"] as const).map(
      (dtype): Pair => [
        a
          .at(a.zeros([4], { dtype }), upload(indices, "int32"))
          .add(1)
          .astype("float32"),
        counts,
      ],
    );
  }),
  check("takeAlongAxis and its gradient", 1e-6, () => {
    const x = draw([30, 20], 75);
    const indices = whole([30, 50], 76, 0, 20);
    const g = draw([30, 50], 77);
    const expected = map(x, () => 0);
    build([30, 50], ([i], flat) => {
      expected.data[i! * 20 + indices.data[flat]!]! += g.data[flat]!;
      return 0;
    });
    const f = (y: Tensor): Tensor => a.takeAlongAxis(y, upload(indices, "int32"));
    return [
      [f(upload(x)), build([30, 50], ([i], flat) => x.data[i! * 20 + indices.data[flat]!]!)],
      [a.grad((y: Tensor) => f(y).mul(upload(g)).sum())(upload(x)), expected],
    ];
  }),
  check("slices with steps, flip, roll, pad, tile, dynamic slices, concatenate", 0, () => {
    const x = draw([9, 10], 78);
    const at = (i: number, j: number): number => x.data[i * 10 + j]!;
    const t = upload(x);
    return [
      [t.slice([7, 1, -2], [0, 10, 3]), build([3, 4], ([i, j]) => at(7 - 2 * i!, 3 * j!))],
      [a.flip(t, 0), build([9, 10], ([i, j]) => at(8 - i!, j!))],
      [a.roll(t, 4, 1), build([9, 10], ([i, j]) => at(i!, (j! + 6) % 10))],
      [a.tile(t, [2, 1]), build([18, 10], ([i, j]) => at(i! % 9, j!))],
      [
        a.pad(t, [
          [1, 0],
          [0, 2],
        ]),
        build([10, 12], ([i, j]) => (i! > 0 && j! < 10 ? at(i! - 1, j!) : 0)),
      ],
      [
        a.dynamicSlice(t, [a.scalar(5, "int32"), a.scalar(20, "int32")], [3, 4]),
        build([3, 4], ([i, j]) => at(5 + i!, 6 + j!)),
      ],
      [a.concatenate([t, t], 1), build([9, 20], ([i, j]) => at(i!, j! % 10))],
    ];
  }),
];

const lengths = [1, 2, 8, 17, 100, 1024, 1009];
const transforms: Check[] = [
  ...lengths.map((n) =>
    check(`fft, ifft, rfft and irfft, length ${n}`, 1e-5, () => {
      const [re, im] = [draw([3, n], 81), draw([3, n], 82)];
      const none = map(im, () => 0);
      const z = a.complex(upload(re), upload(im));
      const [expected, real] = [fourier(re, im), fourier(re, none)];
      const half = Math.floor(n / 2) + 1;
      const first = (x: Dense): Dense => build([3, half], ([i, k]) => x.data[i! * n + k!]!);
      const [ours, oursReal] = [a.fft.fft(z), a.fft.rfft(upload(re))];
      return [
        [a.real(ours), expected.re],
        [a.imag(ours).add(1), map(expected.im, (v) => v + 1)],
        [a.real(oursReal), first(real.re)],
        [a.imag(oursReal).add(n), map(first(real.im), (v) => v + n)],
        [a.real(a.fft.ifft(ours)), re],
        [a.imag(a.fft.ifft(ours)), im],
        [a.fft.irfft(oursReal, -1, { length: n }), re],
      ];
    }),
  ),
  check("fft over three axes and back, and Parseval's gradient", 1e-5, () => {
    const x = draw([2, 6, 5, 8], 83);
    const energy = (y: Tensor): Tensor => {
      const z = a.fft.fft(y, [1, 2, 3]);
      return a.real(z).square().add(a.imag(z).square()).sum();
    };
    const z = a.fft.fft(upload(x), [1, 2, 3]);
    return [
      [a.real(a.fft.ifft(z, [1, 2, 3])), x],
      [a.grad(energy)(upload(x)), map(x, (v) => 2 * 240 * v)],
    ];
  }),
];

const random: Check[] = [
  check("threefry-2x32: the known answer of Random123, and a million words", 0, () => {
    const n = 1_000_000;
    const words = Float64Array.from({ length: n }, (_, i) => {
      const [p, q] = threefry([0, 42], [0, i]);
      return (p ^ q) >>> 0;
    });
    return [
      [a.random.foldIn(a.random.key(0), 0), [0x6b200159, 0x99ba4efe]],
      [a.random.bits(a.random.key(42), [n]), words],
    ];
  }),
  check("draws equal to jax.random's with key 42", 2e-6, () => {
    const k = a.random.key(42);
    return [
      [a.random.bits(k, [4]), [2098992034, 2919706841, 2646866425, 2409546199]],
      [a.random.splitKey(k, 2), [1832780943, 270669613, 64467757, 2916123636]],
      [a.random.uniform(k, [3]), [0.48870957, 0.6797972, 0.6162715]],
      [a.random.normal(k, [4]), [-0.02830462, 0.46713185, 0.29570296, 0.15354592]],
      [a.random.permutation(k, 8), [7, 4, 2, 5, 3, 6, 0, 1]],
      [a.random.integers(k, [4], 0, 1000), [644, 914, 71, 369]],
      [a.random.categorical(k, a.zeros([4, 10])), [9, 2, 9, 0]],
    ];
  }),
  ...(["float32", "float64", "bfloat16"] as const).map((dtype) =>
    // A bfloat16 is made of eight bits, as in jax: its tails are short.
    check(`moments of a million normal numbers of ${dtype}`, dtype === "bfloat16" ? 2e-2 : 5e-3, () => {
      const x = a.random.normal(7, [1_000_000], { dtype }).astype("float32");
      return [
        [x.mean().add(1), [1]],
        [x.square().mean(), [1]],
      ];
    }),
  ),
];

/** h ← tanh(w h + x), with d(Σ h²) by backpropagation through time. */
function recurrence(w: number, xs: Float64Array): { hs: number[]; dw: number; dx: number[] } {
  const hs = [0];
  for (const x of xs) hs.push(Math.tanh(w * hs.at(-1)! + x));
  let [dh, dw] = [0, 0];
  const dx: number[] = [];
  for (let t = xs.length; t >= 1; t--) {
    const inner = (dh + 2 * hs[t]!) * (1 - hs[t]! ** 2);
    dw += inner * hs[t - 1]!;
    dx.unshift(inner);
    dh = inner * w;
  }
  return { hs: hs.slice(1), dw, dx };
}

const control: Check[] = [
  check("scan of 500 steps, its gradients, and the same with remat", 2e-5, () => {
    const xs = draw([500], 91);
    const w = 0.75;
    const { hs, dw, dx } = recurrence(w, xs.data);
    const step =
      (weight: Tensor) =>
      (h: Tensor, x: Tensor): [Tensor, Tensor] => {
        const next = h.mul(weight).add(x).tanh();
        return [next, next];
      };
    const run = (weight: Tensor, inputs: Tensor): Tensor => a.scan(step(weight), a.tensor(0), inputs)[1];
    const loss = (weight: Tensor, inputs: Tensor): Tensor => run(weight, inputs).square().sum();
    const remade = (weight: Tensor, inputs: Tensor): Tensor => a.remat(loss)(weight, inputs);
    const weight = a.tensor(w);
    return [
      [run(weight, upload(xs)), hs],
      [a.grad(loss)(weight, upload(xs)), [dw]],
      [a.grad((x: Tensor) => loss(weight, x))(upload(xs)), dx],
      [a.grad(remade)(weight, upload(xs)), [dw]],
    ];
  }),
  check("whileLoop: steps of the Collatz sequence, alone and by vmap", 0, () => {
    const steps = (n: number): number => {
      let count = 0;
      for (let x = n; x !== 1; x = x % 2 === 0 ? x / 2 : 3 * x + 1) count++;
      return count;
    };
    const collatz = (start: Tensor): Tensor =>
      a.whileLoop(
        ([n]: [Tensor, Tensor]) => n.notEqual(1),
        ([n, count]: [Tensor, Tensor]): [Tensor, Tensor] => [
          a.where(n.mod(2).equal(0), n.floorDiv(2), n.mul(3).add(1)),
          count.add(1),
        ],
        [start, a.scalar(0, "int32")],
      )[1];
    return [
      [collatz(a.scalar(27, "int32")), [steps(27)]],
      [a.vmap(collatz)(a.arange(1, 30)), Array.from({ length: 29 }, (_, i) => steps(i + 1))],
    ];
  }),
  check("cond, switchCase and foriLoop with gradients, under vmap too", 1e-6, () => {
    const f = (x: Tensor): Tensor =>
      a.cond(
        x.greater(0),
        (y: Tensor) => y.square(),
        (y: Tensor) => y.mul(3),
        x,
      );
    const g = (i: Tensor, x: Tensor): Tensor =>
      a.switchCase(i, [(y: Tensor) => y, (y: Tensor) => y.square(), (y: Tensor) => y.exp()], x);
    const power = (x: Tensor): Tensor => a.foriLoop(0, 5, (_, y: Tensor) => y.mul(x), a.onesLike(x));
    const xs = a.tensor([-2, 0.5, 3]);
    return [
      [a.vmap(f)(xs), [-6, 0.25, 9]],
      [a.vmap(a.grad(f))(xs), [3, 1, 6]],
      [f(a.tensor(2.5)), [6.25]],
      [a.vmap(g)(a.tensor([0, 1, 2], { dtype: "int32" }), xs), [-2, 0.25, Math.exp(3)]],
      [a.grad((x: Tensor) => g(a.scalar(2, "int32"), x))(a.tensor(0.5)), [Math.exp(0.5)]],
      [a.grad(power)(a.tensor(1.5)), [5 * 1.5 ** 4]],
    ];
  }),
  check("jit with a donated state of three steps", 1e-6, () => {
    const step = a.jit((x: Tensor) => x.mul(2).add(1), { donate: [0] });
    let x = upload(draw([1000], 92));
    for (let i = 0; i < 3; i++) x = step(x);
    return [x, map(draw([1000], 92), (v) => 8 * v + 7)];
  }),
  check("Newton's method with a dense Hessian by vmap of hessianVectorProduct", 1e-4, () => {
    const m = draw([6, 6], 93);
    const f = (v: Tensor): Tensor =>
      upload(m).matmul(v, { precision: "highest" }).square().sum().add(v.exp().sum());
    let v = a.zeros([6]);
    for (let i = 0; i < 8; i++) {
      const at = v;
      const hessian = a.vmap((u: Tensor) => a.hessianVectorProduct(f)(at, u))(a.eye(6));
      v = v.sub(a.linalg.solve(hessian, a.grad(f)(at)));
    }
    // At the minimum the gradient is zero.
    return [a.grad(f)(v).add(1), Float64Array.from({ length: 6 }, () => 1)];
  }),
];

/** Random bytes of each type go to the device and come back as they were. */
const transfers: Check[] = (
  ["bfloat16", "float16", "int16", "uint16", "int64", "uint64", "float64", "bool"] as const
).map((dtype) =>
  check(`transfer of ${dtype} there and back`, 0, () => {
    const next = generator(99);
    const values = Float64Array.from({ length: 1001 }, () =>
      Math.floor(next() * (dtype === "bool" ? 2 : 120)),
    );
    return [a.tensor(values, { dtype }).reshape([7, 143]).transpose().transpose(), values];
  }),
);

export const structure: readonly Check[] = [
  ...order,
  ...indexing,
  ...transforms,
  ...random,
  ...control,
  ...transfers,
  check("stack of 200 slices of one array", 0, () => {
    const x = draw([200, 3], 94);
    return [
      a.stack(Array.from({ length: 200 }, (_, i) => upload(x).slice(199 - i))),
      build([200, 3], ([i, j]) => x.data[(199 - i!) * 3 + j!]!),
    ];
  }),
  check("transpose of [3, 4, 5, 6] by every cyclic order", 0, () =>
    [1, 2, 3].map((by): Pair => {
      const shape = [3, 4, 5, 6];
      const x = draw(shape, 95);
      const order = shape.map((_, i) => (i + by) % 4);
      const expected = build(
        order.map((axis) => shape[axis]!),
        (index) => {
          const original = shape.map(() => 0);
          for (const [i, axis] of order.entries()) original[axis] = index[i]!;
          return x.data[original.reduce((flat, i, axis) => flat * shape[axis]! + i, 0)]!;
        },
      );
      return sizeOf(shape) === 360 ? [upload(x).transpose(order), expected] : [upload(x), x];
    }),
  ),
];
