/** Random programs of 5 to 30 operations: their values, gradients and vectorised forms are jax's, and gradients those of differences. */

import type { Tensor } from "aronnax";
import * as a from "aronnax";
import fc from "fast-check";
import { expect, it } from "vitest";
import { generator, randomArray, toTensor } from "../../oracle/arrays.js";
import { derivative, forward, type Operation, operation, vectorised } from "../../oracle/operations.js";
import { checkProperties, seed } from "../../oracle/properties.js";

type Step = readonly [ours: (x: Tensor, y: Tensor) => Tensor, theirs: (x: string, y: string) => string];

/** Of two [3, 3] matrices another. Bounded, so that long programs stay within float32. */
const steps: readonly Step[] = [
  [(x, y) => x.matmul(y).tanh(), (x, y) => `jnp.tanh(${x} @ ${y})`],
  [(x, y) => x.add(y).sin(), (x, y) => `jnp.sin(${x} + ${y})`],
  [(x, y) => x.mul(y.sigmoid()), (x, y) => `(${x} * nn.sigmoid(${y}))`],
  [(x, y) => x.sub(y.mean(0)), (x, y) => `(${x} - jnp.mean(${y}, 0))`],
  [(x) => x.softmax(-1), (x) => `nn.softmax(${x}, -1)`],
  [
    (x, y) => a.concatenate([x.slice([1]), y.slice([0, 1])]),
    (x, y) => `jnp.concatenate([${x}[1:], ${y}[:1]])`,
  ],
  [(x) => x.mT, (x) => `${x}.T`],
  [(x, y) => a.einsum("ij,kj->ki", x, y).mul(0.5), (x, y) => `(jnp.einsum("ij,kj->ki", ${x}, ${y}) * 0.5)`],
  [(x, y) => a.where(a.greater(x, y), x.cos(), y), (x, y) => `jnp.where(${x} > ${y}, jnp.cos(${x}), ${y})`],
  [
    (x) => a.flip(x, 0).take(a.tensor([2, 0, 1], { dtype: "int32" }), 1),
    (x) => `${x}[::-1][:, jnp.array([2, 0, 1])]`,
  ],
  [
    (x) => x.reshape([9]).reshape([3, 3]).square().add(1).rsqrt(),
    (x) => `lax.rsqrt(jnp.reshape(${x}, (9,)).reshape(3, 3) ** 2 + 1)`,
  ],
  [
    (x) => x.sub(x.logsumexp(1, { keepDims: true })).exp(),
    (x) => `jnp.exp(${x} - nn.logsumexp(${x}, 1, keepdims=True))`,
  ],
  [
    (x, y) =>
      a
        .scan((c: Tensor, r: Tensor): [Tensor, Tensor] => [c.mul(r).sin(), c.add(r)], y.sum(0).tanh(), x)[1]
        .tanh(),
    (x, y) => `jnp.tanh(lax.scan(lambda c, r: (jnp.sin(c * r), c + r), jnp.tanh(jnp.sum(${y}, 0)), ${x})[1])`,
  ],
  [
    (x, y) =>
      a
        .remat((u: Tensor) => u.mul(y).tanh().exp())(x)
        .mul(0.3),
    (x, y) => `(jnp.exp(jnp.tanh(${x} * ${y})) * 0.3)`,
  ],
];

function program(length: number, choice: number): { ours: (x: Tensor, y: Tensor) => Tensor; theirs: string } {
  const next = generator(choice);
  const below = (n: number): number => Math.floor(next() * n);
  const moves = Array.from({ length }, (_, i) => [below(steps.length), below(i + 2), below(i + 2)] as const);
  const ours = (x: Tensor, y: Tensor): Tensor => {
    const values = [x, y];
    for (const [step, i, j] of moves) values.push(steps[step]![0](values[i]!, values[j]!));
    return values.at(-1)!.add(values.at(-2)!.mul(0.1));
  };
  const names = ["x", "y"];
  const lets = moves.map(([step, i, j], k) => {
    const code = steps[step]![1](names[i]!, names[j]!);
    names.push(`v${k}`);
    return `(v${k} := ${code})`;
  });
  return { ours, theirs: `lambda x, y: (${lets.join(", ")}, ${names.at(-1)} + ${names.at(-2)} * 0.1)[-1]` };
}

const programs: Operation = operation(
  "random programs",
  fc.tuple(fc.integer({ min: 5, max: 30 }), fc.nat(2 ** 30)),
  ([length, choice]) => ({ inputs: [{ shape: [3, 3] }, { shape: [3, 3] }], ...program(length, choice) }),
  { runs: 6, tolerance: 2e-4 },
);

checkProperties("composition", [
  forward(programs),
  derivative({ ...programs, runs: 5 }),
  vectorised({ ...programs, runs: 4 }),
]);

it("gradients are the limits of differences", async () => {
  const h = 1e-5;
  const found = await Promise.all(
    fc
      .sample(fc.tuple(fc.integer({ min: 5, max: 15 }), fc.nat(2 ** 30)), { seed, numRuns: 4 })
      .map(async ([length, choice]) => {
        const { ours } = program(length, choice);
        const [x, y, u] = [1, 2, 3].map((s) => toTensor(randomArray("float64", [3, 3], choice + s))) as [
          Tensor,
          Tensor,
          Tensor,
        ];
        const f = (v: Tensor): Tensor => ours(v, y).sum();
        const along = a.grad(f)(x).mul(u).sum();
        const difference = f(x.add(u.mul(h)))
          .sub(f(x.sub(u.mul(h))))
          .div(2 * h);
        return [await along.item(), await difference.item()] as const;
      }),
  );
  for (const [along, difference] of found) expect(along).toBeCloseTo(difference, 5);
});
