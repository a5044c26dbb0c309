import * as a from "aronnax";
import fc from "fast-check";
import { expect, it } from "vitest";
import { decode } from "../../../core/src/array/hostdata.js";
import { hostArray } from "../../oracle/arrays.js";
import { askOne } from "../../oracle/oracle.js";
import { checkProperties, type Property, type Trial } from "../../oracle/properties.js";

const seeds = fc.oneof(fc.nat(2 ** 31 - 1), fc.constantFrom(0, 1, 42));

/** Draws that must equal jax's bit for bit. */
function draw(
  name: string,
  trials: fc.Arbitrary<{
    ours: () => a.Tensor | readonly a.Tensor[];
    theirs: string;
    x64?: boolean;
    tolerance?: number;
  }>,
  runs = 2,
): Property {
  return {
    name,
    runs,
    trials: trials.map(
      ({ ours, theirs, x64, tolerance }): Trial => ({
        inputs: {},
        ours,
        theirs,
        x64,
        exact: tolerance === undefined,
        tolerance,
      }),
    ),
  };
}

const shaped = fc.tuple(seeds, fc.constantFrom([], [5], [2, 3, 4]));
const tuple = (shape: readonly number[]): string => `(${shape.map((d) => `${d},`).join("")})`;
const key = (seed: number): string => `jax.random.PRNGKey(${seed})`;
const { random } = a;

checkProperties("random numbers", [
  draw(
    "key",
    fc
      .integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
      .map((seed) => ({ ours: () => random.key(seed), theirs: key(seed) })),
  ),
  draw(
    "key of a 53-bit seed",
    fc
      .integer({ min: 2 ** 32, max: Number.MAX_SAFE_INTEGER })
      .map((seed) => ({ ours: () => random.key(seed), theirs: key(seed), x64: true })),
  ),
  draw(
    "splitKey",
    fc.tuple(seeds, fc.integer({ min: 1, max: 7 })).map(([seed, n]) => ({
      ours: () => random.splitKey(seed, n),
      theirs: `jax.random.split(${key(seed)}, ${n})`,
    })),
  ),
  draw(
    "splitKeys",
    fc.tuple(seeds, fc.integer({ min: 1, max: 4 })).map(([seed, n]) => ({
      ours: () => random.splitKeys(seed, n),
      theirs: `list(jax.random.split(${key(seed)}, ${n}))`,
    })),
  ),
  draw(
    "foldIn",
    fc.tuple(seeds, fc.nat(2 ** 32 - 1)).map(([seed, n]) => ({
      ours: () => random.foldIn(seed, n),
      theirs: `jax.random.fold_in(${key(seed)}, np.uint32(${n}))`,
    })),
  ),
  draw(
    "foldIn of a tensor",
    fc.tuple(seeds, fc.nat(1000)).map(([seed, n]) => ({
      ours: () => random.foldIn(seed, a.tensor(n, { dtype: "int32" })),
      theirs: `jax.random.fold_in(${key(seed)}, jnp.int32(${n}))`,
    })),
  ),
  ...(["uint8", "uint16", "uint32", "uint64"] as const).map((dtype) =>
    draw(
      `bits of ${dtype}`,
      shaped.map(([seed, shape]) => ({
        ours: () => random.bits(seed, shape, { dtype }),
        theirs: `jax.random.bits(${key(seed)}, ${tuple(shape)}, "${dtype}")`,
        x64: dtype === "uint64",
      })),
    ),
  ),
  ...(["float32", "float16", "bfloat16", "float64"] as const).flatMap((dtype) => [
    draw(
      `uniform of ${dtype}`,
      shaped.map(([seed, shape]) => ({
        ours: () => random.uniform(seed, shape, { dtype }),
        theirs: `jax.random.uniform(${key(seed)}, ${tuple(shape)}, "${dtype}")`,
        x64: dtype === "float64",
      })),
    ),
    draw(
      `uniform of ${dtype} in a range`,
      shaped.map(([seed, shape]) => ({
        ours: () => random.uniform(seed, shape, { dtype, low: -0.3, high: 1.7 }),
        theirs: `jax.random.uniform(${key(seed)}, ${tuple(shape)}, "${dtype}", -0.3, 1.7)`,
        x64: dtype === "float64",
      })),
    ),
    draw(
      `normal of ${dtype}`,
      shaped.map(([seed, shape]) => ({
        ours: () => random.normal(seed, shape, { dtype }),
        theirs: `jax.random.normal(${key(seed)}, ${tuple(shape)}, "${dtype}")`,
        x64: dtype === "float64",
      })),
    ),
    draw(
      `truncatedNormal of ${dtype}`,
      shaped.map(([seed, shape]) => ({
        ours: () => random.truncatedNormal(seed, shape, { dtype, low: -1, high: 2 }),
        theirs: `jax.random.truncated_normal(${key(seed)}, -1, 2, ${tuple(shape)}, "${dtype}")`,
        x64: dtype === "float64",
      })),
    ),
    draw(
      `gumbel of ${dtype}`,
      shaped.map(([seed, shape]) => ({
        ours: () => random.gumbel(seed, shape, { dtype }),
        theirs: `jax.random.gumbel(${key(seed)}, ${tuple(shape)}, "${dtype}")`,
        x64: dtype === "float64",
      })),
    ),
  ]),
  draw(
    "bernoulli",
    shaped.map(([seed, shape]) => ({
      ours: () => random.bernoulli(seed, 0.3, shape),
      theirs: `jax.random.bernoulli(${key(seed)}, 0.3, ${tuple(shape)})`,
    })),
  ),
  draw(
    "categorical",
    fc.tuple(seeds, fc.constantFrom([5], [2, 3, 4])).map(([seed, shape]) => ({
      ours: () => random.categorical(seed, random.normal(seed + 1, shape)),
      theirs: `jax.random.categorical(${key(seed)}, jax.random.normal(${key(seed + 1)}, ${tuple(shape)}))`,
    })),
  ),
  ...(["int8", "int32", "uint8", "int64"] as const).map((dtype) =>
    draw(
      `integers of ${dtype}`,
      fc
        .tuple(shaped, fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 80 }))
        .map(([[seed, shape], low, span]) => ({
          ours: () => random.integers(seed, shape, low, low + span, { dtype }),
          theirs: `jax.random.randint(${key(seed)}, ${tuple(shape)}, ${low}, ${low + span}, "${dtype}")`,
          x64: dtype === "int64",
        })),
    ),
  ),
  draw(
    "integers of the whole range",
    fc.constant({
      ours: () => random.integers(3, [100], 0, 256, { dtype: "uint8" }),
      theirs: `jax.random.randint(${key(3)}, (100,), 0, 256, "uint8")`,
    }),
    1,
  ),
  draw(
    "permutation of a range",
    fc.tuple(seeds, fc.constantFrom(1, 5, 2000)).map(([seed, n]) => ({
      ours: () => random.permutation(seed, n),
      theirs: `jax.random.permutation(${key(seed)}, ${n})`,
    })),
    3,
  ),
  draw(
    "permutation of slices",
    seeds.map((seed) => ({
      ours: () => random.permutation(seed, a.iota([3, 4], 1), 1),
      theirs: `jax.random.permutation(${key(seed)}, lax.broadcasted_iota(jnp.int32, (3, 4), 1), 1)`,
    })),
    1,
  ),
]);

