/** Convolutions, pooling and cumulative operations that every transform is tested with. */
import fc from "fast-check";
import type { Tensor } from "../../core/src/index.js";
import * as a from "../../core/src/index.js";
import { filledShapes } from "./arrays.js";
import { type Operation, operation } from "./operations.js";

const convolutions = fc
  .record({
    rank: fc.constantFrom(1, 2, 2, 3),
    batch: fc.integer({ min: 1, max: 2 }),
    groups: fc.constantFrom(1, 1, 2),
    inputs: fc.integer({ min: 1, max: 2 }),
    outputs: fc.integer({ min: 1, max: 2 }),
    layout: fc.constantFrom("channelsLast", "channelsFirst"),
    padding: fc.constantFrom("valid", "same", [0, 1], [2, 1]),
    strides: fc.constantFrom(1, 2),
    dilation: fc.constantFrom(1, 2),
    image: fc.constantFrom([5, 4, 3], [6, 5, 4]),
    kernel: fc.constantFrom([3, 2, 1], [2, 2, 2]),
  })
  .map((p) => {
    const rank = p.rank;
    const image = p.image.slice(0, rank);
    const kernel = p.kernel.slice(0, rank);
    const letters = "DHW".slice(3 - rank);
    const last = p.layout === "channelsLast";
    const [channels, outputs] = [p.inputs * p.groups, p.outputs * p.groups];
    return {
      ...p,
      inputShape: last ? [p.batch, ...image, channels] : [p.batch, channels, ...image],
      kernelShape: last ? [...kernel, p.inputs, outputs] : [outputs, p.inputs, ...kernel],
      /** The kernel of the transposed convolution from the outputs' channels to the inputs'. */
      transposedShape: last ? [...kernel, p.outputs, channels] : [channels, p.outputs, ...kernel],
      spec: last
        ? `("N${letters}C", "${letters}IO", "N${letters}C")`
        : `("NC${letters}", "OI${letters}", "NC${letters}")`,
      pads:
        typeof p.padding === "string"
          ? p.padding
          : image.map((): [number, number] => [p.padding[0] as number, p.padding[1] as number]),
    };
  });

const python = (value: unknown): string =>
  typeof value === "string" ? `"${value.toUpperCase()}"` : JSON.stringify(value);

const pools = fc.record({
  image: fc.constantFrom([5], [4, 5], [6, 4]),
  window: fc.constantFrom(2, 3),
  strides: fc.constantFrom(1, 2, 3),
  padding: fc.constantFrom("valid", "same") as fc.Arbitrary<"valid" | "same">,
});

const pooled = (
  name: string,
  ours: typeof a.maxPool,
  theirs: (n: number, w: number, s: number, p: string) => string,
  options: Partial<Operation>,
): Operation =>
  operation(
    name,
    pools,
    ({ image, window, strides, padding }) => ({
      inputs: [{ shape: [2, ...image, 2] }],
      ours: (x) => ours(x!, window, { strides, padding }),
      theirs: theirs(image.length, window, strides, padding.toUpperCase()),
    }),
    { runs: 3, ...options },
  );

const all = (n: number, value: number): string => `(1, ${new Array(n).fill(value).join(", ")}, 1)`;

const running = (
  name: string,
  ours: (x: Tensor, axis: number, o: { reverse?: boolean }) => Tensor,
  theirs: string,
  options: Partial<Operation> = {},
): Operation =>
  operation(
    name,
    filledShapes(1, 3, 6).chain((shape) =>
      fc.tuple(fc.constant(shape), fc.nat(shape.length - 1), fc.boolean()),
    ),
    ([shape, axis, reverse]) => ({
      inputs: [{ shape }],
      ours: (x) => ours(x!, axis, { reverse }),
      theirs: `lambda a: ${theirs}(a, axis=${axis}, reverse=${reverse ? "True" : "False"})`,
    }),
    { runs: 3, tolerance: 1e-4, ...options },
  );

export const windows: readonly Operation[] = [
  operation(
    "conv",
    convolutions,
    (p) => ({
      inputs: [{ shape: p.inputShape }, { shape: p.kernelShape }],
      ours: (x, w) =>
        a.conv(x!, w!, {
          strides: p.strides,
          padding: p.pads as "same",
          dilation: p.dilation,
          groups: p.groups,
          layout: p.layout as "channelsLast",
        }),
      theirs: `lambda x, w: lax.conv_general_dilated(x, w, (${`${p.strides}, `.repeat(p.rank)}), ${python(p.pads)}, rhs_dilation=(${`${p.dilation}, `.repeat(p.rank)}), dimension_numbers=${p.spec}, feature_group_count=${p.groups})`,
    }),
    { runs: 6, tolerance: 1e-4 },
  ),
  operation(
    "convTranspose",
    convolutions,
    (p) => ({
      inputs: [{ shape: p.inputShape }, { shape: p.transposedShape }],
      ours: (x, w) =>
        a.convTranspose(x!, w!, {
          strides: p.strides,
          padding: 1,
          dilation: p.dilation,
          groups: p.groups,
          layout: p.layout as "channelsLast",
        }),
      // The transpose of the convolution that goes the other way.
      theirs: `lambda x, w: (lambda shape: jax.linear_transpose(lambda y: lax.conv_general_dilated(y, w, (${`${p.strides}, `.repeat(p.rank)}), [(1, 1)] * ${p.rank}, rhs_dilation=(${`${p.dilation}, `.repeat(p.rank)}), dimension_numbers=${p.spec}, feature_group_count=${p.groups}), jnp.zeros(shape))(x)[0])((lambda s: ${
        p.layout === "channelsLast"
          ? `(${p.batch}, *s, ${p.outputs * p.groups})`
          : `(${p.batch}, ${p.outputs * p.groups}, *s)`
      })([(i - 1) * ${p.strides} - 2 + (k - 1) * ${p.dilation} + 1 for i, k in zip(${JSON.stringify(p.image.slice(0, p.rank))}, ${JSON.stringify(p.kernel.slice(0, p.rank))})]))`,
    }),
    { runs: 4, tolerance: 1e-4 },
  ),
  pooled(
    "maxPool",
    (...given) =>
      a
        .maxPool(...given)
        .pow(3)
        .div(3),
    (n, w, s, p) =>
      `lambda x: lax.reduce_window(x, -jnp.inf, lax.max, ${all(n, w)}, ${all(n, s)}, "${p}") ** 3 / 3`,
    {},
  ),
  pooled(
    "avgPool",
    a.avgPool,
    (n, w, s, p) =>
      `lambda x: lax.reduce_window(x, 0., lax.add, ${all(n, w)}, ${all(n, s)}, "${p}") / lax.reduce_window(jnp.ones_like(x), 0., lax.add, ${all(n, w)}, ${all(n, s)}, "${p}")`,
    { linear: true },
  ),
  running("cumsum", a.cumsum, "lax.cumsum", { linear: true }),
  running("cumprod", a.cumprod, "lax.cumprod"),
  running("cummax", a.cummax, "lax.cummax", { linear: true }),
  running("cummin", a.cummin, "lax.cummin", { linear: true }),
  running("logcumsumexp", a.logcumsumexp, "lax.cumlogsumexp"),
  operation(
    "logaddexp",
    fc.constant([3, 2]),
    (shape) => ({
      inputs: [{ shape }, { shape }],
      ours: (x, y) => a.logaddexp(x!, y!),
      theirs: "jnp.logaddexp",
    }),
    { runs: 2 },
  ),
];
