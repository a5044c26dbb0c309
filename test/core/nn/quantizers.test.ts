/** Quantizers against brute force and the definition of their papers in jax. */
import "../../support/runtime.js";
import { arange, grad, jit, nn, random, type Tensor, tensor } from "aronnax";
import { describe, expect, it } from "vitest";
import { hostArray } from "../../oracle/arrays.js";
import { askOne, verifyAtEnd } from "../../oracle/oracle.js";

verifyAtEnd();

const rows = async (x: Tensor): Promise<number[][]> => (await x.array()) as number[][];

describe("VectorQuantizer", () => {
  const [count, features] = [5, 3];
  const x = random.normal(1, [2, 4, features]);
  const draw = (options: nn.VectorQuantizerOptions = {}) =>
    nn.initialize(new nn.VectorQuantizer(count, features, { init: nn.normalInit(1), ...options }), 2);

  /** Nearest codes, by the definition. */
  async function nearest(codes: number[][], vectors: number[][]): Promise<number[]> {
    const distances = (v: number[]) => codes.map((c) => c.reduce((s, e, i) => s + (e - v[i]!) ** 2, 0));
    return vectors.map((v) => distances(v).indexOf(Math.min(...distances(v))));
  }

  it("replaces vectors by their nearest codes, and gradients pass straight through", async () => {
    const layer = draw({ decay: null });
    const out = layer.forward(x);
    const [codes, vectors] = [await rows(layer.codebook), await rows(x.reshape([-1, features]))];
    const expected = await nearest(codes, vectors);
    expect(await out.codes.reshape([-1]).array()).toEqual(expected);
    expect(out.codes.dtype).toBe("int32");
    const looked = await rows(out.quantized.reshape([-1, features]));
    for (const [i, at] of expected.entries())
      for (const [k, e] of codes[at]!.entries()) expect(looked[i]![k]).toBeCloseTo(e, 5);
    const apart = vectors.flatMap((v, i) => v.map((e, k) => (e - codes[expected[i]!]![k]!) ** 2));
    const mean = apart.reduce((a, b) => a + b) / apart.length;
    expect(await out.loss.item()).toBeCloseTo(1.25 * mean, 5);
    const shares = codes.map((_, c) => expected.filter((e) => e === c).length / expected.length);
    const entropy = shares.reduce((n, p) => n - (p > 0 ? p * Math.log(p) : 0), 0);
    expect(await out.perplexity.item()).toBeCloseTo(Math.exp(entropy), 5);

    const g = random.normal(3, x.shape);
    const through = grad((y: Tensor) => layer.forward(y).quantized.mul(g).sum())(x);
    expect(await through.array()).toEqual(await g.array());
    // The codes are pulled to the vectors, with 2 / elements of the distance; the vectors to the codes, with a quarter of that.
    const slopes = grad((both: { m: nn.VectorQuantizer; y: Tensor }) => both.m.forward(both.y).loss)({
      m: layer,
      y: x,
    });
    const pulled = await rows(slopes.m.codebook);
    for (const [c, code] of codes.entries()) {
      for (const [k, e] of code.entries()) {
        const sum = vectors.reduce((n, v, i) => n + (expected[i] === c ? e - v[k]! : 0), 0);
        expect(pulled[c]![k]).toBeCloseTo((2 * sum) / apart.length, 5);
      }
    }
    const drawn = await rows(slopes.y.reshape([-1, features]));
    for (const [i, v] of vectors.entries())
      for (const [k, e] of v.entries())
        expect(drawn[i]![k]).toBeCloseTo((0.5 * (e - codes[expected[i]!]![k]!)) / apart.length, 5);
  });

  it("moves its codes by moving averages of those vectors that a mask leaves", async () => {
    const [decay, epsilon] = [0.8, 1e-5];
    const mask = tensor([
      [true, true, true, false],
      [true, false, true, true],
    ]);
    const step = jit((m: nn.VectorQuantizer, y: Tensor) =>
      nn.withUpdates(m, (live) => live.forward(y, { training: true, mask }).loss),
    );
    let model = draw({ decay });
    let sizes = Array.from({ length: count }, () => 1);
    let codes = await rows(model.codebook);
    const smoothed = (n: number[]) => {
      const all = n.reduce((a, b) => a + b);
      return n.map((e) => ((e + epsilon) / (all + count * epsilon)) * all);
    };
    for (let seed = 0; seed < 3; seed++) {
      const batch = random.normal(10 + seed, x.shape);
      [, model] = step(model, batch);
      const flags = ((await mask.array()) as boolean[][]).flat();
      const vectors = (await rows(batch.reshape([-1, features]))).filter((_, i) => flags[i]);
      const hits = await nearest(codes, vectors);
      const before = smoothed(sizes);
      sizes = sizes.map((n, c) => decay * n + (1 - decay) * hits.filter((h) => h === c).length);
      const after = smoothed(sizes);
      codes = codes.map((code, c) =>
        code.map((e, k) => {
          const sum = vectors.reduce((n, v, i) => n + (hits[i] === c ? v[k]! : 0), 0);
          return (decay * e * before[c]! + (1 - decay) * sum) / after[c]!;
        }),
      );
      for (const [c, row] of (await rows(model.codebook)).entries())
        for (const [k, e] of row.entries()) expect(e).toBeCloseTo(codes[c]![k]!, 4);
      for (const [c, n] of ((await model.clusterSize!.array()) as number[]).entries())
        expect(n).toBeCloseTo(sizes[c]!, 5);
    }
    // The codes are no parameters.
    expect(model.parameterCount).toBe(0);
  });

  it("makes random vectors of the batch of codes that nothing uses", async () => {
    const mask = tensor([
      [true, true, false, false],
      [false, true, true, false],
    ]);
    const options = { decay: 0.5, restart: 0.6, init: nn.constantInit(50) };
    const far = draw(options);
    const run = (key: number) =>
      nn.withUpdates(far, (m) => m.forward(x, { training: true, key, mask }).codes)[1];
    const vectors = (await rows(x.reshape([-1, features]))).filter((_, i) => [0, 1, 5, 6].includes(i));
    const restarted = await rows(run(1).codebook);
    // All vectors were nearest to the first of the equal codes.
    for (const code of restarted.slice(1)) expect(vectors).toContainEqual(code);
    expect(vectors).not.toContainEqual(restarted[0]);
    expect(await rows(run(1).codebook)).toEqual(restarted);
    expect(((await run(1).clusterSize!.array()) as number[]).slice(1)).toEqual(
      Array(4).fill(Math.fround(0.6)),
    );
    const several = await Promise.all([1, 2, 3, 4].map((key) => rows(run(key).codebook)));
    expect(new Set(several.map((codes) => JSON.stringify(codes))).size).toBeGreaterThan(1);
    const unmasked = nn.withUpdates(far, (m) => m.forward(x, { training: true, key: 3 }).codes)[1];
    const all = await rows(x.reshape([-1, features]));
    for (const code of (await rows(unmasked.codebook)).slice(1)) expect(all).toContainEqual(code);
    expect(() => nn.withUpdates(far, (m) => m.forward(x, { training: true }))).toThrow(
      /without a random key/,
    );
  });

  it("moves nothing in evaluation or by a batch of padding, and says what does not fit", async () => {
    const layer = draw();
    const none = tensor([Array(4).fill(false), Array(4).fill(false)]);
    const [out, after] = nn.withUpdates(layer, (m) => m.forward(x, { training: true, mask: none }));
    expect(await rows(after.codebook)).toEqual(await rows(layer.codebook));
    expect(await out.loss.item()).toBe(0);
    expect(await out.perplexity.item()).toBe(1);
    expect(() => layer.forward(x.slice(null, null, [0, 2]))).toThrow(
      /of 3 features: x has shape \[2, 4, 2\]/,
    );
    expect(() => layer.forward(x, { mask: x })).toThrow(/the mask is Tensor float32/);
    expect(() => new nn.VectorQuantizer(4, 2, { decay: null, restart: 1 })).toThrow(/restart of codes/);
    expect(() => new nn.VectorQuantizer(4, 2, { decay: 1 })).toThrow(/decay is 1/);
  });
});

