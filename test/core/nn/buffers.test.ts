import "../../support/runtime.js";
import {
  cond,
  foriLoop,
  full,
  grad,
  jit,
  nn,
  scan,
  type Tensor,
  tensor,
  valueAndGradWithAux,
  vmap,
  whileLoop,
} from "aronnax";
import { expect, it } from "vitest";

/** Counts its calls and keeps a running sum of its inputs; multiplies by a parameter. */
class Counter extends nn.Module {
  scale = this.parameter("scale", [], { init: nn.constantInit(2) });
  calls = this.buffer("calls", [], { dtype: "int32" });
  total = this.buffer("total", [2]);

  forward(x: Tensor, { training = true } = {}): Tensor {
    if (training) {
      this.setBuffer("calls", this.calls.add(1));
      this.setBuffer("total", this.total.add(x));
    }
    return x.mul(this.scale);
  }
}

class Stack extends nn.Module {
  layers = [new Counter(), new Counter(), new Counter()];

  forward(x: Tensor, options: nn.LayerOptions): Tensor {
    return nn.applyLayers(this.layers, x, (layer, h) => layer.forward(h), options);
  }
}

const x = tensor([1, 2], { dtype: "float32" });
const state = async (m: Counter) => [await m.calls.item(), await m.total.array()];

it("gives the model back with what forward set, in turn, and leaves the one that it was given", async () => {
  const model = new Counter();
  const [y, after] = nn.withUpdates(model, (m) => m.forward(m.forward(x)));
  expect(await y.array()).toEqual([4, 8]);
  expect(await state(after)).toEqual([2, [3, 6]]);
  expect(await state(model)).toEqual([0, [0, 0]]);
});

it("refuses a value that nothing would keep, and leaves it unset without training", async () => {
  expect(() => new Counter().forward(x)).toThrow(/"calls".*nothing would keep it/);
  expect(await new Counter().forward(x, { training: false }).array()).toEqual([2, 4]);
  expect(() => jit((m: Counter) => m.forward(x))(new Counter())).toThrow(/nothing would keep it/);
  expect(() => nn.withUpdates(new Counter(), (m) => jit((a: Tensor) => m.forward(a))(x))).toThrow(/jit runs/);
});

it("leaves buffers out of gradients, and carries what was set inside them out", async () => {
  const loss = (m: Counter) => m.forward(x).sum();
  const g = nn.withUpdates(new Counter(), (m) => grad(loss)(m));
  expect(await g[0].scale.item()).toBe(3);
  expect(await g[0].total.array()).toEqual([0, 0]);
  expect(g[0].calls.dtype).toBe("int32");
  expect(await state(g[1])).toEqual([1, [1, 2]]);
  const step = jit((m: Counter) => {
    const [[value, slopes], next] = nn.withUpdates(m, (live) =>
      valueAndGradWithAux((inner: Counter) => [loss(inner), null])(live),
    );
    return { value, slopes, next };
  });
  const { next, slopes } = step(step(new Counter()).next);
  expect(await state(next)).toEqual([2, [2, 4]]);
  expect(await slopes.scale.item()).toBe(3);
});

it.each<[string, nn.LayerOptions]>([
  ["unrolled", {}],
  ["in a loop", { layers: "scan" }],
  ["recomputed", { remat: "full" }],
  ["in a loop and recomputed", { layers: "scan", remat: "full" }],
])("sets the buffers of layers %s", async (_, options) => {
  const run = jit((m: Stack) =>
    nn.withUpdates(m, (live) => grad((inner: Stack) => inner.forward(x, options).sum())(live)),
  );
  const [slopes, after] = run(new Stack());
  const found = await Promise.all(after.layers.map(state));
  expect(found).toEqual([
    [1, [1, 2]],
    [1, [2, 4]],
    [1, [4, 8]],
  ]);
  expect(await Promise.all(slopes.layers.map((l) => l.scale.item()))).toEqual([12, 12, 12]);
});

it("threads the buffers of a module that a loop refers to through its steps", async () => {
  const [y, after] = nn.withUpdates(new Counter(), (m) =>
    scan(
      (h: Tensor, slice: Tensor): [Tensor, Tensor] => [m.forward(h), m.total.add(slice)],
      x,
      full([3, 2], 0),
    ),
  );
  expect(await y[0].array()).toEqual([8, 16]);
  expect(await y[1].array()).toEqual([
    [1, 2],
    [3, 6],
    [7, 14],
  ]);
  expect(await state(after)).toEqual([3, [7, 14]]);
  const inState = nn.withUpdates(new Counter(), (m) =>
    foriLoop(0, 4, (_, s: { m: Counter; h: Tensor }) => ({ h: s.m.forward(s.h), m: s.m }), { m, h: x }),
  );
  expect(await state(inState[1])).toEqual([4, [15, 30]]);
  const twice = nn.withUpdates(new Counter(), (m) =>
    foriLoop(0, 2, (_, h: Tensor) => foriLoop(0, 2, (_j, k: Tensor) => m.forward(k), h), x),
  );
  expect(await state(twice[1])).toEqual([4, [15, 30]]);
});

