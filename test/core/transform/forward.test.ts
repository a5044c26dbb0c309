import type { Tensor } from "aronnax";
import * as a from "aronnax";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { randomArray } from "../../oracle/arrays.js";
import { checkProperties, type Property } from "../../oracle/properties.js";

const property = (
  name: string,
  shapes: Readonly<Record<string, readonly number[]>>,
  ours: (t: Readonly<Record<string, Tensor>>) => Tensor | readonly Tensor[],
  theirs: string,
  tolerance = 1e-4,
): Property => ({
  name,
  runs: 1,
  trials: fc.constant({
    inputs: Object.fromEntries(
      Object.entries(shapes).map(([key, shape], i) => [key, randomArray("float32", shape, 31 + i)]),
    ),
    ours,
    theirs,
    tolerance,
  }),
});

const f = (x: Tensor, w: Tensor): Tensor => x.matmul(w).tanh().mul(x.sum());
const pythonF = "lambda x, w: jnp.tanh(x @ w) * jnp.sum(x)";
const energy = (x: Tensor): Tensor => x.matmul(x.mT).sin().sum().add(x.pow(3).sum());
const pythonEnergy = "lambda x: jnp.sum(jnp.sin(x @ x.T)) + jnp.sum(x ** 3)";

/** log(1 + e^x) with the derivative written by hand, doubled so that it cannot be mistaken for the automatic one. */
const doubled = a.customVjp(
  (x: Tensor, scale: Tensor) => a.softplus(x).mul(scale),
  (x: Tensor, scale: Tensor): [Tensor, { x: Tensor; scale: Tensor }] => [
    a.softplus(x).mul(scale),
    { x, scale },
  ],
  ({ x, scale }, g: Tensor): [Tensor, Tensor | null] => [g.mul(x.sigmoid()).mul(scale).mul(2), null],
);
const pythonDoubled = `(lambda c: (c.defvjp(lambda x, s: (nn.softplus(x) * s, (x, s)), lambda r, g: (2 * g * nn.sigmoid(r[0]) * r[1], jnp.zeros_like(r[1]))), c)[1])(jax.custom_vjp(lambda x, s: nn.softplus(x) * s))`;

