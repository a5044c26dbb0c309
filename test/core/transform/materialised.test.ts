import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { describe, expect, it } from "vitest";
import { compiledModules } from "../../support/runtime.js";

describe("data asked for in between do not change a derivative", () => {
  it("inside the function", async () => {
    const seen: Promise<unknown>[] = [];
    const gradient = a.grad((x: Tensor) => {
      const y = x.mul(x);
      seen.push(y.array());
      return y.mul(x).sum();
    })(a.tensor([1, 2, 3], { dtype: "float32" }));
    expect(await gradient.array()).toEqual([3, 12, 27]);
    expect(await seen[0]).toEqual([1, 4, 9]);
  });

  it("between vjp and its pull", async () => {
    const [y, pull] = a.vjp((x: Tensor) => x.mul(x), a.tensor([1, 2], { dtype: "float32" }));
    expect(await y.array()).toEqual([1, 4]);
    expect(await pull(a.ones([2]))[0].array()).toEqual([2, 4]);
    expect(await pull(a.full([2], 10, { dtype: "float32" }))[0].array()).toEqual([20, 40]);
  });

  it("of a scan, whose derivative needs more of it", async () => {
    const seen: Promise<unknown>[] = [];
    const gradient = a.grad((x: Tensor) => {
      const [last] = a.scan((s: Tensor): [Tensor, null] => [s.mul(s), null], x, null, { length: 2 });
      seen.push(last.array());
      return last.sum();
    })(a.tensor([1, 2], { dtype: "float32" }));
    expect(await gradient.array()).toEqual([4, 32]);
    expect(await seen[0]).toEqual([1, 16]);
  });
});

it("a computed expression lets go of what it was computed from", async () => {
  const x = a.ones([2]);
  const y = x.mul(3);
  await y.data();
  expect(y.node.inputs).toEqual([]);
});

describe("numbers that change from one evaluation to the next", () => {
  it("compile twice at most, whatever they are", async () => {
    const x = await a.tensor([1, 2], { dtype: "float32" }).wait();
    const compiled = async (run: () => Promise<void>): Promise<number> => {
      const before = compiledModules.size;
      await run();
      return compiledModules.size - before;
    };
    const factors = [2, 0.5, Number.NaN, -0, Number.POSITIVE_INFINITY, 3];
    const count = await compiled(async () => {
      for (const n of factors) expect(await x.mul(n).add(2).array()).toEqual([n + 2, 2 * n + 2]);
    });
    expect(count).toBe(2);
    // One more that was the same until now; those that were are still right.
    expect(await compiled(async () => expect(await x.mul(2).add(5).array()).toEqual([7, 9]))).toBe(1);
    expect(await compiled(async () => expect(await x.mul(4).add(2).array()).toEqual([6, 10]))).toBe(0);
    const places = await compiled(async () => {
      for (const i of [0, 1, 0]) expect(await a.dynamicSlice(x, [i], [1]).array()).toEqual([i + 1]);
    });
    expect(places).toBe(2);
  });

  it("are exact in every type", async () => {
    for (const dtype of ["int8", "uint64", "bool", "bfloat16", "float8_e4m3fn", "complex64"] as const) {
      const numbers = dtype === "bool" ? [true, false, true] : [3, 0, 1];
      const found: unknown[] = [];
      for (const n of numbers) found.push(await a.scalar(n, dtype).array());
      expect(found).toEqual(dtype === "complex64" ? numbers.map((n) => [n, 0]) : numbers);
    }
    expect((await a.scalar(2n ** 64n - 1n, "uint64").data())[0]).toBe(2n ** 64n - 1n);
  });
});

describe("a loop that asks for its loss alone", () => {
  const x = (): Tensor => a.random.normal(0, [64, 4]);
  const target = a.tensor([[1], [2], [3], [4]]);
  const steps = 12;

  async function run(kept: boolean, adam: boolean): Promise<{ losses: number[]; compiled: number[] }> {
    const inputs = x();
    const y = inputs.matmul(target);
    const loss = (w: Tensor): Tensor => inputs.matmul(w).sub(y).square().mean();
    let [w, m] = [a.zeros([4, 1]), a.zeros([4, 1])];
    const losses: number[] = [];
    const compiled: number[] = [];
    for (let i = 0; i < steps; i++) {
      const before = compiledModules.size;
      const [l, g] = a.valueAndGrad(loss)(w);
      if (adam) m = m.mul(0.9).add(g.mul(0.1));
      w = w.sub((adam ? m.div(m.square().sqrt().add(1)) : g).mul(0.05));
      if (kept) await a.evaluate([w, m, l]);
      losses.push(await l.item());
      compiled.push(compiledModules.size - before);
    }
    return { losses, compiled };
  }

  it.each([false, true])(
    "compiles no longer programs step by step (with a state beside the parameters: %s)",
    async (adam) => {
      const plain = await run(false, adam);
      const kept = await run(true, adam);
      for (const [i, l] of plain.losses.entries()) expect(l).toBeCloseTo(kept.losses[i]!, 4);
      expect(plain.losses.at(-1)).toBeLessThan(plain.losses[0]!);
      expect(plain.compiled.slice(6)).toEqual(new Array(steps - 6).fill(0));
    },
  );

  it("frees nothing of outside in a scope", async () => {
    const inputs = x();
    const y = inputs.square();
    await y.sum().item();
    await a.scope(async () => (await y.add(1).sum().item()) > 0);
    expect(await y.add(2).mean().item()).toBeGreaterThan(2);
  });
});