it("sets buffers in the branch that runs only", async () => {
  const run = jit((m: Counter, flag: Tensor) =>
    nn.withUpdates(m, (live) =>
      cond(
        flag,
        (a: Tensor) => live.forward(a),
        (a: Tensor) => a,
        x,
      ),
    ),
  );
  expect(await state(run(new Counter(), tensor(true))[1])).toEqual([1, [1, 2]]);
  expect(await state(run(new Counter(), tensor(false))[1])).toEqual([0, [0, 0]]);
});

it("refuses buffers that are set in vmap and whileLoop, with the reason", () => {
  const inputs = full([3, 2], 1);
  expect(() => nn.withUpdates(new Counter(), (m) => vmap((a: Tensor) => m.forward(a))(inputs))).toThrow(
    /vmap computes many examples/,
  );
  expect(() =>
    nn.withUpdates(new Counter(), (m) =>
      whileLoop(
        (h) => h.sum().less(100),
        (h) => m.forward(h),
        x,
      ),
    ),
  ).toThrow(/whileLoop runs an unknown number of times/);
});

it("refuses values of other shapes and names, and fields that are assigned while tracing", () => {
  class Wrong extends nn.Module {
    mean = this.buffer("mean", [2]);
    seen = tensor([1, 2]);
    w = this.parameter("w", [2]);
    forward(how: string): Tensor {
      if (how === "shape") this.setBuffer("mean", full([3], 0));
      if (how === "name") this.setBuffer("w", full([2], 0));
      if (how === "assign") this.seen = this.seen.add(1);
      return this.w.sum();
    }
  }
  const run = (how: string) => () => nn.withUpdates(new Wrong(), (m) => m.forward(how));
  expect(run("shape")).toThrow(/Wrong: the buffer "mean" is .*\[2\].* was to be set to .*\[3\]/);
  expect(run("name")).toThrow(/no buffer "w"/);
  expect(run("assign")).toThrow(/seen" of Wrong was assigned/);
  expect(() => jit((m: Wrong) => m.forward("assign"))(new Wrong())).toThrow(/seen" of Wrong was assigned/);
  expect(() => grad((m: Wrong) => m.forward("assign"))(new Wrong())).toThrow(/seen" of Wrong was assigned/);
});

it("takes the new value of a buffer from the derivative where it says so", async () => {
  class Maxima extends nn.Module {
    w = this.parameter("w", [2], { init: nn.constantInit(3) });
    largest = this.buffer("largest", [], { update: "cotangent" });
    forward(a: Tensor): Tensor {
      // The cotangent of `largest` is the sum of a * w here.
      return a
        .mul(this.w)
        .sum()
        .add(this.largest.mul(a.mul(this.w).sum().stopGradient()));
    }
  }
  const [g, after] = nn.withUpdates(new Maxima(), (m) => grad((inner: Maxima) => inner.forward(x))(m));
  expect(await after.largest.item()).toBe(9);
  expect(await g.largest.item()).toBe(0);
  expect(await g.w.array()).toEqual([1, 2]);
});

it("counts parameters only, casts parameters only, and draws buffers", async () => {
  const model = nn.initialize(new Counter(), 1);
  expect(model.parameterCount).toBe(1);
  expect(nn.castTree(model, "bfloat16").total.dtype).toBe("float32");
  expect(nn.castTree(model, "bfloat16").scale.dtype).toBe("bfloat16");
  expect(await state(model)).toEqual([0, [0, 0]]);
});

it("freezes parameters by name: their gradients are zero, and the model that was given keeps its own", async () => {
  const model = nn.initialize(new Stack(), 1);
  const frozen = nn.freeze(model, "layers.0");
  const loss = (m: Stack) => nn.withUpdates(m, (live) => live.forward(x, {}))[0].sum();
  const scales = async (m: Stack) => Promise.all(m.layers.map((l) => l.scale.item()));
  expect(await scales(grad(loss)(frozen))).toEqual([0, 12, 12]);
  expect(await scales(grad(loss)(nn.unfreeze(frozen, /layers\.0/)))).toEqual([12, 12, 12]);
  expect(await scales(jit(grad(loss))(frozen))).toEqual([0, 12, 12]);
  expect(await scales(grad(loss)(model))).toEqual([12, 12, 12]);
  expect(frozen.parameterCount).toBe(3);
  expect(() => nn.freeze(model, "layer.0")).toThrow(/"?layer\.0"? matches nothing/);
});

it("puts other modules in the places of some", async () => {
  class Twice extends nn.Module {
    constructor(readonly inner: nn.Module & { forward(a: Tensor): Tensor }) {
      super();
    }
    forward(a: Tensor): Tensor {
      return this.inner.forward(a).mul(2);
    }
  }
  const model = nn.initialize(new Stack(), 1);
  const other = nn.replace(model, "layers.1", (layer) => new Twice(layer as Counter));
  expect([...nn.parameterSpecs(other).keys()]).toContain("layers.1.inner.scale");
  const [y] = nn.withUpdates(other, (m) => m.forward(x, {}));
  expect(await y.array()).toEqual([16, 32]);
  expect(() => nn.replace(model, "layers.7", (layer) => layer)).toThrow(/layers\.7 matches nothing/);
});
