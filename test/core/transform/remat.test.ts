import type { Tensor } from "aronnax";
import * as a from "aronnax";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { derivative, forward, operation, secondDerivatives, vectorised } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";

const policies = ["nothing", "everything", "dots", "dotsWithoutBatch", { names: ["hidden"] }] as const;
const label = (policy: (typeof policies)[number]): string => (typeof policy === "string" ? policy : "named");

/** Two layers, the inner one named. */
function block(x: Tensor, w: Tensor): Tensor {
  const hidden = a.checkpointName(x.matmul(w).tanh(), "hidden");
  return hidden.matmul(w).sin();
}

const theirs = "lambda x, w: jnp.sin(jnp.tanh(x @ w) @ w)";
const cases = fc.constant(0);
const options = { runs: 1, tolerance: 1e-4 };

const rematerialised = policies.flatMap((policy) => [
  operation(
    `policy ${label(policy)}`,
    cases,
    () => ({
      inputs: [{ shape: [2, 3] }, { shape: [3, 3] }],
      ours: (x, w) => a.remat(block, { policy })(x!, w!),
      theirs,
    }),
    options,
  ),
  operation(
    `policy ${label(policy)}, weights closed over`,
    cases,
    () => ({
      inputs: [{ shape: [2, 3] }, { shape: [3, 3] }],
      ours: (x, w) =>
        a.remat((y: Tensor) => block(y, w!), { policy })(
          a.remat((y: Tensor) => block(y, w!.mul(2)), { policy })(x!),
        ),
      theirs: `lambda x, w: (lambda f: f(f(x, w * 2), w))(${theirs})`,
    }),
    options,
  ),
]);

const inLoops = [
  operation(
    "in scan",
    cases,
    () => ({
      inputs: [{ shape: [2, 3] }, { shape: [4, 3, 3] }],
      ours: (x, ws) =>
        a.scan((h: Tensor, w: Tensor): [Tensor, null] => [a.remat(block)(h, w), null], x!, ws!)[0],
      theirs: `lambda x, ws: lax.scan(lambda h, w: ((${theirs})(h, w), None), x, ws)[0]`,
    }),
    options,
  ),
  operation(
    "around scan, inside remat",
    cases,
    () => ({
      inputs: [{ shape: [2, 3] }, { shape: [3, 3, 3] }],
      ours: (x, ws) =>
        a.remat((y: Tensor) =>
          a.remat(
            (z: Tensor) => a.scan((h: Tensor, w: Tensor): [Tensor, null] => [block(h, w), null], z, ws!)[0],
          )(y.sin()),
        )(x!),
      theirs: `lambda x, ws: lax.scan(lambda h, w: ((${theirs})(h, w), None), jnp.sin(x), ws)[0]`,
    }),
    options,
  ),
  // Under vmap its derivative reads what the policy kept in the batched loop.
  ...(["dots", { names: ["hidden"] }] as const).map((policy) =>
    operation(
      `gradient of a scan, ${label(policy)} kept`,
      cases,
      () => ({
        inputs: [{ shape: [2, 3] }, { shape: [4, 3, 3] }],
        ours: (x, ws) =>
          a.grad((y: Tensor) =>
            a
              .scan(
                (h: Tensor, w: Tensor): [Tensor, null] => [a.remat(block, { policy })(h, w), null],
                y,
                ws!,
              )[0]
              .sum(),
          )(x!),
        theirs: `lambda x, ws: jax.grad(lambda y: jnp.sum(lax.scan(lambda h, w: ((${theirs})(h, w), None), y, ws)[0]))(x)`,
      }),
      { ...options, tolerance: 1e-3, firstOnly: true },
    ),
  ),
];

const all = [...rematerialised, ...inLoops];
checkProperties("remat", [
  ...all.map(forward),
  ...all.map(derivative),
  ...secondDerivatives(all),
  ...all.map(vectorised),
]);

describe("remat", () => {
  const shapes = [a.ones([2, 3]), a.ones([3, 3])] as const;
  const products = (policy: a.RematPolicy): number => {
    const loss = (x: Tensor, w: Tensor): Tensor => a.remat(block, { policy })(x, w).sum();
    const { text } = a.jit((x: Tensor, w: Tensor) => a.valueAndGrad(loss)(x, w)).lower(...shapes);
    return [...text.matchAll(/stablehlo\.dot_general/g)].length;
  };

  it("computes again what its policy does not keep", () => {
    // Forwards two; backwards one for each with respect to x. What is not kept is computed again: the first product, the named
    // value's too, but not the second, whose result the sine's derivative needs only if it is not kept.
    expect(products("everything")).toBe(4);
    expect(products("nothing")).toBe(6);
    expect(products("dots")).toBe(4);
    expect(products({ names: ["hidden"] })).toBe(5);
  });

  it("holds the recomputation behind a barrier with the cotangent", () => {
    const loss = (x: Tensor, w: Tensor): Tensor => a.remat(block)(x, w).sum();
    const { text } = a.jit((x: Tensor, w: Tensor) => a.valueAndGrad(loss)(x, w)).lower(...shapes);
    expect(text.match(/stablehlo\.optimization_barrier (.*) :/)?.[1]?.split(",")).toHaveLength(3);
  });

  it("prints nothing of it without a derivative", () => {
    const { text } = a.jit((x: Tensor, w: Tensor) => a.remat(block)(x, w)).lower(...shapes);
    expect(text).not.toContain("optimization_barrier");
  });
});
