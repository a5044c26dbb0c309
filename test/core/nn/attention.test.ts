/** Attention against jax: values, gradients, and the text of cuDNN's fused calls. */
import "../../support/runtime.js";
import { grad, iota, jit, nn, random, type Tensor, tensor, vjp } from "aronnax";
import { describe, expect, it } from "vitest";
import { placeholder } from "../../../core/src/array/bind.js";
import { close } from "../../../core/src/array/program.js";
import type { DType } from "../../../core/src/graph/dtype.js";
import { lower } from "../../../core/src/graph/lowering.js";
import { plainAttention } from "../../../core/src/nn/scores.js";
import { hostArray } from "../../oracle/arrays.js";
import { askOne, verifyAtEnd } from "../../oracle/oracle.js";

verifyAtEnd();

const [batch, time, heads, keyHeads, headDim] = [2, 12, 4, 2, 8];
const segmentIds = [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4, 4];
const startIds = [0, 5];
const ints = (values: readonly number[], shape: readonly number[]): Tensor =>
  tensor(Int32Array.from(values), { shape });
const segments = ints(segmentIds, [batch, time]);
const keyStart = ints(startIds, [batch]);

/** The definition in jax: scores, cap, mask, softmax; padding queries are left out of the comparison. */
const definition = `(lambda q, k, v, g: (lambda f: (lambda r: (r[0], *r[1](g)))(jax.vjp(f, q, k, v)))(
  lambda q, k, v: jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(MASK, CAP(
    jnp.einsum("bqhd,bkhd->bhqk", q, jnp.repeat(k, 2, 2)) * SCALE), -1e30), -1), jnp.repeat(v, 2, 2))
))(q, k, v, g)`;
const i = "jnp.arange(12)[:, None]";
const j = "jnp.arange(12)[None, :]";
const [causalMask, windowMask] = [`(${j} <= ${i})`, `(${j} > ${i} - 4)`];
const segmentMask = "(s[:, None, :, None] == s[:, None, None, :])";
const startMask = `(${j}[None, None] >= p[:, None, None, None])`;

/** An array over pairs of queries and keys by its formula. */
function pairs(f: (...axes: [Tensor, Tensor, Tensor, Tensor]) => Tensor, shape: readonly number[]): Tensor {
  return f(...([0, 1, 2, 3].map((axis) => iota(shape, axis)) as [Tensor, Tensor, Tensor, Tensor]));
}

const variants: [string, nn.AttentionOptions, string, string?][] = [
  ["no mask", { causal: false }, "jnp.ones((12, 12), bool)"],
  ["causal", {}, causalMask],
  ["another scale", { scale: 0.7 }, causalMask],
  ["a window", { window: 4 }, `${causalMask} & ${windowMask}`],
  ["a soft cap", { softCap: 0.5 }, causalMask, "0.5 * jnp.tanh((x) / 0.5)"],
  ["segments", { segments }, `${causalMask} & ${segmentMask}`],
  ["segments without the causal mask", { segments, causal: false }, segmentMask],
  ["segments and a window", { segments, window: 4 }, `${causalMask} & ${windowMask} & ${segmentMask}`],
  ["padding at the start", { keyStart }, `${causalMask} & ${startMask}`],
  [
    "a mask",
    {
      causal: false,
      mask: pairs(
        (b, _, at, key) => b.add(at.mul(3)).add(key.mul(5)).mod(4).notEqual(0),
        [batch, 1, time, time],
      ),
    },
    `((jnp.arange(2)[:, None, None, None] + 3 * ${i} + 5 * ${j}) % 4 != 0)`,
  ],
  [
    "a bias of heads and pairs",
    { bias: pairs((_, head, at, key) => head.add(at.mul(2)).sub(key).sin(), [1, heads, time, time]) },
    causalMask,
    `x + jnp.sin(jnp.arange(4)[:, None, None] + 2 * ${i} - ${j} + 0.0)`,
  ],
  [
    "a mask and a bias of keys",
    {
      mask: pairs((b, _, _at, key) => key.less(b.mul(-4).add(9)), [batch, 1, 1, time]),
      bias: pairs((_, head, _at, key) => head.sub(key).sin(), [1, heads, 1, time]),
    },
    `${causalMask} & (${j} < 9 - 4 * jnp.arange(2)[:, None, None, None])`,
    `x + jnp.sin(jnp.arange(4)[:, None, None] - ${j} + 0.0)`,
  ],
];

const draw = (seed: number, count: number): Tensor => random.normal(seed, [batch, time, count, headDim]);

