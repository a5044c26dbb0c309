/** What a compiled function takes as data, what as part of its structure, and what it refuses. */
import "../../support/runtime.js";
import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { describe, expect, it } from "vitest";

const one = (): Tensor => a.ones([1]);

describe("static arguments of jit are told apart by value", () => {
  it("integers of both kinds", async () => {
    const f = a.jit((x: Tensor, n: number | bigint) => x.add(typeof n === "bigint" ? 100 : 1));
    expect(await f(one(), 1).array()).toEqual([2]);
    expect(await f(one(), 1n).array()).toEqual([101]);
  });
  it("symbols of one description", async () => {
    const [first, second] = [Symbol("s"), Symbol("s")];
    const f = a.jit((x: Tensor, s: symbol) => x.add(s === first ? 1 : 2));
    expect(await f(one(), first).array()).toEqual([2]);
    expect(await f(one(), second).array()).toEqual([3]);
  });
  it("typed arrays by their elements, which may change", async () => {
    const f = a.jit((x: Tensor, d: Float32Array) => x.add(a.tensor(d)));
    const d = Float32Array.of(1);
    expect(await f(one(), d).array()).toEqual([2]);
    d[0] = 5;
    expect(await f(one(), d).array()).toEqual([6]);
    expect(await f(one(), Float32Array.of(1)).array()).toEqual([2]);
    expect(f.traces).toBe(2);
  });
});

describe("objects are equal whatever the order of their fields", () => {
  it("to loops, branches and tree.map", async () => {
    const f = a.jit((t: { a: Tensor; b: Tensor }) => t.a.sub(t.b));
    expect(await f({ a: one(), b: one().mul(3) }).array()).toEqual([-2]);
    expect(await f({ b: one().mul(3), a: one() }).array()).toEqual([-2]);
    type State = { h: Tensor; c: Tensor };
    const [last] = a.scan(
      (s: State): [State, null] => [{ c: s.c.add(s.h), h: s.h.mul(2) }, null],
      { h: one(), c: one().mul(0) },
      null,
      { length: 3 },
    );
    expect([await last.h.array(), await last.c.array()]).toEqual([[8], [7]]);
    const doubled = a.whileLoop(
      (s: State) => s.h.sum().less(10),
      (s) => ({ c: s.c.add(s.h), h: s.h.mul(2) }),
      { h: one(), c: one().mul(0) },
    );
    expect([await doubled.h.array(), await doubled.c.array()]).toEqual([[16], [15]]);
    const chosen = a.cond(
      one().sum().greater(0),
      () => ({ x: one(), y: one().mul(2) }),
      () => ({ y: one(), x: one() }),
    );
    expect(await chosen.y.array()).toEqual([2]);
    const sums = a.tree.map((x, y) => x.add(y!), { p: one(), q: one() }, { q: one().mul(5), p: one() });
    expect([await sums.p.array(), await sums.q.array()]).toEqual([[2], [6]]);
  });
});

describe("trees refuse", () => {
  class State {
    w = one();
  }
  it("Tensors that they would take for part of the structure", () => {
    const f = a.jit((s: { list: unknown[] }) => one().add(s.list.length));
    expect(() => f({ list: [new State()] })).toThrow('a tree holds a State with Tensors at "0.list.0"');
    expect(() => f({ list: [new Map([["w", one()]])] })).toThrow("a tree holds a Map with Tensors");
    expect(() => f({ list: [new Set([one()])] })).toThrow("a tree holds a Set with Tensors");
  });
  it("themselves", () => {
    const tree: Record<string, unknown> = { x: one() };
    tree.inside = [tree];
    expect(() => a.tree.leaves(tree)).toThrow('a tree holds itself at "inside.0"');
    // The same part in two places is none.
    expect(a.tree.leaves([tree.x, tree.x])).toHaveLength(2);
  });
});

describe("mistakes of transforms", () => {
  it.each<[string, () => unknown, string]>([
    ["jit of no function", () => a.jit(5 as never), "jit of 5"],
    ["an unknown policy", () => a.remat((x: Tensor) => x, { policy: "all" as never }), 'no policy "all"'],
    ["a fraction of steps", () => a.foriLoop(0, 2.5, (_, s: Tensor) => s, one()), "foriLoop: from 0 to 2.5"],
    [
      "a loop's state of another structure",
      () =>
        a.whileLoop(
          (s: Tensor) => s.sum().less(3),
          (s) => [s] as never,
          one(),
        ),
      "went in with a Tensor and came back with 0",
    ],
  ])("%s", (_, mistake, message) => {
    expect(mistake).toThrow(message);
    expect(mistake).toThrow(a.AronnaxError);
  });

  it("a Tensor that was freed, with the line that uses it", async () => {
    const x = await one().wait();
    x.dispose();
    let thrown: unknown;
    try {
      a.jit((y: Tensor) => y.add(1))(x);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(a.AronnaxError);
    expect((thrown as a.AronnaxError).message).toContain("float32[1], was freed");
    expect((thrown as a.AronnaxError).at).toMatch(/trees\.test\.ts:\d+:\d+$/);
  });

  it("a Tensor in JSON", () => {
    expect(() => JSON.stringify({ loss: one() })).toThrow("JSON of Tensor float32[1]");
  });

  it("a complex loss", () => {
    expect(() => a.grad((x: Tensor) => a.complex(x, x).sum())(one())).toThrow(
      "grad: the function returned Tensor complex64[]",
    );
  });

  it("a number as the index of switchCase chooses", async () => {
    const branches = [() => one(), () => one().add(1)];
    expect(await a.switchCase(1, branches).array()).toEqual([2]);
    expect(await a.switchCase(-4, branches).array()).toEqual([1]);
  });
});
