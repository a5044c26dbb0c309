/**
 * Operations with the Python function that each must equal. One row serves every transform: its value, its derivative, its second
 * derivative and its vectorised form are compared with jax's.
 */
import fc from "fast-check";
import type { Tensor } from "../../core/src/array/tensor.js";
import type { DType } from "../../core/src/graph/dtype.js";
import { isFloat } from "../../core/src/graph/dtype.js";
import { grad, vjp } from "../../core/src/transform/vjp.js";
import { vmap } from "../../core/src/transform/vmap.js";
import { type HostArray, type Palette, randomArray, seeds, toTensor } from "./arrays.js";
import type { Property, Trial } from "./properties.js";

/** An operation on given arrays. */
export interface Case {
  readonly inputs: readonly Input[];
  readonly arrays: readonly HostArray[];
  readonly ours: (...arrays: Tensor[]) => Tensor;
  /** A Python function of as many arrays. */
  readonly theirs: string;
}

export interface Operation {
  readonly name: string;
  readonly cases: fc.Arbitrary<Case>;
  readonly runs?: number;
  readonly tolerance?: number;
  /** No derivative, or none worth comparing. */
  readonly forwardOnly?: boolean;
  /** The second derivative is zero everywhere: that of its square is compared instead, which goes through the same rules. */
  readonly linear?: boolean;
  /** Its derivative is declared to be another than that of its values: rounding, stopGradient. */
  readonly declared?: boolean;
  /** jax has no second derivative of it. */
  readonly firstOnly?: boolean;
}

export const letter = (i: number): string => String.fromCharCode(97 + i);

export interface Input {
  readonly shape: readonly number[];
  readonly palette?: Palette;
  readonly dtype?: DType;
}

/** A case of arrays drawn for the given shapes. */
export function caseOf(inputs: readonly Input[], seed: number, ours: Case["ours"], theirs: string): Case {
  const arrays = inputs.map(({ shape, palette = "rough", dtype = "float32" }, i) =>
    randomArray(dtype, shape, seed + i, palette),
  );
  return { inputs, arrays, ours, theirs };
}

/** An operation whose cases follow from `parameters` and a seed. */
export function operation<P>(
  name: string,
  parameters: fc.Arbitrary<P>,
  make: (parameters: P) => {
    inputs: readonly Input[];
    ours: Case["ours"];
    theirs: string;
  },
  options: Partial<Operation> = {},
): Operation {
  return {
    name,
    cases: fc.tuple(parameters, seeds).map(([p, seed]) => {
      const { inputs, ours, theirs } = make(p);
      return caseOf(inputs, seed, ours, theirs);
    }),
    ...options,
  };
}

function named(arrays: readonly HostArray[]): Record<string, HostArray> {
  return Object.fromEntries(arrays.map((array, i) => [letter(i), array]));
}

const tensors = (given: Readonly<Record<string, Tensor>>, count: number): Tensor[] =>
  Array.from({ length: count }, (_, i) => given[letter(i)]!);

function trialOf(
  { arrays }: Case,
  extra: Readonly<Record<string, HostArray>>,
  ours: (arrays: Tensor[], extra: Readonly<Record<string, Tensor>>) => Tensor | readonly Tensor[],
  theirs: string,
  tolerance: number | undefined,
): Trial {
  const inputs = { ...named(arrays), ...extra };
  return {
    inputs,
    ours: (given) => ours(tensors(given, arrays.length), given),
    theirs,
    tolerance,
    x64: Object.values(inputs).some((a) => a.dtype.endsWith("64") && a.dtype !== "complex64"),
  };
}

/** The operation itself equals jax's. */
export function forward({ name, cases, runs, tolerance }: Operation): Property {
  return {
    name,
    runs,
    trials: cases.map((c) => {
      const names = c.arrays.map((_, i) => letter(i)).join(", ");
      return trialOf(c, {}, (arrays) => c.ours(...arrays), `(${c.theirs})(${names})`, tolerance);
    }),
  };
}

/** The cotangent that a derivative is tested with: of the output's shape and type. */
function cotangentOf(c: Case, seed: number): HostArray {
  const { shape, dtype } = c.ours(...c.arrays.map(toTensor));
  return randomArray(dtype, shape, seed, "moderate");
}

function differentiated(c: Case): number[] {
  return c.arrays.flatMap((array, i) => (isFloat(array.dtype) ? [i] : []));
}

/** `vjp` of the operation equals `jax.vjp`. */
export function derivative({ name, cases, runs, tolerance }: Operation): Property {
  return {
    name: `derivative of ${name}`,
    runs,
    trials: fc.tuple(cases, seeds).map(([c, seed]) => {
      const wrt = differentiated(c);
      const parameters = wrt.map((i) => `p${i}`).join(", ");
      const all = c.arrays.map((_, i) => (wrt.includes(i) ? `p${i}` : letter(i))).join(", ");
      const code = `jax.vjp(lambda ${parameters}: (${c.theirs})(${all}), ${wrt.map(letter).join(", ")})[1](g)`;
      return trialOf(
        c,
        { g: cotangentOf(c, seed) },
        (arrays, { g }) => {
          const [, pull] = vjp(
            (...moving) => c.ours(...place(arrays, wrt, moving)),
            ...wrt.map((i) => arrays[i]!),
          );
          return pull(g!);
        },
        code,
        tolerance,
      );
    }),
  };
}

function place(arrays: readonly Tensor[], positions: readonly number[], values: readonly Tensor[]): Tensor[] {
  const result = [...arrays];
  for (const [k, i] of positions.entries()) result[i] = values[k]!;
  return result;
}