it.each([
  [2, 3],
  [5, 6],
  [5, 5.0001],
  [9, Number.POSITIVE_INFINITY],
  [30, 40],
  [-40, -4],
])("truncatedNormal far in a tail has scipy's quantiles: (%s, %s)", async (low, high) => {
  const drawn = Array.from((await random.truncatedNormal(7, [5000], { low, high }).data()) as Float32Array);
  const u = hostArray(Array.from((await random.uniform(7, [5000]).data()) as Float32Array), "float64");
  const [a0, b0] = low > 0 ? [low, high] : [-high, -low];
  const special = `(lambda s: s.ndtri_exp(s.log_ndtr(-${a0}) + np.log1p(u * np.expm1(s.log_ndtr(-${b0 === Number.POSITIVE_INFINITY ? "np.inf" : b0}) - s.log_ndtr(-${a0})))))(__import__("scipy.special").special)`;
  const [answer] = await askOne(special, { u }, { jit: false, x64: true });
  const expected = decode(answer!.data, "float64");
  for (const [i, x] of drawn.entries()) {
    const want = (low > 0 ? -1 : 1) * Number(expected[i]);
    expect(Math.abs(x - want), `${x} for ${want}`).toBeLessThan(4e-7 * Math.abs(want));
  }
  const steps = (b0 - a0) / 4.8e-7;
  expect(new Set(drawn).size).toBeGreaterThan(Math.min(4500, steps / 2));
  expect(drawn.every((x) => x > low && x < high)).toBe(true);
});

it("compiles keys made of keys made of keys in seconds", async () => {
  let key: a.Tensor = random.foldIn(5, a.scalar(3, "int32"));
  for (let i = 0; i < 5; i++) key = random.splitKeys(random.foldIn(key, i), 3)[1]!;
  const started = performance.now();
  await a
    .jit((k: a.Tensor) => random.normal(random.splitKeys(random.foldIn(k, 1))[0]!, [128, 4]))(key)
    .data();
  expect(performance.now() - started).toBeLessThan(60_000);
}, 120_000);
