/** Arrays and programs over eight virtual devices: the values are those of one device, the parts lie where they should. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import {
  distribute,
  grad,
  jit,
  llm,
  Mesh,
  nn,
  random,
  shard,
  type Tensor,
  tensor,
  tree,
  vmap,
  workspace,
} from "aronnax";
import { describe, expect, it } from "vitest";
import { Runtime } from "../../../core/src/runtime/runtime.js";
import { getShard } from "../../../core/src/runtime/shards.js";

const mesh = new Mesh({ data: 2, fsdp: 4 });
const close = (a: ArrayLike<number | bigint>, b: ArrayLike<number | bigint>): void => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) expect(Number(a[i])).toBeCloseTo(Number(b[i]), 4);
};

describe("distribute", () => {
  it("gives each device its part", async () => {
    const x = tensor(
      Float32Array.from({ length: 32 }, (_, i) => i),
      { shape: [8, 4] },
    );
    const placed = distribute(x, mesh, [["data", "fsdp"]]);
    expect(placed.buffer!.sharding!.spec).toEqual([["data", "fsdp"], null]);
    const part = await getShard(Runtime.default(), placed.buffer!, 5);
    expect(part.index).toEqual([
      [5, 6],
      [0, 4],
    ]);
    expect([...new Float32Array(part.data.buffer, part.data.byteOffset, 4)]).toEqual([20, 21, 22, 23]);
    expect(await placed.array()).toEqual(await x.array());
  });

  it("keeps the original, which may be donated afterwards", async () => {
    const x = tensor([1, 2, 3, 4], { dtype: "float32" });
    await x.wait();
    const placed = distribute(x, mesh);
    const step = jit((v: Tensor) => v.add(1), { donate: [0] });
    expect(await step(x).array()).toEqual([2, 3, 4, 5]);
    expect(await placed.array()).toEqual([1, 2, 3, 4]);
  });

  it("is found again in a workspace by another client, where it lay", async () => {
    const values = Float32Array.from({ length: 32 }, (_, i) => i);
    const placed = distribute(tensor(values, { shape: [8, 4] }), mesh, ["fsdp"]);
    await workspace("placed").set({ w: placed });
    Runtime.default().close(); // What comes now is attached anew, as a restarted kernel is.
    const { w } = await workspace("placed").get();
    expect(w!.buffer!.sharding).toEqual(placed.buffer!.sharding);
    const other = distribute(tensor(values, { shape: [8, 4] }), mesh, ["fsdp"]);
    expect(await jit((a: Tensor, b: Tensor) => a.mul(b).sum())(w!, other).item()).toBe(10416);
    await workspace("placed").delete();
  });

  it("refuses an axis that does not divide the dimension, naming both", () => {
    expect(() => distribute(tensor([1, 2, 3]), mesh, ["fsdp"])).toThrow(/dimension 0 of \[3\].*4 parts/s);
    expect(() => distribute(tensor([1, 2]), mesh, ["model"])).toThrow(/"model" is no axis.*data=2, fsdp=4/s);
    expect(() => new Mesh({ data: 2 }, [0, 0])).toThrow(/2 places.*0, 0/s);
  });
});

describe("a program on a mesh", () => {
  it("runs on all devices when one of its inputs is split, and computes the same", async () => {
    const x = random.normal(0, [16, 8]);
    const w = random.normal(1, [8, 8]);
    const f = jit((a: Tensor, b: Tensor) => a.matmul(b).tanh().sum());
    const expected = await f(x, w).item();
    const placed = f(distribute(x, mesh, [["data", "fsdp"]]), w);
    expect(await placed.item()).toBeCloseTo(expected, 3);
    expect(placed.buffer!.sharding!.devices).toHaveLength(8);
    expect(f.traces).toBe(2);
  });

  it("refuses what was disposed of after it had been copied to the mesh", async () => {
    const x = distribute(random.normal(0, [16, 8]), mesh, [["data", "fsdp"]]);
    const w = await random.normal(1, [8, 8]).wait();
    const f = jit((a: Tensor, b: Tensor) => a.matmul(b));
    await f(x, w).wait();
    w.dispose();
    expect(() => f(x, w)).toThrow(/was freed/);
    const v = await random.normal(2, [8, 8]).wait();
    await f(x, v).wait();
    jit((b: Tensor) => b.add(1), { name: "taker", donate: [0] })(v);
    expect(() => f(x, v)).toThrow(/was donated to taker/);
  });

  it("reduces over the devices that hold the parts", async () => {
    const x = distribute(random.normal(0, [16, 8]), mesh, [["data", "fsdp"]]);
    const { text } = jit((a: Tensor) => a.sum(0)).lower(x);
    expect(text).toContain('sdy.mesh @mesh = <["data"=2, "fsdp"=4]>');
    expect(text).toContain('sdy.sharding = #sdy.sharding<@mesh, [{"data", "fsdp"}, {}]>');
  });

  it("leaves what it computes from a value of the same shape where that lies", async () => {
    const w = distribute(random.normal(0, [8, 8]), mesh, ["fsdp"]);
    const step = jit((p: Tensor, g: Tensor) => p.sub(g.mul(0.1)), { donate: [0] });
    const next = step(w, random.normal(1, [8, 8]));
    expect(next.buffer!.sharding!.spec).toEqual([["fsdp"], null]);
    close(
      await next.data(),
      await random
        .normal(0, [8, 8])
        .sub(random.normal(1, [8, 8]).mul(0.1))
        .data(),
    );
    expect(w.buffer!.state).toBe("donated");
  });

  it("differentiates and maps through a constraint", async () => {
    const x = random.normal(0, [8, 4]);
    const f = (v: Tensor): Tensor => shard(v.mul(2), mesh, ["fsdp"]).square().sum();
    close(await jit(grad(f))(x).data(), await x.mul(8).data());
    const rows = jit(vmap((v: Tensor) => shard(v.mul(3), mesh, ["fsdp"])))(random.normal(2, [3, 8]));
    expect(rows.buffer!.sharding!.spec).toEqual([null, ["fsdp"]]);
    close(await rows.data(), await random.normal(2, [3, 8]).mul(3).data());
  });

  it("draws the same random numbers on any layout", async () => {
    const whole = await random.normal(7, [16, 4]).data();
    const split = jit(() => shard(random.normal(7, [16, 4]), mesh, [["data", "fsdp"]]))();
    expect(await split.data()).toEqual(whole);
  });

  it("evaluates expressions where their values lie", async () => {
    const x = distribute(tensor([1, 2, 3, 4, 5, 6, 7, 8], { dtype: "float32" }), mesh, ["fsdp"]);
    const y = x.mul(2);
    expect(await y.array()).toEqual([2, 4, 6, 8, 10, 12, 14, 16]);
    expect(y.buffer!.sharding!.spec).toEqual([["fsdp"]]);
  });

  it("refuses values of two meshes", () => {
    const other = new Mesh({ model: 8 });
    const a = distribute(tensor([1, 2, 3, 4, 5, 6, 7, 8]), mesh, ["fsdp"]);
    const b = distribute(tensor([1, 2, 3, 4, 5, 6, 7, 8]), other, ["model"]);
    expect(() => jit((x: Tensor, y: Tensor) => x.add(y))(a, b)).toThrow(/two meshes/);
  });
});

describe("a model on a mesh", () => {
  const config = { ...llm.configs.tiny, layers: 1, hiddenSize: 64, intermediateSize: 128, vocabSize: 256 };

  it("is drawn in parts, with the values that it has on one device", async () => {
    const layout = nn.parameterLayout(llm.llama(config), new Mesh({ fsdp: 4, tensor: 2 }));
    const split = tree.named(nn.initialize(llm.llama(config), 3, layout));
    const whole = tree.named(nn.initialize(llm.llama(config), 3));
    for (const [path, value] of whole) {
      expect(split.get(path)!.buffer!.sharding!.devices, path).toHaveLength(8);
      expect(await split.get(path)!.data(), path).toEqual(await value.data());
    }
    expect(split.get("model.layers.0.mlp.upProj.weight")!.buffer!.sharding!.spec).toEqual([
      ["tensor"],
      ["fsdp"],
    ]);
    expect(split.get("model.layers.0.mlp.downProj.weight")!.buffer!.sharding!.spec).toEqual([
      ["fsdp"],
      ["tensor"],
    ]);
  });
});