checkProperties("forward mode", [
  property(
    "jvp",
    { x: [2, 3], w: [3, 3], u: [2, 3], v: [3, 3] },
    ({ x, w, u, v }) => a.jvp(f, [x!, w!], [u!, v!]),
    `jax.jvp(${pythonF}, (x, w), (u, v))`,
  ),
  property(
    "jvp of a scan",
    { x: [3], w: [4, 3], u: [3], v: [4, 3] },
    ({ x, w, u, v }) =>
      a.jvp(
        (c: Tensor, xs: Tensor) =>
          a.scan((s: Tensor, y: Tensor): [Tensor, null] => [s.mul(y).sin(), null], c, xs)[0],
        [x!, w!],
        [u!, v!],
      ),
    "jax.jvp(lambda c, xs: lax.scan(lambda s, y: (jnp.sin(s * y), None), c, xs)[0], (x, w), (u, v))",
  ),
  property(
    "jvp of jvp",
    { x: [3], u: [3] },
    ({ x, u }) => a.jvp((y: Tensor) => a.jvp((z: Tensor) => z.sin().mul(z), [y], [u!])[1], [x!], [u!]),
    "jax.jvp(lambda y: jax.jvp(lambda z: jnp.sin(z) * z, (y,), (u,))[1], (x,), (u,))",
  ),
  property(
    "gradient of jvp",
    { x: [3], u: [3] },
    ({ x, u }) => a.grad((y: Tensor) => a.jvp((z: Tensor) => z.sin().mul(z), [y], [u!])[1].sum())(x!),
    "jax.grad(lambda y: jnp.sum(jax.jvp(lambda z: jnp.sin(z) * z, (y,), (u,))[1]))(x)",
  ),
  property(
    "Jacobian by vmap of jvp",
    { x: [3] },
    ({ x }) =>
      a.vmap((e: Tensor) => a.jvp((z: Tensor) => z.sin().mul(z.sum()), [x!], [e])[1], { out: 1 })(a.eye(3)),
    "jax.jacfwd(lambda z: jnp.sin(z) * jnp.sum(z))(x)",
  ),
  property(
    "Jacobian by vmap of vjp",
    { x: [3] },
    ({ x }) => a.vmap((e: Tensor) => a.vjp((z: Tensor) => z.sin().mul(z.sum()), x!)[1](e)[0]!)(a.eye(3)),
    "jax.jacrev(lambda z: jnp.sin(z) * jnp.sum(z))(x)",
  ),
  property(
    "hessianVectorProduct",
    { x: [2, 3], u: [2, 3] },
    ({ x, u }) => a.hessianVectorProduct(energy)(x!, u!),
    `jax.jvp(jax.grad(${pythonEnergy}), (x,), (u,))[1]`,
  ),
  property(
    "hessianVectorProduct of a tree",
    { x: [3], y: [2], u: [3], v: [2] },
    ({ x, y, u, v }) => {
      const { p, q } = a.hessianVectorProduct((t: { p: Tensor; q: Tensor }) =>
        t.p.sum().mul(t.q.pow(2).sum()).sin(),
      )({ p: x!, q: y! }, { p: u!, q: v! });
      return [p, q];
    },
    "jax.jvp(jax.grad(lambda t: jnp.sin(jnp.sum(t[0]) * jnp.sum(t[1] ** 2))), ((x, y),), ((u, v),))[1]",
  ),
  property(
    "third derivative",
    { x: [3] },
    ({ x }) => {
      const d = (g: (y: Tensor) => Tensor) => (y: Tensor) => a.grad((z: Tensor) => g(z).sum())(y);
      return d(d(d((y: Tensor) => y.tanh())))(x!);
    },
    "(lambda d: d(d(d(jnp.tanh)))(x))(lambda g: jax.grad(lambda z: jnp.sum(g(z))))",
  ),
]);

/** A loop whose number of steps follows from the values. */
const grown = (x: Tensor, y: Tensor): Tensor =>
  a.whileLoop(
    ({ v }: { v: Tensor; n: Tensor }) => v.abs().sum().less(50),
    ({ v, n }) => ({ v: v.mul(1.5).add(y.mul(v).sin()), n: n.add(1) }),
    { v: x, n: a.scalar(0, "int32") },
  ).v;
const pythonGrown =
  "(lambda x, y: lax.while_loop(lambda s: jnp.sum(jnp.abs(s[0])) < 50, lambda s: (s[0] * 1.5 + jnp.sin(y * s[0]), s[1] + 1), (x, jnp.int32(0)))[0])";