/** Something of which the second derivative says something about the operation. */
const curved = (c: Case): Case => ({
  ...c,
  ours: (...arrays) => {
    const y = c.ours(...arrays);
    return y.mul(y);
  },
  theirs: `(lambda *arrays: (lambda y: y * y)((${c.theirs})(*arrays)))`,
});

/** The gradient of a projection of the gradient equals jax's, for all operations that have one. */
export function secondDerivatives(operations: readonly Operation[], runs = 1): Property[] {
  return operations
    .filter(({ forwardOnly, firstOnly }) => !forwardOnly && !firstOnly)
    .map((o) => secondDerivative({ ...o, runs, cases: o.linear ? o.cases.map(curved) : o.cases }));
}

function secondDerivative({ name, cases, runs, tolerance, linear }: Operation): Property {
  return {
    name: `second derivative of ${name}${linear ? ", squared" : ""}`,
    runs,
    trials: fc.tuple(cases, seeds).map(([c, seed]) => {
      const i = differentiated(c)[0]!;
      const all = c.arrays.map((_, k) => (k === i ? "p" : letter(k))).join(", ");
      const code = `jax.grad(lambda q: jnp.sum(jax.vjp(lambda p: (${c.theirs})(${all}), q)[1](g)[0] * h))(${letter(i)})`;
      const h = randomArray(c.arrays[i]!.dtype, c.arrays[i]!.shape, seed + 7, "moderate");
      return trialOf(
        c,
        { g: cotangentOf(c, seed), h },
        (arrays, { g, h: direction }) => {
          const projected = (q: Tensor): Tensor => {
            const [, pull] = vjp((p) => c.ours(...place(arrays, [i], [p])), q);
            return pull(g!)[0]!.mul(direction!).sum();
          };
          return grad(projected)(arrays[i]!);
        },
        code,
        tolerance === undefined ? 1e-4 : tolerance * 5,
      );
    }),
  };
}

const step = 1e-6;

/** In float64 `vjp` of the operation is what differences of jax's values say: an oracle that has no derivatives of its own. */
export function finiteDifferences(operations: readonly Operation[]): Property[] {
  return operations
    .filter(({ forwardOnly, declared }) => !forwardOnly && !declared)
    .map(({ name, cases }) => ({
      name: `differences of ${name}`,
      runs: 1,
      trials: fc.tuple(cases, seeds).map(([c, seed]) => {
        const wrt = differentiated(c);
        const double = (i: number, from: number, palette?: Palette): HostArray =>
          randomArray("float64", c.arrays[i]!.shape, from + i, palette);
        const arrays = c.arrays.map((array, i) =>
          wrt.includes(i) ? double(i, seed, c.inputs[i]!.palette ?? "rough") : array,
        );
        const directions = Object.fromEntries(wrt.map((i) => [`u${i}`, double(i, seed + 100, "moderate")]));
        const { shape } = c.ours(...arrays.map(toTensor));
        const moved = (sign: string): string =>
          arrays
            .map((_, i) => (wrt.includes(i) ? `${letter(i)} ${sign} ${step} * u${i}` : letter(i)))
            .join(", ");
        return trialOf(
          { ...c, arrays },
          { g: randomArray("float64", shape, seed + 200, "moderate"), ...directions },
          (given, extra) => {
            const [, pull] = vjp(
              (...moving) => c.ours(...place(given, wrt, moving)),
              ...wrt.map((i) => given[i]!),
            );
            const along = pull(extra.g!).map((x, k) => x.mul(extra[`u${wrt[k]}`]!).sum());
            return along.reduce((s, x) => s.add(x));
          },
          `(lambda f: (jnp.sum(f(${moved("+")}) * g) - jnp.sum(f(${moved("-")}) * g)) / ${2 * step})(${c.theirs})`,
          1e-5,
        );
      }),
    }));
}

/** `vmap` of the operation, over any axis of any of its arguments, equals `jax.vmap`. */
export function vectorised({ name, cases, runs, tolerance }: Operation): Property {
  const batched = cases
    .filter((c) => c.inputs.length > 0)
    .chain((c) =>
      fc
        .tuple(
          fc.constant(c),
          fc.integer({ min: 1, max: 3 }),
          fc.tuple(
            ...c.inputs.map(({ shape }) =>
              fc.option(fc.integer({ min: -shape.length - 1, max: shape.length })),
            ),
          ),
          fc.nat(c.inputs.length - 1),
          seeds,
        )
        .map(([given, size, axes, always, seed]) => {
          // At least one argument is mapped.
          const chosen = axes.with(always, axes[always] ?? 0);
          const inputs = given.inputs.map((input, i) => {
            const axis = chosen[i];
            if (axis === null || axis === undefined) return input;
            const shape = [...input.shape];
            shape.splice(axis < 0 ? axis + shape.length + 1 : axis, 0, size);
            return { ...input, shape };
          });
          return { ...caseOf(inputs, seed, given.ours, given.theirs), axes: chosen };
        }),
    );
  return {
    name: `vmap of ${name}`,
    runs,
    trials: batched.map((c) => {
      const names = c.arrays.map((_, i) => letter(i)).join(", ");
      const axes = c.axes.map((axis) => `${axis ?? "None"},`).join("");
      return trialOf(
        c,
        {},
        (arrays) => vmap(c.ours, { in: c.axes })(...arrays),
        `jax.vmap(${c.theirs}, in_axes=(${axes}))(${names})`,
        tolerance,
      );
    }),
  };
}
