/** Complex numbers and Fourier transforms as real functions of real arrays, so that every transform is tested with them. */
import fc from "fast-check";
import type { Tensor } from "../../core/src/index.js";
import * as a from "../../core/src/index.js";
import { filledShapes } from "./arrays.js";
import { type Operation, operation } from "./operations.js";

/** Real and imaginary parts, stacked. */
const parts = (z: Tensor): Tensor => a.stack([a.real(z), a.imag(z)]);
const pythonParts = "(lambda z: jnp.stack([jnp.real(z), jnp.imag(z)]))";

const complexFunction = (
  name: string,
  ours: (z: Tensor, w: Tensor) => Tensor,
  theirs: string,
  options: Partial<Operation> = {},
): Operation =>
  operation(
    name,
    filledShapes(0, 2),
    (shape) => ({
      inputs: Array.from({ length: 4 }, () => ({ shape })),
      ours: (x, y, u, v) => parts(ours(a.complex(x!, y!), a.complex(u!, v!))),
      theirs: `lambda x, y, u, v: ${pythonParts}((${theirs})(lax.complex(x, y), lax.complex(u, v)))`,
    }),
    { runs: 3, tolerance: 1e-4, ...options },
  );

export const complexNumbers: readonly Operation[] = [
  complexFunction("conj", (z) => a.conj(z), "lambda z, w: jnp.conj(z)", { linear: true }),
  complexFunction("product", (z, w) => a.mul(z, w), "lambda z, w: z * w"),
  complexFunction("product with a conjugate", (z, w) => a.mul(z, a.conj(w)), "lambda z, w: z * jnp.conj(w)"),
  complexFunction("quotient", (z, w) => a.div(z, w), "lambda z, w: z / w"),
  complexFunction("exp", (z) => a.exp(z), "lambda z, w: jnp.exp(z)"),
  complexFunction("log and tanh", (z) => a.add(a.log(z), a.tanh(z)), "lambda z, w: jnp.log(z) + jnp.tanh(z)"),
  complexFunction("angle", (z) => a.complex(a.angle(z)), "lambda z, w: jnp.angle(z)"),
  complexFunction("abs", (z) => a.complex(a.abs(z)), "lambda z, w: jnp.abs(z)"),
  complexFunction("sign", (z) => a.sign(z), "lambda z, w: jnp.sign(z)"),
  complexFunction("sum", (z, w) => a.sum(a.mul(z, w)), "lambda z, w: jnp.sum(z * w)"),
  complexFunction("numbers", (z) => a.add(a.mul(z, 2.5), 1), "lambda z, w: z * 2.5 + 1", { linear: true }),
];

const signals = filledShapes(1, 3, 6).chain((shape) =>
  fc.tuple(fc.constant(shape), fc.shuffledSubarray([...shape.keys()], { minLength: 1 })),
);

const complexTransform = (name: string, ours: typeof a.fft.fft, theirs: string): Operation =>
  operation(
    name,
    signals,
    ([shape, axes]) => ({
      inputs: [{ shape }, { shape }],
      ours: (x, y) => parts(ours(a.complex(x!, y!), axes)),
      theirs: `lambda x, y: ${pythonParts}(${theirs}(lax.complex(x, y), axes=${JSON.stringify(axes)}))`,
    }),
    { runs: 5, tolerance: 1e-4, linear: true },
  );

export const fourier: readonly Operation[] = [
  complexTransform("fft", a.fft.fft, "jnp.fft.fftn"),
  complexTransform("ifft", a.fft.ifft, "jnp.fft.ifftn"),
  operation(
    "rfft",
    signals,
    ([shape, axes]) => ({
      inputs: [{ shape }],
      ours: (x) => parts(a.fft.rfft(x!, axes)),
      theirs: `lambda x: ${pythonParts}(jnp.fft.rfftn(x, axes=${JSON.stringify(axes)}))`,
    }),
    { runs: 6, tolerance: 1e-4, linear: true },
  ),
  operation(
    "irfft",
    fc.tuple(filledShapes(1, 3, 4), fc.nat(1)).chain(([shape, odd]) => {
      const length = 2 * (shape.at(-1)! - 1) + odd;
      return fc.constant({ shape, length: Math.max(1, length) });
    }),
    ({ shape, length }) => {
      const axes = shape.map((_, i) => i);
      const lengths = shape.with(-1, length);
      return {
        inputs: [{ shape }, { shape }],
        ours: (x, y) => a.fft.irfft(a.complex(x!, y!), axes, { length }),
        theirs: `lambda x, y: jnp.fft.irfftn(lax.complex(x, y), s=${JSON.stringify(lengths)}, axes=${JSON.stringify(axes)})`,
      };
    },
    { runs: 6, tolerance: 1e-4, linear: true },
  ),
  operation(
    "power spectrum",
    fc.constant([3, 8]),
    (shape) => ({
      inputs: [{ shape }],
      ours: (x) => {
        const z = a.fft.rfft(x!);
        return a.add(a.square(a.real(z)), a.square(a.imag(z)));
      },
      theirs: "lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2",
    }),
    { runs: 1, tolerance: 1e-4 },
  ),
];