const loops: readonly [string, (x: Tensor, y: Tensor) => Tensor, string][] = [
  ["whileLoop", grown, pythonGrown],
  [
    "whileLoop in a scan",
    (x, y) => a.scan((s: Tensor, v: Tensor): [Tensor, Tensor] => [grown(s, v.add(y)).div(20), s], x, y)[1],
    `(lambda x, y: lax.scan(lambda s, v: (${pythonGrown}(s, v + y) / 20, s), x, y)[1])`,
  ],
  [
    "whileLoop in remat, in a whileLoop",
    (x, y) =>
      a.whileLoop(
        (s: Tensor) => s.abs().sum().less(1000),
        (s) => a.remat(grown)(s.div(30), y).mul(s).add(1),
        x,
      ),
    `(lambda x, y: lax.while_loop(lambda s: jnp.sum(jnp.abs(s)) < 1000, lambda s: ${pythonGrown}(s / 30, y) * s + 1, x))`,
  ],
];
checkProperties(
  "forward mode of loops",
  loops.flatMap(([name, ours, theirs]) => [
    property(
      name,
      { x: [3], y: [3], u: [3], v: [3] },
      ({ x, y, u, v }) => a.jvp(ours, [x!, y!], [u!, v!]),
      `jax.jvp(${theirs}, (x, y), (u, v))`,
    ),
    property(
      `${name}, twice`,
      { x: [3], y: [3], u: [3] },
      ({ x, y, u }) => a.jvp((z: Tensor) => a.jvp((q: Tensor) => ours(q, y!), [z], [u!])[1], [x!], [u!])[1],
      `jax.jvp(lambda z: jax.jvp(lambda q: ${theirs}(q, y), (z,), (u,))[1], (x,), (u,))[1]`,
      1e-3,
    ),
    property(
      `${name}, in vmap`,
      { x: [4, 3], y: [3], u: [3] },
      ({ x, y, u }) => a.vmap((z: Tensor) => a.jvp((q: Tensor) => ours(z, q), [y!], [u!])[1])(x!),
      `jax.vmap(lambda z: jax.jvp(lambda q: ${theirs}(z, q), (y,), (u,))[1])(x)`,
    ),
    property(
      `${name}, of vmap`,
      { x: [4, 3], y: [3], u: [3] },
      ({ x, y, u }) => a.jvp((q: Tensor) => a.vmap((z: Tensor) => ours(z, q))(x!), [y!], [u!])[1],
      `jax.jvp(lambda q: jax.vmap(lambda z: ${theirs}(z, q))(x), (y,), (u,))[1]`,
    ),
  ]),
);

checkProperties("trees of results", [
  property(
    "jvp",
    { x: [3], y: [3], u: [3], v: [3] },
    ({ x, y, u, v }) => {
      const f2 = (p: Tensor, q: Tensor) => ({ product: p.mul(q), list: [q.sin()], place: p.argmax() });
      const [at, along] = a.jvp(f2, [x!, y!], [u!, v!]);
      return [at.product, at.list[0]!, along.product, along.list[0]!];
    },
    "jax.jvp(lambda p, q: (p * q, jnp.sin(q)), (x, y), (u, v))",
  ),
  property(
    "vjp",
    { x: [3], y: [3], u: [3], v: [3] },
    ({ x, y, u, v }) => {
      const f2 = (p: Tensor, q: Tensor) => ({ product: p.mul(q), list: [q.sin()], place: p.argmax() });
      const [{ place }, pull] = a.vjp(f2, x!, y!);
      return pull({ product: u!, list: [v!], place });
    },
    "jax.vjp(lambda p, q: (p * q, jnp.sin(q)), x, y)[1]((u, v))",
  ),
  property(
    "jvp through a customVjp whose backward has a scan",
    { x: [3], y: [3], u: [3] },
    ({ x, y, u }) => {
      const chain = (p: Tensor, q: Tensor): Tensor =>
        a.scan((s: Tensor, v: Tensor): [Tensor, null] => [s.mul(v).sin(), null], p, q)[0];
      const declared = a.customVjp(
        chain,
        (p: Tensor, q: Tensor): [Tensor, [Tensor, Tensor]] => [chain(p, q), [p, q]],
        ([p, q], g: Tensor) => a.vjp(chain, p, q)[1](g),
      );
      return a.jvp((z: Tensor) => grown(declared(z, y!), y!), [x!], [u!])[1];
    },
    `jax.jvp(lambda z: ${pythonGrown}(lax.scan(lambda s, v: (jnp.sin(s * v), None), z, y)[0], y), (x,), (u,))[1]`,
  ),
]);

