/** Loops and branches that every transform is tested with. */
import fc from "fast-check";
import type { Tensor } from "../../core/src/index.js";
import * as a from "../../core/src/index.js";
import { filledShapes } from "./arrays.js";
import { type Operation, operation } from "./operations.js";

const steps = fc.integer({ min: 1, max: 5 });
const once = { runs: 2, tolerance: 1e-4 };

/** Loops and branches whose values, derivatives and second derivatives must be jax's. */
export const differentiableLoops: readonly Operation[] = [
  operation(
    "scan with state and sequence",
    fc.tuple(steps, filledShapes(0, 2, 3)),
    ([n, shape]) => ({
      inputs: [{ shape }, { shape: [n, ...shape] }],
      ours: (c, xs) => {
        const [last, ys] = a.scan(
          (s: Tensor, x: Tensor): [Tensor, Tensor] => [s.mul(x).tanh(), s.add(x).sin()],
          c!,
          xs!,
        );
        return ys.sum(0).add(last.mul(2));
      },
      theirs:
        "lambda a, b: (lambda r: jnp.sum(r[1], 0) + r[0] * 2)(lax.scan(lambda s, x: (jnp.tanh(s * x), jnp.sin(s + x)), a, b))",
    }),
    once,
  ),
  operation(
    "scan over closed-over weights",
    fc.tuple(steps, fc.constant(3)),
    ([n, d]) => ({
      inputs: [{ shape: [2, d] }, { shape: [n, 2, d] }, { shape: [d, d] }, { shape: [d] }],
      ours: (h, xs, w, b) =>
        a.scan(
          (s: Tensor, x: Tensor): [Tensor, null] => [s.matmul(w!.mul(0.5)).add(x).add(b!).tanh(), null],
          h!,
          xs!,
        )[0],
      theirs: "lambda h, xs, w, b: lax.scan(lambda s, x: (jnp.tanh(s @ (w * 0.5) + x + b), None), h, xs)[0]",
    }),
    once,
  ),
  operation(
    "scan backwards",
    fc.tuple(steps, filledShapes(0, 1, 3)),
    ([n, shape]) => ({
      inputs: [{ shape }, { shape: [n, ...shape] }],
      ours: (c, xs) =>
        a.scan((s: Tensor, x: Tensor): [Tensor, Tensor] => [s.sin().mul(x), s.mul(x)], c!, xs!, {
          reverse: true,
        })[1],
      theirs: "lambda c, xs: lax.scan(lambda s, x: (jnp.sin(s) * x, s * x), c, xs, reverse=True)[1]",
    }),
    once,
  ),
  operation(
    "scan of trees with an integer in the state",
    steps,
    (n) => ({
      inputs: [{ shape: [3] }, { shape: [n, 3] }],
      ours: (c, xs) => {
        const [{ v }, { w }] = a.scan(
          (s: { v: Tensor; i: Tensor }, x: { w: Tensor }): [{ v: Tensor; i: Tensor }, { w: Tensor }] => [
            { v: s.v.add(x.w.mul(s.i.astype("float32"))).tanh(), i: s.i.add(1) },
            { w: s.v.mul(x.w) },
          ],
          { v: c!, i: a.scalar(1, "int32") },
          { w: xs! },
        );
        return v.add(w.sum(0));
      },
      theirs: `lambda c, xs: (lambda r: r[0][0] + jnp.sum(r[1], 0))(lax.scan(lambda s, x: ((jnp.tanh(s[0] + x * s[1].astype("float32")), s[1] + 1), s[0] * x), (c, jnp.int32(1)), xs))`,
    }),
    once,
  ),
  operation(
    "scan in a scan",
    steps,
    (n) => ({
      inputs: [{ shape: [2] }, { shape: [n, 3, 2] }],
      ours: (c, xs) =>
        a.scan(
          (s: Tensor, x: Tensor): [Tensor, null] => [
            a.scan((t: Tensor, y: Tensor): [Tensor, null] => [t.mul(y).sin().add(s), null], s, x)[0],
            null,
          ],
          c!,
          xs!,
        )[0],
      theirs:
        "lambda c, xs: lax.scan(lambda s, x: (lax.scan(lambda t, y: (jnp.sin(t * y) + s, None), s, x)[0], None), c, xs)[0]",
    }),
    once,
  ),
  operation(
    "foriLoop",
    steps,
    (n) => ({
      inputs: [{ shape: [3] }],
      ours: (x) => a.foriLoop(1, n + 1, (i: Tensor, s: Tensor) => s.mul(i.astype("float32")).sin(), x!),
      theirs: `lambda x: lax.fori_loop(1, ${n + 1}, lambda i, s: jnp.sin(s * i), x)`,
    }),
    once,
  ),
  operation(
    "foriLoop without steps",
    fc.constant(0),
    () => ({
      inputs: [{ shape: [3] }],
      ours: (x) => a.foriLoop(2, 2, (_, s: Tensor) => s.mul(2), x!),
      theirs: "lambda x: x * 1",
    }),
    { ...once, runs: 1, linear: true },
  ),
  operation(
    "cond",
    fc.boolean(),
    (positive) => ({
      inputs: [{ shape: [3] }, { shape: [3] }],
      ours: (x, y) =>
        a.cond(
          x!
            .abs()
            .sum()
            .greater(positive ? -1 : 1e9),
          (u: Tensor) => u.sin().mul(y!),
          (u: Tensor) => u.mul(u).mul(u),
          x!,
        ),
      theirs: `lambda x, y: lax.cond(jnp.sum(jnp.abs(x)) > ${positive ? -1 : 1e9}, lambda u: jnp.sin(u) * y, lambda u: u * u * u, x)`,
    }),
    { ...once, runs: 4 },
  ),
  operation(
    "switchCase",
    fc.integer({ min: -1, max: 4 }),
    (index) => ({
      inputs: [{ shape: [2, 3] }],
      ours: (x) =>
        a.switchCase(
          a.sum(x!).mul(0).add(index).astype("int32"),
          [(u: Tensor) => u.sin(), (u: Tensor) => u.cos(), (u: Tensor) => u.mul(u)],
          x!,
        ),
      theirs: `lambda x: lax.switch((jnp.sum(x) * 0 + ${index}).astype("int32"), [jnp.sin, jnp.cos, lambda u: u * u], x)`,
    }),
    { ...once, runs: 5 },
  ),
  operation(
    "cond in a scan",
    steps,
    (n) => ({
      inputs: [{ shape: [3] }, { shape: [n, 3] }],
      ours: (c, xs) =>
        a.scan(
          (s: Tensor, x: Tensor): [Tensor, null] => [
            a.cond(
              x.sum().greater(0),
              () => s.mul(x).sin(),
              () => s.add(x),
            ),
            null,
          ],
          c!,
          xs!,
        )[0],
      theirs:
        "lambda c, xs: lax.scan(lambda s, x: (lax.cond(jnp.sum(x) > 0, lambda: jnp.sin(s * x), lambda: s + x), None), c, xs)[0]",
    }),
    once,
  ),
  operation(
    "LSTM cell over time",
    steps,
    (n) => ({
      inputs: [
        { shape: [n, 2, 3] },
        { shape: [3, 16], palette: "unit" },
        { shape: [4, 16], palette: "unit" },
      ],
      ours: (xs, wx, wh) => {
        const zeros = a.zeros([2, 4]);
        const cell = ([h, c]: [Tensor, Tensor], x: Tensor): [[Tensor, Tensor], Tensor] => {
          const [i, f, g, o] = a.split(x.matmul(wx!).add(h.matmul(wh!)), 4, 1) as [
            Tensor,
            Tensor,
            Tensor,
            Tensor,
          ];
          const next = f.sigmoid().mul(c).add(i.sigmoid().mul(g.tanh()));
          const out = o.sigmoid().mul(next.tanh());
          return [[out, next], out];
        };
        return a.scan(cell, [zeros, zeros], xs!)[1];
      },
      theirs: `lambda xs, wx, wh: lax.scan(lambda s, x: (lambda z: (lambda c: (lambda h: ((h, c), h))(nn.sigmoid(z[3]) * jnp.tanh(c)))(nn.sigmoid(z[1]) * s[1] + nn.sigmoid(z[0]) * jnp.tanh(z[2])))(jnp.split(x @ wx + s[0] @ wh, 4, 1)), (jnp.zeros((2, 4)), jnp.zeros((2, 4))), xs)[1]`,
    }),
    once,
  ),
];

export const loops: readonly Operation[] = [
  operation(
    "whileLoop",
    fc.constant(3),
    (d) => ({
      inputs: [
        { shape: [d], palette: "positive" },
        { shape: [], palette: "positive" },
      ],
      ours: (x, limit) =>
        a.whileLoop(
          (s: { v: Tensor; n: Tensor }) => s.v.sum().less(limit!.mul(100)),
          (s) => ({ v: s.v.mul(1.5), n: s.n.add(1) }),
          { v: x!, n: a.scalar(0, "int32") },
        ).v,
      theirs:
        "lambda x, limit: lax.while_loop(lambda s: jnp.sum(s[0]) < limit * 100, lambda s: (s[0] * 1.5, s[1] + 1), (x, jnp.int32(0)))[0]",
    }),
    once,
  ),
];
