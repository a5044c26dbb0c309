/** FLOPs and memory of a traced function, before it is compiled. */
import * as a from "aronnax";
import { describe, expect, it } from "vitest";

const flops = (f: (...x: a.Tensor[]) => unknown, ...x: a.Tensor[]): number => a.jit(f).lower(...x).flops;

describe("FLOPs", () => {
  const [m, n, k] = [8, 16, 32];
  const [x, w] = [a.zeros([m, k]), a.zeros([k, n])];
  it.each<[string, () => number, number]>([
    ["a matrix product", () => flops((p, q) => p!.matmul(q!), x, w), 2 * m * n * k],
    [
      "its two gradients",
      () => flops((p, q) => a.grad((r: a.Tensor, s: a.Tensor) => r.matmul(s).sum())(p!, q!), x, w),
      2 * m * n * k,
    ],
    ["an element-wise function", () => flops((p) => p!.exp(), x), m * k],
    ["a sum", () => flops((p) => p!.sum(), x), m * k],
    ["changes of shape", () => flops((p) => p!.transpose().reshape([-1]).slice([0, 5]), x), 0],
    ["what is written once, though asked for twice", () => flops((p) => [p!.exp(), p!.exp()], x), m * k],
    ["what nothing needs", () => flops((p) => [p!.matmul(w), p!.exp()][1], x), m * k],
    [
      "a loop, as often as it runs",
      () => flops((p) => a.foriLoop(0, 7, (_, s: a.Tensor) => s.mul(p!), p!), x),
      // With the counter.
      7 * m * k + 7,
    ],
    [
      "the dearer branch",
      () =>
        flops(
          (p) =>
            a.cond(
              p!.slice(0, 0).greater(0),
              (y: a.Tensor) => y.exp().exp(),
              (y: a.Tensor) => y,
              p!,
            ),
          x,
        ),
      // With the choice: a comparison, its conversion and two limits.
      2 * m * k + 4,
    ],
    // Places of the kernel that lie in the padding do not count.
    [
      "a padded convolution",
      () => flops((p) => a.conv(p!, a.zeros([3, 3, 2, 4]), { padding: "same" }), a.zeros([1, 5, 5, 2])),
      2 * 13 * 13 * 2 * 4,
    ],
    [
      "a convolution with strides and groups",
      () => flops((p) => a.conv(p!, a.zeros([2, 1, 4]), { strides: 2, groups: 2 }), a.zeros([3, 8, 2])),
      2 * 3 * 4 * 2 * 1 * 4,
    ],
  ])("of %s", (_, count, expected) => {
    expect(count()).toBe(expected);
  });
});

/** Loss and gradients of a small transformer. */
function transformer(
  layers: number,
  { remat = false } = {},
): { f: (p: Parameters, t: a.Tensor) => unknown; p: Parameters; t: a.Tensor } {
  const [embed, heads, mlp, vocab, batch, time] = [64, 4, 256, 128, 4, 32];
  const layer = () => ({
    qkv: a.zeros([embed, 3 * embed]),
    out: a.zeros([embed, embed]),
    up: a.zeros([embed, mlp]),
    down: a.zeros([mlp, embed]),
  });
  const p = { embedding: a.zeros([vocab, embed]), layers: Array.from({ length: layers }, layer) };
  const block = (x: a.Tensor, w: ReturnType<typeof layer>): a.Tensor => {
    const norm = (y: a.Tensor): a.Tensor => y.mul(y.square().mean(-1, { keepDims: true }).add(1e-6).rsqrt());
    const [q, k, v] = a
      .split(norm(x).matmul(w.qkv), 3, -1)
      .map((y) => y.reshape([batch, time, heads, embed / heads])) as [a.Tensor, a.Tensor, a.Tensor];
    const scores = a.einsum("bqhd,bkhd->bhqk", q, k).softmax();
    const mixed = a.einsum("bhqk,bkhd->bqhd", scores, v).reshape([batch, time, embed]);
    const y = x.add(mixed.matmul(w.out));
    return y.add(norm(y).matmul(w.up).silu().matmul(w.down));
  };
  const loss = (q: Parameters, t: a.Tensor): a.Tensor => {
    const run = remat ? a.remat(block) : block;
    const x = q.layers.reduce((h, w) => run(h, w), q.embedding.take(t));
    return a.takeAlongAxis(x.matmul(q.embedding.mT).logSoftmax(), a.expandDims(t, -1)).mean().neg();
  };
  return { f: a.valueAndGrad(loss), p, t: a.zeros([batch, time], { dtype: "int32" }) };
}
type Parameters = {
  embedding: a.Tensor;
  layers: { qkv: a.Tensor; out: a.Tensor; up: a.Tensor; down: a.Tensor }[];
};

it("counts a transformer as XLA's own analysis does, within 2%", async () => {
  const { f, p, t } = transformer(3);
  const lowered = a.jit(f).lower(p, t);
  const { cost } = await lowered.compile();
  const ratio = lowered.flops / (cost.flops! + cost.transcendentals!);
  expect(Math.abs(ratio - 1)).toBeLessThan(0.02);
});

it("estimates the memory of a transformer, and what remat saves of it", async () => {
  const [plain, saved] = [false, true].map((remat) => {
    const { f, p, t } = transformer(6, { remat });
    return a.jit(f).lower(p, t);
  }) as [a.Lowered, a.Lowered];
  const parameters = 4 * (128 * 64 + 6 * (64 * 192 + 64 * 64 + 2 * 64 * 256));
  expect(plain.memory.arguments).toBe(parameters + 4 * 4 * 32);
  expect(plain.memory.outputs).toBe(parameters + 4);
  const temporaries = async (x: a.Lowered): Promise<number> => (await x.compile()).memory.temporaries;
  const [xla, xlaSaved] = [await temporaries(plain), await temporaries(saved)];
  expect(Math.abs(plain.memory.temporaries / xla - 1)).toBeLessThan(0.25);
  expect(saved.memory.temporaries).toBeLessThan(plain.memory.temporaries / 2);
  expect(xlaSaved).toBeLessThan(xla / 2);
});

it("knows that donated arguments make room for outputs", () => {
  const { memory } = a.jit((x: a.Tensor) => [x.add(1), x.mul(2)], { donate: [0] }).lower(a.zeros([1000]));
  expect(memory).toMatchObject({ arguments: 4000, outputs: 8000, aliased: 4000, temporaries: 0, peak: 8000 });
});
