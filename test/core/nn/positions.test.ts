/** Encodings of positions and relative attention against their definitions. */
import "../../support/runtime.js";
import { nn, random, type Tensor, tensor, zeros } from "aronnax";
import { expect, it } from "vitest";

const numbers = async (x: Tensor): Promise<number[]> => [...((await x.data()) as Float32Array)];

/** Sine and cosine of a position, in pairs. */
function waves(position: number, features: number, base = 10000): number[] {
  return Array.from({ length: features / 2 }, (_, i) => position / base ** ((2 * i) / features)).flatMap(
    (a) => [Math.sin(a), Math.cos(a)],
  );
}

async function close(actual: Tensor, expected: readonly number[]): Promise<void> {
  const ours = await numbers(actual);
  expect(ours.length).toBe(expected.length);
  for (const [i, y] of ours.entries()) expect(y).toBeCloseTo(expected[i]!, 5);
}

it("sines and cosines of positions, also of fractions, side by side or in halves", async () => {
  await close(
    nn.sinusoidalPositions(7, 6),
    [0, 1, 2, 3, 4, 5, 6].flatMap((p) => waves(p, 6)),
  );
  const times = [0.5, 3.25];
  await close(
    nn.sinusoidalPositions(tensor(times), 4, { base: 100 }),
    times.flatMap((p) => waves(p, 4, 100)),
  );
  const halves = times.flatMap((p) => {
    const pairs = waves(p, 6);
    return [...pairs.filter((_, i) => i % 2 === 0), ...pairs.filter((_, i) => i % 2 === 1)];
  });
  await close(nn.sinusoidalPositions(tensor(times), 6, { layout: "halves" }), halves);
});

it("rows and columns of an image", async () => {
  const expected = [0, 1].flatMap((r) => [0, 1, 2].flatMap((c) => [...waves(r, 4), ...waves(c, 4)]));
  const encoded = nn.sinusoidalPositions2d(2, 3, 8);
  expect(encoded.shape).toEqual([2, 3, 8]);
  await close(encoded, expected);
});

it("learned positions, from an offset and in any order", async () => {
  const layer = nn.initialize(new nn.LearnedPositions(6, 3), 0);
  const x = random.normal(1, [2, 4, 3]);
  const at = (from: number) => layer.weight.slice([from, from + 4]);
  const same = async (y: Tensor, z: Tensor) => expect(await y.array()).toEqual(await z.array());
  await same(layer.forward(x), x.add(at(0)));
  await same(layer.forward(x, { offset: 2 }), x.add(at(2)));
  await same(layer.forward(x, { offset: tensor(1, { dtype: "int32" }) }), x.add(at(1)));
  const positions = tensor([[3, 0, 0, 5]], { dtype: "int32" });
  await same(layer.forward(x, { positions }), x.add(layer.weight.take(positions)));
  expect(() => layer.forward(x, { offset: 3 })).toThrow(/4 positions from 3, and a table of 6/);
  expect(() => layer.forward(zeros([2, 4, 1]))).toThrow(/of 3 features: x has shape \[2, 4, 1\]/);
});

it("a bias for each head and bucket of distances", async () => {
  const bias = nn.initialize(new nn.RelativeBias(2, { buckets: 8, maxDistance: 12 }), 0);
  const table = (await bias.weight.array()) as number[][];
  const y = bias.forward(3, 5);
  expect(y.shape).toEqual([1, 2, 3, 5]);
  const all = (await y.array()) as number[][][][];
  for (let q = 0; q < 3; q++) {
    for (let k = 0; k < 5; k++) {
      // The last query stands at the last key.
      const relative = tensor([k - (q + 2)], { dtype: "int32" });
      const bucket = await nn.relativeBucket(relative, { buckets: 8, maxDistance: 12 }).item();
      for (let h = 0; h < 2; h++) expect(all[0]![h]![q]![k]).toBe(table[bucket]![h]);
    }
  }
  const later = bias.forward(1, 5, tensor(3, { dtype: "int32" }));
  expect(await later.array()).toEqual(await bias.forward(2, 5).slice(null, null, [0, 1]).array());
});

it("scores of distances stand at the pairs of those distances", async () => {
  const [batch, time, heads, headDim] = [2, 5, 3, 4];
  const q = random.normal(0, [batch, time, heads, headDim]);
  const r = random.normal(1, [2 * time - 1, heads, headDim]);
  const [qs, rs] = [(await q.array()) as number[][][][], (await r.array()) as number[][][]];
  const expected: number[] = [];
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < time; i++)
        for (let j = 0; j < time; j++) {
          // The distances begin at time - 1.
          const distance = rs[time - 1 - (i - j)]![h]!;
          expected.push(qs[b]![i]![h]!.reduce((n, e, k) => n + e * distance[k]!, 0) * 0.5);
        }
  await close(nn.relativeScores(q, r), expected);
  const encoded = nn.relativePositions(time, 6);
  await close(
    encoded,
    [4, 3, 2, 1, 0, -1, -2, -3, -4].flatMap((p) => waves(p, 6)),
  );
  // As the bias of attention they add to the scores of the contents.
  const [k, v] = [random.normal(2, q.shape), random.normal(3, q.shape)];
  const ours = nn.attention(q, k, v, { causal: false, bias: nn.relativeScores(q, r) });
  const content = q.moveAxis(1, 2).matmul(k.moveAxis(1, 2).mT).mul(0.5);
  const weights = content.add(tensor(expected).reshape([batch, heads, time, time])).softmax();
  await close(ours, await numbers(weights.matmul(v.moveAxis(1, 2)).moveAxis(1, 2)));
});

it("says what does not fit", () => {
  expect(() => nn.sinusoidalPositions(4, 5)).toThrow(/5 features/);
  expect(() => nn.sinusoidalPositions2d(2, 2, 6)).toThrow(/6 features/);
  expect(() => nn.sinusoidalPositions(0, 4)).toThrow(/0 positions/);
  expect(() => new nn.RelativeBias(2, { buckets: 7 })).toThrow(/7 buckets in two directions/);
  expect(() => nn.relativeShift(zeros([3, 4]))).toThrow(/relativeShift of \[3, 4\]/);
  expect(() => nn.relativeScores(zeros([1, 3, 2, 4]), zeros([6, 2, 4]))).toThrow(/r \[6, 2, 4\]/);
});
