import type { Tensor } from "aronnax";
import * as a from "aronnax";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { randomArray } from "../../oracle/arrays.js";
import { type Operation, vectorised } from "../../oracle/operations.js";
import { checkProperties, type Property } from "../../oracle/properties.js";
import { operations } from "../../oracle/table.js";

for (const [name, family] of Object.entries(operations)) {
  const runs = name === "elementwise" ? 1 : 3;
  checkProperties(
    `${name}, vectorised`,
    (family as readonly Operation[]).map((o) => vectorised({ ...o, runs })),
  );
}

const composed = (
  name: string,
  shapes: readonly number[][],
  ours: (...x: Tensor[]) => Tensor,
  theirs: string,
): Property => ({
  name,
  runs: 1,
  trials: fc.constant({
    inputs: Object.fromEntries(shapes.map((shape, i) => ["xyz"[i]!, randomArray("float32", shape, 11 + i)])),
    ours: (given) => ours(...shapes.map((_, i) => given["xyz"[i]!]!)),
    theirs,
    tolerance: 1e-4,
  }),
});

checkProperties("vmap with other transforms", [
  composed(
    "in vmap",
    [
      [2, 3, 4],
      [5, 4],
    ],
    (x, y) =>
      a.vmap(
        (u: Tensor) =>
          a.vmap((v: Tensor, w: Tensor) => u.matmul(v).mul(w.sum()), { in: [null, 0] })(u.sum(0), y!),
        { in: 1 },
      )(x!),
    "jax.vmap(lambda u: jax.vmap(lambda v, w: u @ v * w.sum(), in_axes=(None, 0))(u.sum(0), y), in_axes=1)(x)",
  ),
  composed(
    "of a gradient",
    [[5, 3], [3]],
    (x, y) =>
      a.vmap(
        a.grad((w: Tensor, u: Tensor) => w.mul(u).tanh().sum()),
        { in: [null, 0] },
      )(y!, x!),
    "jax.vmap(jax.grad(lambda w, u: jnp.sum(jnp.tanh(w * u))), in_axes=(None, 0))(y, x)",
  ),
  composed(
    "in a gradient",
    [[5, 3], [3]],
    (x, y) =>
      a.grad((w: Tensor) =>
        a
          .vmap((u: Tensor) => w.mul(u).tanh().sum())(x!)
          .sum(),
      )(y!),
    "jax.grad(lambda w: jnp.sum(jax.vmap(lambda u: jnp.sum(jnp.tanh(w * u)))(x)))(y)",
  ),
  composed(
    "to another output axis",
    [[5, 3]],
    (x) => a.vmap((u: Tensor) => a.stack([u, u.sin()]), { out: 1 })(x!),
    "jax.vmap(lambda u: jnp.stack([u, jnp.sin(u)]), out_axes=1)(x)",
  ),
  composed(
    "to the last output axis",
    [[5, 3]],
    (x) => a.vmap((u: Tensor) => a.stack([u, u.sin()]), { out: -1 })(x!),
    "jax.vmap(lambda u: jnp.stack([u, jnp.sin(u)]), out_axes=-1)(x)",
  ),
  composed(
    "of a constant result",
    [[5, 3]],
    (x) => a.vmap((_: Tensor) => a.ones([2]))(x!),
    "jax.vmap(lambda u: jnp.ones(2))(x)",
  ),
  composed(
    "in jit",
    [[5, 3]],
    (x) => a.jit((v: Tensor) => a.vmap((u: Tensor) => u.softmax())(v))(x!),
    "jax.vmap(nn.softmax)(x)",
  ),
  composed(
    "of random draws",
    [[4]],
    (x) => a.vmap((k: Tensor) => a.random.normal(k, [3]))(a.random.splitKey(7, x!.shape[0])),
    "jax.vmap(lambda k: jax.random.normal(k, (3,)))(jax.random.split(jax.random.PRNGKey(7), 4))",
  ),
]);

describe("vmap refuses", () => {
  it("axes of other lengths, naming both", () => {
    expect(() => a.vmap((x: Tensor, y: Tensor) => x.add(y))(a.zeros([2, 3]), a.zeros([3]))).toThrow(
      "vmap: axis 0 of argument 1, Tensor float32[3], has length 3, but that of argument 0, Tensor float32[2, 3] has 2",
    );
  });
  it("an axis out of range", () => {
    expect(() => a.vmap((x: Tensor) => x, { in: 2 })(a.zeros([2, 3]))).toThrow(
      "axis 2 of a tensor with 2 dimensions",
    );
  });
  it("to map nothing", () => {
    expect(() => a.vmap((x: Tensor) => x, { in: [null] })(a.zeros([2]))).toThrow(
      "no argument holds a Tensor with a mapped axis",
    );
  });
  it("another number of axes than arguments", () => {
    expect(() => a.vmap((x: Tensor) => x, { in: [0, 0] })(a.zeros([2]))).toThrow(
      "vmap: 2 axes for 1 arguments",
    );
  });
});
