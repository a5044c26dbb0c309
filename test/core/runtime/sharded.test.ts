import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BufferDeleted, InvalidArgument } from "../../../core/src/runtime/errors.js";
import { Runtime, type Sharding } from "../../../core/src/runtime/runtime.js";
import { loadSafetensors, saveSafetensors } from "../../../core/src/runtime/safetensors.js";
import { getShard } from "../../../core/src/runtime/shards.js";
import { floats, privateFolder, startRuntime, stopAll } from "../../runtime/support.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });
type Mesh = [axis: string, size: number][];

const sizeOf = (mesh: Mesh) => mesh.reduce((product, [, size]) => product * size, 1);

/** Shardy's text for a partition spec of an array of two dimensions. */
function shardy(spec: (string[] | null)[]): string {
  const axes = [0, 1].map((d) => `{${(spec[d] ?? []).map((axis) => `"${axis}"`).join(", ")}}`);
  return `sdy.sharding = #sdy.sharding<@mesh, [${axes.join(", ")}]>`;
}

/** `@main(a) -> (2 a, sum of a's rows)`: the first laid out as `a` and in its place, the second as `out` says. */
function program(mesh: Mesh, spec: (string[] | null)[], out: (string[] | null)[]): string {
  const [t, row] = ["tensor<8x16xf32>", "tensor<1x16xf32>"];
  const axes = mesh.map(([axis, size]) => `"${axis}"=${size}`).join(", ");
  return `module @m { sdy.mesh @mesh = <[${axes}]>
    func.func public @main(%a: ${t} {${shardy(spec)}, tf.aliasing_output = 0 : i32}) -> (${t} {${shardy(spec)}}, ${row} {${shardy(out)}}) {
      %z = stablehlo.constant dense<0.0> : tensor<f32>
      %0 = stablehlo.add %a, %a : ${t}
      %1 = stablehlo.reduce(%a init: %z) applies stablehlo.add across dimensions = [0] : (${t}, tensor<f32>) -> tensor<16xf32>
      %2 = stablehlo.reshape %1 : (tensor<16xf32>) -> ${row}
      return %0, %2 : ${t}, ${row} } }`;
}

const values = Float32Array.from({ length: 128 }, (_, i) => i);
const doubled = [...values].map((value) => 2 * value);
const sums = Array.from({ length: 16 }, (_, j) => 8 * j + 16 * 28);

