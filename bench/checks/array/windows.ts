/** Convolutions, pooling and running reductions against loops over every window. */

import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { type Check, check, upload } from "../check.js";
import {
  build,
  type ConvolutionShape,
  convolution,
  type Dense,
  draw,
  drawCoarse,
  map,
  poolingWindows,
  sizeOf,
} from "../reference.js";

interface ConvolutionCase extends ConvolutionShape {
  readonly x: readonly number[];
  readonly w: readonly number[];
}

const plain = { strides: 1, dilation: 1, padding: [0, 0], groups: 1 } as const;
const cases: readonly ConvolutionCase[] = [
  { ...plain, x: [2, 9, 3], w: [3, 3, 4] },
  { ...plain, strides: 2, padding: [2, 1], x: [2, 17, 4], w: [4, 4, 6] },
  { ...plain, dilation: 3, padding: [3, 3], groups: 2, x: [3, 20, 4], w: [3, 2, 6] },
  { ...plain, padding: [1, 1], x: [2, 8, 8, 3], w: [3, 3, 3, 5] },
  { ...plain, padding: [1, 1], x: [4, 28, 28, 8], w: [3, 3, 8, 16] },
  { ...plain, strides: 2, padding: [3, 3], x: [2, 32, 32, 3], w: [7, 7, 3, 8] },
  { ...plain, strides: 2, dilation: 2, padding: [0, 2], groups: 2, x: [2, 11, 10, 4], w: [3, 2, 2, 4] },
  { ...plain, padding: [1, 1], groups: 8, x: [2, 10, 10, 8], w: [3, 3, 1, 8] },
  { ...plain, x: [3, 6, 5, 16], w: [1, 1, 16, 8] },
  { ...plain, padding: [1, 1], x: [1, 6, 5, 4, 2], w: [3, 3, 3, 2, 3] },
  { ...plain, strides: 2, dilation: 1, padding: [1, 0], groups: 2, x: [2, 7, 6, 5, 4], w: [2, 3, 2, 2, 4] },
];

const label = (c: ConvolutionCase): string =>
  `[${c.x}] by [${c.w}], strides ${c.strides}, dilation ${c.dilation}, padding ${c.padding}, groups ${c.groups}`;

const optionsOf = (c: ConvolutionCase): NonNullable<Parameters<typeof a.conv>[2]> => ({
  strides: c.strides,
  dilation: c.dilation,
  groups: c.groups,
  padding: c.x.slice(2).map(() => c.padding),
});

const convolutions: Check[] = cases.flatMap((c, seed) => [
  check(`conv and its gradients, ${label(c)}`, 1e-5, () => {
    const [x, w] = [draw(c.x, seed), draw(c.w, seed + 100)];
    const { shape } = convolution(x, w, c).y;
    const g = draw(shape, seed + 200);
    const { y, dx, dw } = convolution(x, w, c, g);
    const options = { ...optionsOf(c), precision: "highest" } as const;
    const [ours, pull] = a.vjp((p: Tensor, q: Tensor) => a.conv(p, q, options), upload(x), upload(w));
    const [toX, toW] = pull(upload(g));
    return [
      [ours, y],
      [toX!, dx],
      [toW!, dw],
    ];
  }),
  check(`conv and its gradients in default precision, ${label(c)}`, 5e-3, () => {
    const [x, w] = [draw(c.x, seed), draw(c.w, seed + 100)];
    const g = draw(convolution(x, w, c).y.shape, seed + 200);
    const { y, dx, dw } = convolution(x, w, c, g);
    const [ours, pull] = a.vjp((p: Tensor, q: Tensor) => a.conv(p, q, optionsOf(c)), upload(x), upload(w));
    const [toX, toW] = pull(upload(g));
    return [
      [ours, y],
      [toX!, dx],
      [toW!, dw],
    ];
  }),
  check(`convTranspose, ${label(c)}`, 1e-5, () => {
    // The transpose of a convolution is its derivative with respect to the input.
    const w = draw(c.w, seed + 300);
    const input = map(draw(c.x, 0), () => 0);
    const { shape } = convolution(input, w, c).y;
    const x = draw(shape, seed + 400);
    const { dx } = convolution(input, w, c, x);
    const spatial = c.x.slice(1, -1);
    const reached = spatial.map(
      (_, k) =>
        (shape[k + 1]! - 1) * c.strides + (c.w[k]! - 1) * c.dilation + 1 - c.padding[0] - c.padding[1],
    );
    const ours = a.convTranspose(upload(x), upload(w), {
      ...optionsOf(c),
      padding: spatial.map(() => c.padding),
      precision: "highest",
    });
    // Elements that no window reached are not there.
    const expected = build([c.x[0]!, ...reached, c.x.at(-1)!], (index) => {
      let flat = 0;
      for (const [axis, i] of index.entries()) flat = flat * c.x[axis]! + i;
      return dx.data[flat]!;
    });
    return [ours, expected];
  }),
]);

const narrow: Check[] = (["bfloat16", "float16"] as const).map((dtype) =>
  check(`conv of ${dtype}, and its gradients`, 1.5e-2, () => {
    const c = { ...plain, padding: [1, 1], x: [4, 16, 16, 16], w: [3, 3, 16, 16] } as const;
    const [x, w] = [drawCoarse(c.x, 1), drawCoarse(c.w, 2)];
    const g = drawCoarse([4, 16, 16, 16], 3);
    const { y, dx, dw } = convolution(x, w, c, g);
    const [ours, pull] = a.vjp(
      (p: Tensor, q: Tensor) => a.conv(p, q, optionsOf(c)),
      upload(x, dtype),
      upload(w, dtype),
    );
    const [toX, toW] = pull(upload(g, dtype));
    return [
      [ours, y],
      [toX!, dx],
      [toW!, dw],
    ];
  }),
);