/** The inputs, and what jax computes of them: the output and the gradients. */
async function reference(options: nn.AttentionOptions, mask: string, cap: string) {
  const seen = keyStart.expandDims([1, 2, 3]).lessEqual(ints([...Array(time).keys()], [1, time, 1, 1]));
  // The result of a padding query is not defined: its cotangent is zero.
  const g = options.keyStart === undefined ? draw(4, heads) : draw(4, heads).mul(seen);
  const given = [draw(1, heads), draw(2, keyHeads), draw(3, keyHeads), g];
  const host = await Promise.all(
    given.map(async (x) => hostArray([...((await x.data()) as Float32Array)], "float32", x.shape)),
  );
  const code = definition
    .replace("MASK", mask)
    .replace("CAP", `(lambda x: ${cap})`)
    .replace("SCALE", String(options.scale ?? 1 / Math.sqrt(headDim)));
  const values = await askOne(code, {
    ...Object.fromEntries(host.map((x, at) => ["qkvg"[at]!, x])),
    s: hostArray(segmentIds, "int32", [batch, time]),
    p: hostArray(startIds, "int32"),
  });
  return { given, expected: values.map((x) => new Float32Array(Uint8Array.from(x.data).buffer)) };
}

it.each(variants)(
  "attention with %s equals jax: plain, for some queries at a time, and by the rule of the fused kernels",
  async (_, options, mask, cap = "x") => {
    const { given, expected } = await reference(options, mask, cap);
    const { causal = true, scale = 1 / Math.sqrt(headDim), segments: ids, ...rest } = options;
    const plain = { ...rest, causal, scale, segments: ids && ([ids, ids] as const) };
    // Five queries at a time: the last chunk is not full.
    const bytes = 4 * batch * heads * 5 * time;
    const ways: [string, number, (q: Tensor, k: Tensor, v: Tensor) => Tensor][] = [
      ["plain", 2e-6, (q, k, v) => nn.attention(q, k, v, options)],
      ["chunks", 2e-6, (q, k, v) => plainAttention(q, k, v, plain, bytes)],
      [
        "bfloat16",
        0.012,
        (...x) => {
          const [q, k, v] = x.map((y) => y.astype("bfloat16")) as [Tensor, Tensor, Tensor];
          return nn.attention(q, k, v, options).astype("float32");
        },
      ],
    ];
    const results = jit((q: Tensor, k: Tensor, v: Tensor, g: Tensor) =>
      ways.map(([, , attend]) => {
        const [out, pull] = vjp(attend, q, k, v);
        return [out, ...pull(g)];
      }),
    )(...(given as [Tensor, Tensor, Tensor, Tensor]));
    const g = await given[3]!.data();
    for (const [way, [name, limit]] of ways.entries()) {
      for (const [at, value] of results[way]!.entries()) {
        const actual = await value.data();
        expect(actual.length).toBe(expected[at]!.length);
        let [difference, size] = [0, 0];
        for (let e = 0; e < actual.length; e++) {
          if (at === 0 && options.keyStart !== undefined && g[e] === 0) continue;
          difference += (Number(actual[e]) - expected[at]![e]!) ** 2;
          size += expected[at]![e]! ** 2;
        }
        expect(Math.sqrt(difference / size), `${name}: ${"oqkv"[at]}`).toBeLessThan(limit);
      }
    }
  },
);

describe("attention", () => {
  it("shows no query a later key", async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => random.normal(seed, [1, 6, 2, 4])) as [Tensor, Tensor, Tensor];
    const through = grad((values: Tensor) => nn.attention(q, k, values).slice(null, 2).sum())(v);
    const weights = (await through.abs().sum([0, 2, 3]).array()) as number[];
    for (const [at, weight] of weights.entries()) expect(weight > 0, `key ${at}`).toBe(at <= 2);
  });

  it("says what does not fit", () => {
    const [q, k] = [draw(1, heads), draw(2, keyHeads)];
    expect(() => nn.attention(q, k, draw(3, 3))).toThrow(/v \[2, 12, 3, 8\]/);
    expect(() => nn.attention(q, k, k, { window: 0 })).toThrow(/window of 0/);
    expect(() => nn.attention(q, k, k, { window: 2, causal: false })).toThrow(/without the causal mask/);
    expect(() => nn.attention(q, k, k, { softCap: -1 })).toThrow(/softCap is -1/);
    expect(() => nn.attention(q, k, k, { segments: keyStart })).toThrow(/segments \[2\] for 12 queries/);
    expect(() => nn.attention(q, k, k, { keyStart: segments })).toThrow(/keyStart \[2, 12\] for 2 rows/);
    expect(() => nn.attention(q, k, k, { mask: segments })).toThrow(/the mask is int32/);
    expect(() => nn.attention(q, k, k, { mask: keyStart.equal(0) })).toThrow(
      /mask \[2\] for 2 rows, 4 heads/,
    );
    expect(() => nn.attention(q, k, k, { bias: segments })).toThrow(/bias \[2, 12\] for 2 rows, 4 heads/);
  });
});

interface CustomCall {
  readonly target: string;
  readonly operands: number;
  readonly config: unknown;
  readonly layouts: string;
  readonly types: string;
}

