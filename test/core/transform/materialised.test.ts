import "../../support/runtime.js";
import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { describe, expect, it } from "vitest";

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