describe("arrays over a mesh", () => {
  let runtime: Runtime;
  let directory: string;

  beforeAll(async () => {
    ({ runtime, directory } = await startRuntime("cpu:8"));
  });
  afterAll(stopAll);

  /** A layout of the argument and one of the second result. */
  const layouts: { name: string; mesh: Mesh; spec: (string[] | null)[]; out: (string[] | null)[] }[] = [
    {
      name: "an axis of size 1",
      mesh: [
        ["data", 1],
        ["fsdp", 2],
      ],
      spec: [["fsdp"]],
      out: [],
    },
    {
      name: "only axes of size 1",
      mesh: [
        ["data", 1],
        ["fsdp", 1],
      ],
      spec: [["data"], ["fsdp"]],
      out: [],
    },
    {
      name: "every axis",
      mesh: [
        ["data", 2],
        ["fsdp", 4],
      ],
      spec: [["data"], ["fsdp"]],
      out: [null, ["fsdp"]],
    },
    {
      name: "one dimension by two axes",
      mesh: [
        ["data", 2],
        ["fsdp", 4],
      ],
      spec: [["data", "fsdp"]],
      out: [null, ["fsdp", "data"]],
    },
    {
      name: "part of the mesh",
      mesh: [
        ["data", 4],
        ["fsdp", 2],
      ],
      spec: [["fsdp"]],
      out: [null, ["data"]],
    },
    {
      name: "nothing",
      mesh: [
        ["data", 2],
        ["fsdp", 2],
        ["tensor", 2],
      ],
      spec: [],
      out: [],
    },
    {
      name: "three axes",
      mesh: [
        ["data", 2],
        ["fsdp", 2],
        ["tensor", 2],
      ],
      spec: [["tensor"], ["data"]],
      out: [null, ["fsdp"]],
    },
  ];

  for (const { name, mesh, spec, out } of layouts) {
    it(`runs programs on arrays that are split by ${name}, and takes them by donation`, async () => {
      const sharding: Sharding = { mesh, spec };
      const devices = Array.from({ length: sizeOf(mesh) }, (_, i) => i);
      const step = runtime.compile({
        text: program(mesh, spec, out),
        devices,
        outputs: [
          { ...f32([8, 16]), sharding, tag: "parameter", name },
          { ...f32([1, 16]), sharding: { mesh, spec: out } },
        ],
      });
      let x = runtime.put(values, { ...f32([8, 16]), sharding });
      const first = x;
      const [next, total] = runtime.execute(step, [x]);
      expect(first.state).toBe("donated");
      await expect(runtime.request({ op: "get", buffer: first.id })).rejects.toThrow(BufferDeleted);
      expect(await floats(runtime, next!)).toEqual(doubled);
      expect(await floats(runtime, total!)).toEqual(sums);
      const parts = devices.length / sizeOf(mesh.filter(([axis]) => spec.some((d) => d?.includes(axis))));
      const { table } = await runtime.memory();
      expect(table.find((row) => row.name === name)?.bytes).toBe(parts * 512);
      // Results are arguments of the next run, as they lie.
      [x] = runtime.execute(step, [next!]) as [typeof x];
      for (let i = 0; i < 8; i++) [x] = runtime.execute(step, [x]) as [typeof x];
      expect((await floats(runtime, x))[127]).toBe(127 * 2 ** 10);
      x.free();
      // Every device has its part of the second result.
      for (const device of devices) {
        const { data, index } = await getShard(runtime, total!, device);
        expect([...new Float32Array(data.buffer)]).toEqual(sums.slice(...index[1]!));
      }
    });
  }

  it("takes an array for a mesh that puts the same parts in the same places, by whatever names", async () => {
    const mesh: Mesh = [
      ["data", 2],
      ["fsdp", 4],
    ];
    const step = runtime.compile({
      text: program(mesh, [["data", "fsdp"]], []),
      devices: [0, 1, 2, 3, 4, 5, 6, 7],
      outputs: [f32([8, 16]), f32([1, 16])],
    });
    const row: Sharding = { mesh: [["x", 8]], spec: [["x"]] };
    const accepted = runtime.put(values, { ...f32([8, 16]), sharding: row });
    expect(await floats(runtime, runtime.execute(step, [accepted])[0]!)).toEqual(doubled);
    for (const sharding of [
      { mesh, spec: [["fsdp", "data"]] },
      { ...row, devices: [7, 6, 5, 4, 3, 2, 1, 0] },
      { mesh: [["x", 4]] as Mesh, spec: [["x"]] },
    ]) {
      const other = runtime.put(values, { ...f32([8, 16]), sharding });
      const [failed] = runtime.execute(step, [other]);
      await expect(runtime.get(failed!)).rejects.toThrow(InvalidArgument);
      // It was not taken.
      const kept = await runtime.request({ op: "get", buffer: other.id });
      expect([...new Float32Array(kept.payload!.buffer)]).toEqual([...values]);
    }
    await runtime.sync().catch(() => {});
  });

  it("saves and loads arrays of any layout, onto any other", async () => {
    const file = `${privateFolder()}/w.safetensors`;
    const put = ({ mesh, spec }: { mesh: Mesh; spec: Sharding["spec"] }) =>
      runtime.put(values, { ...f32([8, 16]), sharding: { mesh, spec } });
    await saveSafetensors(
      runtime,
      file,
      Object.fromEntries(layouts.map((layout) => [layout.name, put(layout)])),
    );
    const loaded = await loadSafetensors(
      runtime,
      file,
      layouts.map(({ name }, i) => {
        const { mesh, spec } = layouts[(i + 1) % layouts.length]!;
        return { tensor: name, ...f32([8, 16]), sharding: { mesh, spec } };
      }),
    );
    for (const [i, buffer] of loaded.entries()) {
      expect(await floats(runtime, buffer), layouts[i]!.name).toEqual([...values]);
      const { mesh, spec, out } = layouts[(i + 1) % layouts.length]!;
      const step = runtime.compile({
        text: program(mesh, spec, out),
        devices: Array.from({ length: sizeOf(mesh) }, (_, device) => device),
        outputs: [f32([8, 16]), f32([1, 16])],
      });
      expect(await floats(runtime, runtime.execute(step, [buffer])[1]!)).toEqual(sums);
    }
  });

  it("come out of a workspace with their layout, for a client that did not make them", async () => {
    const mesh: Mesh = [
      ["data", 2],
      ["fsdp", 4],
    ];
    const layouts: Sharding[] = [
      { mesh, spec: [["fsdp"], null] },
      { mesh, spec: [["fsdp", "data"]] },
      { mesh, spec: [] },
      { mesh: [["x", 2]], spec: [null, ["x"]], devices: [5, 2] },
      { mesh: [["device", 1]], spec: [], devices: [3] },
    ];
    const put = (sharding?: Sharding) => runtime.put(values, { ...f32([8, 16]), sharding });
    const [text, whole] = [program(mesh, [["fsdp"]], []), { ...f32([1, 16]), sharding: { mesh, spec: [] } }];
    const devices = [0, 1, 2, 3, 4, 5, 6, 7];
    const outputs = [{ ...f32([8, 16]), sharding: { mesh, spec: [["fsdp"]] } }, whole];
    const [, made] = runtime.execute(runtime.compile({ text, outputs, devices }), [
      put({ mesh, spec: [["fsdp"]] }),
    ]);
    const held = Object.fromEntries(layouts.map((sharding, i) => [`l${i}`, put(sharding)]));
    await runtime.workspace("layouts").set({ ...held, plain: put(), made: made! });
    const later = new Runtime({ directory, devices: "cpu:8" });
    const found = await later.workspace("layouts").get();
    for (const [i, sharding] of layouts.entries()) {
      expect(found[`l${i}`]!.sharding).toEqual({ devices, ...sharding });
      expect(await floats(later, found[`l${i}`]!)).toEqual([...values]);
    }
    expect(found.plain!.sharding).toBeUndefined();
    expect(found.made!.sharding).toEqual({ mesh, spec: [], devices });
    // A program that wants this layout takes it.
    const again = later.compile({ text, outputs, devices });
    expect(await floats(later, later.execute(again, [found.l0!])[1]!)).toEqual(sums);
    later.close();
  });

  it("refuses results described as lying elsewhere than the program leaves them", async () => {
    const mesh: Mesh = [
      ["data", 4],
      ["fsdp", 2],
    ];
    const { info } = runtime.compile({
      text: program(mesh, [["fsdp"]], [null, ["data"]]),
      devices: [0, 1, 2, 3, 4, 5, 6, 7],
      outputs: [
        { ...f32([8, 16]), sharding: { mesh, spec: [["fsdp"]] } },
        { ...f32([1, 16]), sharding: { mesh, spec: [null, ["fsdp"]] } },
      ],
    });
    await expect(info).rejects.toThrow(/output 1 .* is described to lie on mesh \(data=4, fsdp=2\)/);
  });
});
