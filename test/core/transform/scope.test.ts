import "../../support/runtime.js";
import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { describe, expect, it } from "vitest";

describe("scope", () => {
  it("frees what was computed in it, except what it returns", async () => {
    let inside: Tensor | undefined;
    const kept = await a.scope(async () => {
      inside = await a.ones([3]).mul(2).wait();
      return { sum: await inside.sum().wait() };
    });
    expect(await kept.sum.item()).toBe(6);
    expect(inside?.buffer?.state).toBe("freed");
    await expect(inside?.data()).rejects.toThrow(/was freed/);
  });

  it("frees host arrays that were uploaded in it, and results of jitted functions", async () => {
    const double = a.jit((x: Tensor) => x.mul(2));
    const [x, y] = await a.scope(async () => {
      const input = a.tensor([1, 2, 3]);
      const output = double(input);
      await output.data();
      void [input, output];
      return [input, output].map((t) => ({ state: () => t.buffer?.state }));
    });
    expect([x?.state(), y?.state()]).toEqual(["freed", "freed"]);
  });

  it("keeps what a function compiled in it refers to", async () => {
    const table = [1, 2, 3];
    const lookup = a.jit((i: Tensor) => a.tensor(table).take(i));
    await a.scope(async () => {
      expect(await lookup(a.tensor(1, { dtype: "int32" })).item()).toBe(2);
    });
    expect(await lookup(a.tensor(2, { dtype: "int32" })).item()).toBe(3);
  });

  it("leaves what was there before alone", async () => {
    const before = await a.ones([2]).wait();
    a.scope(() => before.add(1));
    expect(await before.array()).toEqual([1, 1]);
  });

  it("nests: what the inner one returns ends with the outer one", async () => {
    let passed: Tensor | undefined;
    await a.scope(async () => {
      passed = await a.scope(async () => a.ones([2]).add(1).wait());
      expect(await passed.array()).toEqual([2, 2]);
    });
    expect(passed?.buffer?.state).toBe("freed");
  });

  it("ends when the function throws", async () => {
    let inside: Tensor | undefined;
    const failing = a.scope(async () => {
      inside = await a.ones([2]).add(1).wait();
      throw new Error("stop");
    });
    await expect(failing).rejects.toThrow("stop");
    expect(inside?.buffer?.state).toBe("freed");
  });

  it("does not see what runs beside it", async () => {
    const scoped = a.scope(async () => {
      await new Promise((done) => setTimeout(done, 30));
    });
    const beside = await a.ones([2]).add(3).wait();
    await scoped;
    expect(await beside.array()).toEqual([4, 4]);
  });
});