/** The calls of cuDNN in a module's text, apart from names. */
function fusedCalls(text: string): CustomCall[] {
  return text
    .split("\n")
    .filter((line) => line.includes("__cudnn$"))
    .map((line) => {
      const [, target, operands, escaped, rest, types] =
        /@(__cudnn\$\w+)\(([^)]*)\) \{.*backend_config = "(.*?)", (.*?)\} : (.*?)(?: loc.*)?$/.exec(line)!;
      return {
        target: target!,
        operands: operands!.split(", ").length,
        config: JSON.parse(
          escaped!.replaceAll(/\\([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
        ),
        layouts: rest!,
        types: types!,
      };
    });
}

const jaxText = (mask: boolean, options: string): string => `(lambda F: (
  setattr(F, "check_cudnn_version", lambda: 91500),
  setattr(F, "check_compute_capability", lambda capability: True),
  setattr(F, "is_cuda_compute_capability_equal", lambda capability: False),
  (lambda q, k, m: (lambda attend: (lambda step: jnp.asarray(np.frombuffer(
    jax.jit(step).trace(q, k, k, q, *m).lower(lowering_platforms=("cuda",)).as_text().encode(), np.uint8)))(
      lambda q, k, v, g, *m: (lambda r: (r[0], r[1](g)))(jax.vjp(lambda *x: attend(*x, *m), q, k, v))))(
      lambda q, k, v, *m: jax.nn.dot_product_attention(q, k, v, implementation="cudnn", mask=m[0] if m else None${options})))(
    jax.ShapeDtypeStruct((2, 12, 4, 8), DTYPE), jax.ShapeDtypeStruct((2, 12, 2, 8), DTYPE),
    ${mask ? "(jax.ShapeDtypeStruct((2, 1, 12, 12), bool),)" : "()"})
)[-1])(__import__("jax._src.cudnn.fused_attention_stablehlo", fromlist=["_"]))`;

it("a query that sees no key gets the mean of all values, and passes on its gradient", async () => {
  const draw = (seed: number, heads: number): Tensor => random.normal(seed, [2, 5, heads, 8]);
  const [q, k, v] = [draw(1, 4), draw(2, 2), draw(3, 2)];
  // The second query of five sees nothing.
  const mask = iota([1, 1, 5, 5], 2).notEqual(1);
  for (const options of [{}, { softCap: 20 }]) {
    const attend = (values: Tensor): Tensor =>
      nn.attention(q, k, values, { causal: false, mask, ...options });
    const seen = await attend(v).slice(null, 1).array();
    const mean = await v.mean(1).expandDims(2).broadcastTo([2, 2, 2, 8]).reshape([2, 4, 8]).array();
    for (const [i, x] of (seen as number[][][]).flat(2).entries())
      expect(x).toBeCloseTo((mean as number[][][]).flat(2)[i]!, 5);
    const gradient = grad((values: Tensor) => attend(values).slice(null, 1).sum())(v);
    // Two queries' heads share each key head: a fifth of each, to each of five values.
    for (const x of await gradient.data()) expect(Number(x)).toBeCloseTo(2 / 5, 5);
  }
});

describe("the fused calls are those that jax writes", () => {
  it.each<[string, DType, nn.AttentionOptions, boolean, string]>([
    ["causal", "bfloat16", {}, false, ", is_causal=True"],
    ["no mask, float16", "float16", { causal: false }, false, ""],
    ["window", "bfloat16", { window: 5 }, false, ", is_causal=True, local_window_size=(4, 0)"],
    ["segments", "bfloat16", { segments }, true, ", is_causal=True"],
    ["segments, no causal mask", "bfloat16", { segments, causal: false }, true, ""],
    [
      "padding and a window, float16",
      "float16",
      { keyStart, window: 5 },
      true,
      ", is_causal=True, local_window_size=(4, 0)",
    ],
  ])("%s", async (_, dtype, options, mask, jaxOptions) => {
    const aval = (count: number) => ({ shape: [batch, time, count, headDim], dtype });
    const parameters = [heads, keyHeads, keyHeads, heads].map((count) => placeholder(aval(count)));
    const [q, k, v, g] = parameters as [Tensor, Tensor, Tensor, Tensor];
    const [out, pull] = vjp((...x: [Tensor, Tensor, Tensor]) => nn.attention(...x, options), q, k, v);
    const { key } = lower(close([out, ...pull(g)], parameters), { platform: "cuda" });
    const [answer] = await askOne(
      jaxText(mask, jaxOptions).replaceAll("DTYPE", `jnp.${dtype}`),
      {},
      { jit: false },
    );
    const [ours, theirs] = [fusedCalls(key), fusedCalls(Buffer.from(answer!.data).toString())];
    expect(theirs.length).toBe(2);
    expect(ours).toEqual(theirs);
  });
});