describe("FSQ", () => {
  // The functions of the paper's appendix A.1, in jax.
  const code = (
    levels: readonly number[],
  ): string => `(lambda levels: (lambda half_l, offset, half_width: (lambda bounded, basis: (
    (bounded + (jnp.round(bounded) - bounded)) / half_width,
    ((jnp.round(bounded) / half_width) * half_width + half_width).dot(basis).round().astype(jnp.int32),
  ))(jnp.tanh(z + jnp.tan(offset / half_l)) * half_l - offset, np.concatenate([[1], np.cumprod(levels[:-1])]).astype(np.float32))
  )((levels - 1) * (1 - 1e-3) / 2, jnp.where(levels % 2 == 1, 0.0, 0.5), levels // 2))(np.array(${JSON.stringify(levels)}))`;

  it.each([[[8, 6, 5]], [[7, 5, 5, 5, 5]], [[2, 3, 4]]])("of levels %j is the paper's", async (levels) => {
    const fsq = new nn.FSQ(levels);
    const z = random.normal(levels.length, [40, levels.length]).mul(3);
    const values = [...((await z.data()) as Float32Array)];
    const [quantized, codes] = await askOne(code(levels), { z: hostArray(values, "float32", z.shape) });
    const ours = fsq.forward(z);
    const wanted = new Int32Array(Uint8Array.from(codes!.data).buffer);
    expect([...(await ours.codes.data())]).toEqual([...wanted]);
    const points = new Float32Array(Uint8Array.from(quantized!.data).buffer);
    for (const [i, y] of (await ours.quantized.data()).entries())
      expect(Math.abs(Number(y) - points[i]!)).toBeLessThan(1e-6);
  });

  it("has as many codes as the product of the levels, each with its point", async () => {
    const fsq = new nn.FSQ([4, 3, 5]);
    expect(fsq.size).toBe(60);
    const points = fsq.valuesOf(arange(60));
    expect(await fsq.codesOf(points).array()).toEqual(Array.from({ length: 60 }, (_, i) => i));
    expect(new Set((await rows(points)).map((p) => p.join())).size).toBe(60);
    expect(await points.abs().max().item()).toBe(1);
    // Zero is a point whether levels are even or odd.
    expect(await fsq.forward(tensor([[0, 0, 0]], { dtype: "float32" })).quantized.array()).toEqual([
      [0, 0, 0],
    ]);
  });

  it("passes the gradient of its bound straight through", async () => {
    const fsq = new nn.FSQ([5]);
    const z = tensor([[-1.5], [0.2], [2]]);
    const slope = await rows(grad((y: Tensor) => fsq.forward(y).quantized.sum())(z));
    for (const [i, value] of [-1.5, 0.2, 2].entries())
      expect(slope[i]![0]).toBeCloseTo(((1 - Math.tanh(value) ** 2) * 1.998) / 2, 5);
  });

  it("refuses levels that are none", () => {
    for (const levels of [[], [1, 3], [2.5], 8])
      expect(() => new nn.FSQ(levels as number[])).toThrow(/FSQ: the levels are/);
    expect(() => new nn.FSQ([3, 3]).forward(random.normal(0, [4, 3]))).toThrow(/z has shape \[4, 3\]/);
  });
});