checkProperties("customVjp", [
  property("value", { x: [4], s: [] }, ({ x, s }) => doubled(x!, s!), `(${pythonDoubled})(x, s)`),
  property(
    "gradient",
    { x: [4], s: [] },
    ({ x, s }) => a.grad((y: Tensor) => doubled(y, s!).sum())(x!),
    `jax.grad(lambda y: jnp.sum((${pythonDoubled})(y, s)))(x)`,
  ),
  property(
    "gradient of the argument without one",
    { x: [4], s: [] },
    ({ x, s }) => a.grad((t: Tensor) => doubled(x!, t).sum())(s!),
    `jax.grad(lambda t: jnp.sum((${pythonDoubled})(x, t)))(s)`,
  ),
  property(
    "second derivative",
    { x: [4], s: [] },
    ({ x, s }) =>
      a.grad((y: Tensor) =>
        a
          .grad((z: Tensor) => doubled(z, s!).sum())(y)
          .sum(),
      )(x!),
    `jax.grad(lambda y: jnp.sum(jax.grad(lambda z: jnp.sum((${pythonDoubled})(z, s)))(y)))(x)`,
  ),
  property(
    "in vmap",
    { x: [5, 4], s: [] },
    ({ x, s }) => a.vmap((y: Tensor) => a.grad((z: Tensor) => doubled(z, s!).sum())(y))(x!),
    `jax.vmap(lambda y: jax.grad(lambda z: jnp.sum((${pythonDoubled})(z, s)))(y))(x)`,
  ),
  property(
    "gradient of vmap",
    { x: [5, 4], s: [] },
    ({ x, s }) =>
      a.grad((y: Tensor) =>
        a
          .vmap((z: Tensor) => doubled(z, s!))(y)
          .sum(),
      )(x!),
    `jax.grad(lambda y: jnp.sum(jax.vmap(lambda z: (${pythonDoubled})(z, s))(y)))(x)`,
  ),
  property(
    "in remat and scan",
    { x: [4], s: [3] },
    ({ x, s }) =>
      a.grad((y: Tensor) =>
        a.scan((c: Tensor, t: Tensor): [Tensor, null] => [a.remat(doubled)(c, t), null], y, s!)[0].sum(),
      )(x!),
    `jax.grad(lambda y: jnp.sum(lax.scan(lambda c, t: ((${pythonDoubled})(c, t), None), y, s)[0]))(x)`,
  ),
]);

describe("mistakes", () => {
  it("a tangent of another shape", () => {
    expect(() => a.jvp((x: Tensor) => x, [a.ones([2])], [a.ones([3])])).toThrow(
      "jvp: a tangent of Tensor float32[3] for Tensor float32[2]",
    );
  });
  it("a cotangent of another type or structure", () => {
    const [, pull] = a.vjp((x: Tensor) => x.mul(2), a.ones([2]));
    expect(() => pull(a.ones([2], { dtype: "float16" }))).toThrow(
      "vjp: a cotangent of Tensor float16[2] for an output of Tensor float32[2]",
    );
    expect(() => pull([a.ones([2]), a.ones([2])] as never)).toThrow("vjp: 2 cotangent Tensors for 1");
  });
  it("a scan whose state changes its type", () => {
    const step = (s: Tensor): [Tensor, null] => [s.astype("float16"), null];
    expect(() => a.scan(step, a.ones([2]), null, { length: 3 })).toThrow(
      "scan: the state went in as Tensor float32[2] and came back as Tensor float16[2]",
    );
  });
  it("a scan without a length", () => {
    expect(() => a.scan((s: Tensor): [Tensor, null] => [s, null], a.ones([2]), null)).toThrow(
      "scan: an unknown number of steps",
    );
  });
  it("sequences of other lengths", () => {
    expect(() =>
      a.scan((s: Tensor, _: Tensor[]): [Tensor, Tensor[]] => [s, []], a.ones([2]), [
        a.ones([3]),
        a.ones([4]),
      ]),
    ).toThrow("has 4 steps where 3 were expected");
  });
  it("branches of other shapes", () => {
    expect(() =>
      a.cond(
        a.ones([]).greater(0),
        () => a.ones([2]),
        () => a.ones([3]),
      ),
    ).toThrow("cond: the result is Tensor float32[3] in branch 0 and Tensor float32[2] in branch 1");
  });
  it("a condition that is no scalar", () => {
    expect(() =>
      a.cond(
        a.ones([2]).greater(0),
        () => a.ones([2]),
        () => a.ones([2]),
      ),
    ).toThrow("cond: the condition is Tensor bool[2]");
  });
  it("a loop condition that is no bool", () => {
    expect(() =>
      a.whileLoop(
        (s: Tensor) => s.sum(),
        (s) => s,
        a.ones([2]),
      ),
    ).toThrow("whileLoop: the condition returned Tensor float32[]");
  });
  it("a derivative through a while loop, naming its line", () => {
    const f2 = (x: Tensor): Tensor =>
      a
        .whileLoop(
          (s: Tensor) => s.sum().less(10),
          (s) => s.mul(2),
          x,
        )
        .sum();
    expect(() => a.grad(f2)(a.ones([2]))).toThrow(
      /while \(.*forward\.test\.ts:\d+:\d+\) has no reverse derivative/,
    );
  });
  it("a customVjp whose backward forgets an argument", () => {
    const wrong = a.customVjp(
      (x: Tensor, y: Tensor) => x.mul(y),
      (x: Tensor, y: Tensor): [Tensor, null] => [x.mul(y), null],
      (() => [null]) as never,
    );
    expect(() => a.grad((x: Tensor) => wrong(x, x).sum())(a.ones([2]))).toThrow(
      "backward returned 1 cotangents for 2 arguments",
    );
  });
});

