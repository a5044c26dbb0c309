import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DType, dtypes, itemSize } from "../../core/src/graph/dtype.js";
import { InvalidArgument, StorageError } from "../../core/src/runtime/errors.js";
import type { Runtime } from "../../core/src/runtime/runtime.js";
import {
  loadSafetensors,
  readSafetensorsIndex,
  saveSafetensors,
} from "../../core/src/runtime/safetensors.js";
import { addProgram, floats, generator, privateFolder, startRuntime, stopAll } from "./support.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });

/** The bytes of a file with this header, whatever it claims. */
function file(header: string, data: Uint8Array, claimed = Buffer.byteLength(header)): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(claimed));
  return Buffer.concat([length, Buffer.from(header), data]);
}

describe("safetensors", () => {
  let runtime: Runtime;
  let folder: string;

  beforeAll(async () => {
    ({ runtime } = await startRuntime("cpu:4"));
    folder = privateFolder();
  });
  afterAll(stopAll);

  it("saves and loads every dtype bit for bit", async () => {
    const target = path.join(folder, "all.safetensors");
    const bytes = (dtype: DType) =>
      new Uint8Array(6 * itemSize(dtype)).map((_, i) => (dtype === "bool" ? i & 1 : i * 29));
    const buffers = Object.fromEntries(
      dtypes.map((dtype) => [`t.${dtype}`, runtime.put(bytes(dtype), { shape: [3, 2], dtype })]),
    );
    const saved = await saveSafetensors(runtime, target, buffers, { metadata: { format: "pt" } });
    expect(saved.files).toEqual([target]);
    const index = await readSafetensorsIndex(runtime, target);
    expect(index.metadata).toEqual({ format: "pt" });
    expect(Object.keys(index.tensors).sort()).toEqual(Object.keys(buffers).sort());
    const loaded = await loadSafetensors(
      runtime,
      target,
      dtypes.map((dtype) => ({ tensor: `t.${dtype}`, shape: [3, 2], dtype })),
    );
    for (const [i, dtype] of dtypes.entries()) {
      expect([...(await runtime.get(loaded[i]!))], dtype).toEqual([...bytes(dtype)]);
    }
    // Offsets are aligned to the element, as readers that map the file want it.
    const raw = fs.readFileSync(target);
    const header = JSON.parse(raw.subarray(8, 8 + Number(raw.readBigUInt64LE())).toString()) as Record<
      string,
      { data_offsets: [number, number] }
    >;
    const data = raw.subarray(8 + Number(raw.readBigUInt64LE()));
    for (const dtype of dtypes) {
      const [start, end] = header[`t.${dtype}`]!.data_offsets;
      expect(start % itemSize(dtype)).toBe(0);
      expect([...data.subarray(start, end)], dtype).toEqual([...bytes(dtype)]);
    }
  });

  it("loads onto any sharding, and converts", async () => {
    const target = path.join(folder, "sharded.safetensors");
    const values = Float32Array.from({ length: 64 }, (_, i) => i);
    await saveSafetensors(runtime, target, {
      w: runtime.put(values, {
        ...f32([8, 8]),
        sharding: { mesh: [["x", 4]], spec: [null, ["x"]] },
      }),
    });
    const mesh: [string, number][] = [
      ["x", 2],
      ["y", 2],
    ];
    const [rows, grid, half] = await loadSafetensors(runtime, target, [
      { tensor: "w", ...f32([8, 8]), sharding: { mesh, spec: [["y", "x"]] } },
      {
        tensor: "w",
        ...f32([8, 8]),
        sharding: { mesh, spec: [["x"], ["y"]] },
        tag: "parameter",
        name: "grid",
      },
      { tensor: "w", shape: [8, 8], dtype: "bfloat16" },
    ]);
    expect(await floats(runtime, rows!)).toEqual([...values]);
    expect(await floats(runtime, grid!)).toEqual([...values]);
    const bits = new Uint16Array((await runtime.get(half!)).buffer);
    expect(bits[3]).toBe(0x4040); // 3 as bfloat16
    expect((await runtime.memory()).table).toContainEqual({
      tag: "parameter",
      name: "grid",
      buffers: 1,
      bytes: 256,
    });
    await expect(loadSafetensors(runtime, target, [{ tensor: "v", ...f32([8, 8]) }])).rejects.toThrow(
      /no tensor 'v'/,
    );
    await expect(loadSafetensors(runtime, target, [{ tensor: "w", ...f32([8, 9]) }])).rejects.toThrow(
      InvalidArgument,
    );
  });

  it("leaves to the user's umask who may read what it saves", async () => {
    const before = process.umask(0o027);
    const { runtime: other } = await startRuntime();
    process.umask(before);
    const target = path.join(folder, "shared");
    await saveSafetensors(other, target, { w: other.put(new Float32Array(1), f32([1])) });
    expect(fs.statSync(target).mode & 0o777).toBe(0o750);
    for (const name of fs.readdirSync(target)) {
      expect(fs.statSync(path.join(target, name)).mode & 0o777, name).toBe(0o640);
    }
    await other.shutdown();
  });

  it("saves a folder with an index, in place of the one before", async () => {
    const target = path.join(folder, "model");
    const put = (value: number) => runtime.put(new Float32Array(100).fill(value), f32([100]));
    await saveSafetensors(runtime, target, { a: put(1), b: put(2), c: put(3) }, { maxFileBytes: 800 });
    const first = fs.readdirSync(target);
    expect(first.length).toBe(3);
    fs.writeFileSync(path.join(target, "config.json"), "{}");
    await saveSafetensors(runtime, target, { a: put(4), b: put(5), c: put(6) }, { maxFileBytes: 400 });
    const second = fs.readdirSync(target);
    expect(second.length).toBe(5);
    expect(second).toContain("config.json");
    expect(first.filter((name) => second.includes(name))).toEqual(["model.safetensors.index.json"]);
    for (const place of [target, path.join(target, "model.safetensors.index.json")]) {
      const [c, a] = await loadSafetensors(runtime, place, [
        { tensor: "c", ...f32([100]) },
        { tensor: "a", ...f32([100]) },
      ]);
      expect([(await floats(runtime, c!))[0], (await floats(runtime, a!))[99]]).toEqual([6, 4]);
    }
  });

  it("saves the values of now, though the next step takes the buffers", async () => {
    const size = 1 << 18;
    const program = runtime.compile({ text: addProgram([size], true), outputs: [f32([size]), f32([])] });
    const one = runtime.put(new Float32Array(size).fill(1), f32([size]));
    let x = runtime.put(new Float32Array(size), f32([size]));
    const saves: Promise<unknown>[] = [];
    for (let i = 0; i < 8; i++) {
      saves.push(saveSafetensors(runtime, path.join(folder, `step-${i}.safetensors`), { x }));
      [x] = runtime.execute(program, [x, one]) as [typeof x];
    }
    await Promise.all(saves);
    for (let i = 0; i < 8; i++) {
      const [loaded] = await loadSafetensors(runtime, path.join(folder, `step-${i}.safetensors`), [
        { tensor: "x", ...f32([size]) },
      ]);
      const values = await floats(runtime, loaded!);
      expect([values[0], values[size - 1]]).toEqual([i, i]);
    }
  });

  it("keeps the old file when the disk is full", async () => {
    const disk = path.join(folder, "small");
    fs.mkdirSync(disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], { stdio: "ignore" });
    } catch {
      return expect.soft(process.getuid?.(), "only root can mount a small disk").not.toBe(0);
    }
    try {
      const target = path.join(disk, "model.safetensors");
      await saveSafetensors(runtime, target, { w: runtime.put(new Float32Array([1, 2]), f32([2])) });
      const before = fs.readFileSync(target);
      const big = runtime.put(new Float32Array(1 << 19), f32([1 << 19]));
      for (const place of [target, path.join(disk, "folder")]) {
        const error = await saveSafetensors(runtime, place, { w: big }).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(StorageError);
        expect((error as Error).message).toContain("No space left");
      }
      expect(fs.readFileSync(target)).toEqual(before);
      expect(fs.readdirSync(disk).sort()).toEqual(["folder", "model.safetensors"]);
      expect(fs.readdirSync(path.join(disk, "folder"))).toEqual([]);
    } finally {
      execFileSync("umount", [disk]);
    }
  });

  it("writes where pipes and links lie in the way, and clears up what killed processes left", async () => {
    const target = path.join(folder, "way.safetensors");
    const w = runtime.put(Float32Array.of(3), f32([1]));
    for (const name of [target, path.join(folder, "way", "model.safetensors.index.json")]) {
      fs.mkdirSync(path.dirname(name), { recursive: true });
      execFileSync("mkfifo", [name]);
    }
    fs.writeFileSync(path.join(folder, "mine"), "untouched");
    const { pid } = await runtime.ready;
    fs.symlinkSync(path.join(folder, "mine"), path.join(folder, `.way.safetensors.${pid}.part`));
    await saveSafetensors(runtime, target, { w });
    await saveSafetensors(runtime, path.join(folder, "way"), { w });
    expect(fs.statSync(target).isFile()).toBe(true);
    expect(fs.readFileSync(path.join(folder, "mine"), "utf8")).toBe("untouched");
    const [loaded] = await loadSafetensors(runtime, path.join(folder, "way"), [{ tensor: "w", ...f32([1]) }]);
    expect(await floats(runtime, loaded!)).toEqual([3]);
    // Killed between its shards: the folder is refused, and the next save has it whole.
    const { runtime: other, pid: killed } = await startRuntime();
    const half = path.join(folder, "half");
    const size = 1 << 22;
    const parts = Object.fromEntries(
      ["a", "b", "c"].map((name) => [name, other.put(new Float32Array(size), f32([size]))]),
    );
    const saving = saveSafetensors(other, half, parts, { maxFileBytes: 4 * size }).catch(() => {});
    while (!fs.existsSync(half) || !fs.readdirSync(half).some((name) => name.startsWith("model-"))) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    process.kill(killed, "SIGKILL");
    await saving;
    if (!fs.existsSync(path.join(half, "model.safetensors.index.json"))) {
      await expect(readSafetensorsIndex(runtime, half)).rejects.toThrow(/one of 3 files, and no index/);
    }
    await saveSafetensors(runtime, half, { w });
    expect(Object.keys((await readSafetensorsIndex(runtime, half)).tensors)).toEqual(["w"]);
    const draft = fs.readdirSync(folder).filter((name) => name.endsWith(".part"));
    expect(draft).toEqual([`.way.safetensors.${pid}.part`]);
    fs.rmSync(path.join(folder, draft[0]!));
  });

  it("names what is wrong with a file", async () => {
    const target = path.join(folder, "bad.safetensors");
    const entry = (fields: object) =>
      JSON.stringify({ w: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...fields } });
    const eight = new Uint8Array(8);
    const cases: [Buffer, RegExp][] = [
      [Buffer.alloc(3), /has 3 bytes/],
      [file(entry({}), eight, 1e15), /claims 1000000000000000/],
      [file("[1]", eight), /no JSON object/],
      [file("{", eight), /no valid JSON/],
      [file("[".repeat(100_000), eight), /no valid JSON/],
      [file(entry({ data_offsets: [0, 12] }), eight), /has 8 bytes of data/],
      [file(entry({ data_offsets: [-4, 4] }), eight), /lies at/],
      [file(entry({ shape: [3] }), eight), /are not 8 bytes/],
      [file(entry({ shape: [2 ** 40, 2 ** 40] }), eight), /are not 8 bytes/],
      [file(entry({ shape: [1.5] }), eight), /has the shape/],
      [file(entry({ dtype: 3 }), eight), /no dtype/],
      [file(entry({}), new Uint8Array(9)), /belong to no tensor/],
      [
        file(
          JSON.stringify({
            a: { dtype: "U8", shape: [6], data_offsets: [0, 6] },
            b: { dtype: "U8", shape: [6], data_offsets: [2, 8] },
          }),
          eight,
        ),
        /overlaps/,
      ],
      [file('{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":1}', eight), /occurs twice/],
    ];
    for (const [bytes, message] of cases) {
      fs.writeFileSync(target, bytes);
      await expect(readSafetensorsIndex(runtime, target)).rejects.toThrow(message);
    }
    await expect(readSafetensorsIndex(runtime, path.join(folder, "absent"))).rejects.toThrow(StorageError);
    execFileSync("mkfifo", [path.join(folder, "pipe.safetensors")]);
    await expect(readSafetensorsIndex(runtime, path.join(folder, "pipe.safetensors"))).rejects.toThrow(
      /no regular/,
    );
    const index = path.join(folder, "x.safetensors.index.json");
    for (const name of ["../../etc/passwd", "/etc/passwd", "..", "a\0b", 3]) {
      fs.writeFileSync(index, JSON.stringify({ weight_map: { w: name } }));
      await expect(readSafetensorsIndex(runtime, index)).rejects.toThrow(/no file of its folder/);
    }
    await expect(runtime.request({ op: "safetensors.index", path: "relative" })).rejects.toThrow(/absolute/);
  });

  it("survives ten thousand mutated files", async () => {
    const target = path.join(folder, "seed.safetensors");
    await saveSafetensors(runtime, target, {
      a: runtime.put(new Float32Array(6), f32([2, 3])),
      b: runtime.put(new Uint8Array(5), { shape: [5], dtype: "uint8" }),
    });
    const seed = fs.readFileSync(target);
    const random = generator(7);
    const mutate = () => {
      let bytes = Buffer.from(seed);
      for (let n = 1 + random(3); n > 0 && bytes.length > 0; n--) {
        const at = random(bytes.length);
        const kind = random(5);
        if (kind === 0) bytes[at] = random(256);
        else if (kind === 1) bytes[at]! ^= 1 << random(8);
        else if (kind === 2) bytes = bytes.subarray(0, at);
        else if (kind === 3)
          bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(random(bytes.length))]);
        else bytes[at] = 0x30 + random(10);
      }
      return bytes;
    };
    let accepted = 0;
    const attempt = async (mutant: string) => {
      fs.writeFileSync(mutant, mutate());
      try {
        const { tensors } = await readSafetensorsIndex(runtime, mutant);
        accepted++;
        const known = Object.entries(tensors).filter(([, { dtype }]) => dtypes.includes(dtype as DType));
        const loaded = await loadSafetensors(
          runtime,
          mutant,
          known.map(([tensor, { shape, dtype }]) => ({ tensor, shape, dtype: dtype as DType })),
        );
        for (const buffer of loaded) buffer.free();
      } catch (error) {
        if (!(error instanceof InvalidArgument || error instanceof StorageError)) throw error;
      }
    };
    // In memory: the disk is not what is tested.
    const memory = fs.existsSync("/dev/shm") ? fs.mkdtempSync("/dev/shm/arx-") : folder;
    const mutants = Array.from({ length: 50 }, (_, i) => path.join(memory, `mutant-${i}.safetensors`));
    for (let i = 0; i < 200; i++) await Promise.all(mutants.map(attempt));
    if (memory !== folder) fs.rmSync(memory, { recursive: true });
    expect(accepted).toBeGreaterThan(0);
    expect(accepted).toBeLessThan(9000);
    await runtime.ping();
  }, 120_000);
});