const vectorised: Check[] = [
  check("vmap of conv over inputs and kernels, and of its gradient", 1e-5, () => {
    const c = { ...plain, padding: [1, 1], x: [2, 6, 6, 3], w: [3, 3, 3, 4] } as const;
    const parts = [0, 1, 2].map((seed) => {
      const [x, w] = [draw(c.x, seed), draw(c.w, seed + 10)];
      return { x, w, ...convolution(x, w, c) };
    });
    const f = (x: Tensor, w: Tensor): Tensor => a.conv(x, w, { padding: "same", precision: "highest" });
    const all = (name: "x" | "w"): Tensor => a.stack(parts.map((p) => upload(p[name])));
    const whole = (name: "y" | "dx" | "dw"): Float64Array =>
      Float64Array.from(parts.flatMap((p) => [...p[name].data]));
    const loss = (x: Tensor, w: Tensor): Tensor => f(x, w).square().sum().mul(0.5);
    return [
      [a.vmap(f)(all("x"), all("w")), whole("y")],
      [a.vmap(a.grad(loss))(all("x"), all("w")), whole("dx")],
      [a.vmap(a.grad((w: Tensor, x: Tensor) => loss(x, w)))(all("w"), all("x")), whole("dw")],
    ];
  }),
];

const pools = [
  { shape: [2, 12, 3], window: 3, strides: 2 },
  { shape: [3, 16, 15, 4], window: 2, strides: 2 },
  { shape: [2, 11, 11, 2], window: 3, strides: 1 },
  { shape: [2, 6, 7, 8, 2], window: 2, strides: 2 },
];

const pooling: Check[] = pools.flatMap(({ shape, window, strides }) => [
  check(`maxPool and its derivatives, [${shape}], window ${window}, strides ${strides}`, 1e-6, () => {
    const x = draw(shape, 41);
    const { shape: out, places } = poolingWindows(shape, window, strides);
    const winners = places.map((found) =>
      found.reduce((best, at) => (x.data[at]! > x.data[best]! ? at : best)),
    );
    const g = draw(out, 42);
    const dx = map(x, () => 0);
    // L = Σ g y³/3, so that the second derivative along u is 2 Σ g y u at the winners.
    const u = draw(shape, 43);
    const second = map(x, () => 0);
    for (const [i, at] of winners.entries()) {
      dx.data[at]! += g.data[i]! * x.data[at]! ** 2;
      second.data[at]! += 2 * g.data[i]! * x.data[at]! * u.data[at]!;
    }
    const loss = (p: Tensor): Tensor => a.maxPool(p, window, { strides }).pow(3).mul(upload(g)).sum().div(3);
    return [
      [a.maxPool(upload(x), window, { strides }), winners.map((at) => x.data[at]!)],
      [a.grad(loss)(upload(x)), dx],
      [a.hessianVectorProduct(loss)(upload(x), upload(u)), second],
    ];
  }),
  check(`avgPool and its gradient, [${shape}], window ${window}, strides ${strides}`, 1e-5, () => {
    const x = draw(shape, 44);
    const { shape: out, places } = poolingWindows(shape, window, strides);
    const g = draw(out, 45);
    const dx = map(x, () => 0);
    for (const [i, found] of places.entries())
      for (const at of found) dx.data[at]! += g.data[i]! / found.length;
    const f = (p: Tensor): Tensor => a.avgPool(p, window, { strides });
    return [
      [f(upload(x)), places.map((found) => found.reduce((s, at) => s + x.data[at]!, 0) / found.length)],
      [a.grad((p: Tensor) => f(p).mul(upload(g)).sum())(upload(x)), dx],
    ];
  }),
]);

/** Each element combined with those before it along the last axis. */
function running(x: Dense, combine: (sum: number, value: number) => number): Float64Array {
  const n = x.shape.at(-1)!;
  const result = Float64Array.from(x.data);
  for (let i = 0; i < result.length; i++) if (i % n > 0) result[i] = combine(result[i - 1]!, result[i]!);
  return result;
}

const cumulative: Check[] = [
  [3, 7],
  [2, 5000],
].flatMap((shape) => [
  check(`cumsum, cummax, cummin and logcumsumexp, [${shape}]`, 2e-5, () => {
    const x = draw(shape, 51);
    const logs = running(map(x, Math.exp), (s, v) => s + v).map(Math.log);
    return [
      [a.cumsum(upload(x), 1), running(x, (s, v) => s + v)],
      [a.cummax(upload(x), 1), running(x, Math.max)],
      [a.cummin(upload(x), 1), running(x, Math.min)],
      [a.logcumsumexp(upload(x), 1), logs],
    ];
  }),
  check(`cumprod and the gradient of cumsum, [${shape}]`, 1e-4, () => {
    const x = draw(shape, 52, 0.999, 1.001);
    const n = shape[1]!;
    // Element i is in n - i of the sums.
    const counts = Float64Array.from({ length: sizeOf(shape) }, (_, i) => n - (i % n));
    return [
      [a.cumprod(upload(x), 1), running(x, (s, v) => s * v)],
      [a.grad((p: Tensor) => a.cumsum(p, 1).sum())(upload(x)), counts],
    ];
  }),
]);

export const windows: readonly Check[] = [
  ...convolutions,
  ...narrow,
  ...vectorised,
  ...pooling,
  ...cumulative,
];