describe("jvp of a function with a derivative of its own", () => {
  const withBackward = (backward: (x: Tensor, g: Tensor) => Tensor) =>
    a.customVjp(
      (x: Tensor) => x.sin(),
      (x: Tensor): [Tensor, Tensor] => [x.sin(), x],
      (x, g: Tensor): [Tensor] => [backward(x, g)],
    );
  const x = a.tensor([0.5, 2]);
  const push = (backward: (x: Tensor, g: Tensor) => Tensor): Tensor =>
    a.jvp(withBackward(backward), [x], [a.tensor([3, -4])])[1];

  it.each<[string, (x: Tensor, g: Tensor) => Tensor]>([
    ["clipped", (_, g) => g.clip(-1, 1)],
    ["squared", (_, g) => g.square()],
    ["its sign", (_, g) => g.sign()],
    ["stopped", (y, g) => g.stopGradient().mul(y)],
    ["chosen by itself", (y, g) => a.where(g.greater(0), g, g.mul(y))],
    ["moved", (y, g) => g.mul(y).add(1)],
    ["divided by its norm", (_, g) => g.div(g.norm())],
    ["rounded", (_, g) => g.round()],
    ["through integers", (_, g) => g.astype("int32").astype("float32")],
  ])("is refused where the cotangent comes back %s", (_, backward) => {
    expect(() => push(backward)).toThrow(/customVjp.*not linear in the cotangent/);
  });

  it.each<[string, (x: Tensor, g: Tensor) => Tensor, (x: number, g: number) => number]>([
    ["as it is", (_, g) => g, (_, g) => g],
    ["scaled", (y, g) => g.mul(y.cos()).mul(2), (y, g) => 2 * g * Math.cos(y)],
    ["masked", (y, g) => a.where(y.greater(1), g, 0), (y, g) => (y > 1 ? g : 0)],
    ["summed and spread", (_, g) => g.sum().add(g), (_, g) => -1 + g],
    ["in half precision", (_, g) => g.astype("bfloat16").astype("float32"), (_, g) => g],
    ["through a loop", (y, g) => a.foriLoop(0, 2, (_, v: Tensor) => v.mul(y), g), (y, g) => g * y * y],
  ])("is right where the cotangent comes back %s", async (_, backward, expected) => {
    const ours = (await push(backward).array()) as number[];
    const wanted = [expected(0.5, 3), expected(2, -4)];
    for (const [i, y] of ours.entries()) expect(y).toBeCloseTo(wanted[i]!, 4);
  });
});
