import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type NamedTensor,
  SafetensorsFile,
  TensorFiles,
  tensorsOf,
  writeTensorFiles,
} from "../../../core/src/checkpoint/index.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "aronnax-shards-"));
});
afterEach(() => rm(folder, { recursive: true }));

const tensors = Array.from(
  { length: 5 },
  (_, i): NamedTensor => ({
    name: `layer.${i}`,
    dtype: "float32",
    shape: [10, i],
    bytes: async () => new Uint8Array(40 * i).fill(i),
  }),
);

async function contents(path: string): Promise<Map<string, Uint8Array>> {
  await using files = await TensorFiles.open(path);
  const out = new Map<string, Uint8Array>();
  for (const name of files.tensors.keys()) out.set(name, await files.read(name));
  return out;
}

const expected = new Map(tensors.map((_, i) => [`layer.${i}`, new Uint8Array(40 * i).fill(i)]));

describe("a checkpoint of one file", () => {
  test("is written and opened by file or folder", async () => {
    const path = await writeTensorFiles(folder, tensors);
    expect(path).toBe(join(folder, "model.safetensors"));
    expect(await contents(path)).toEqual(expected);
    expect(await contents(folder)).toEqual(expected);
    const file = await SafetensorsFile.open(path);
    expect(file.header.metadata).toEqual({ format: "pt" });
    await file.close();
    await rename(path, join(folder, "adapter.safetensors"));
    expect(await contents(folder)).toEqual(expected);
  });
});

describe("a checkpoint of several files", () => {
  const shards = (count: number) =>
    Array.from({ length: count }, (_, i) => `model-0000${i + 1}-of-0000${count}.safetensors`);

  test("is written with transformers' names and index, and opened whole", async () => {
    const index = await writeTensorFiles(folder, tensors, { maxShardBytes: 200 });
    expect((await readdir(folder)).sort()).toEqual([...shards(3), "model.safetensors.index.json"]);
    expect(JSON.parse(await readFile(index, "utf8"))).toEqual({
      metadata: { total_size: 400 },
      weight_map: {
        "layer.0": shards(3)[0],
        "layer.1": shards(3)[0],
        "layer.2": shards(3)[0],
        "layer.3": shards(3)[1],
        "layer.4": shards(3)[2],
      },
    });
    expect(await contents(folder)).toEqual(expected);
    await using files = await TensorFiles.open(folder);
    const copy = join(folder, "copy");
    await writeTensorFiles(copy, tensorsOf(files), { maxShardBytes: 200 });
    for (const name of [...shards(3), "model.safetensors.index.json"]) {
      expect((await readFile(join(copy, name))).equals(await readFile(join(folder, name)))).toBe(true);
    }
    await expect(files.read("layer.9")).rejects.toThrow(/has no tensor "layer.9"/);
  });

  test("with missing files or tensors is refused by name", async () => {
    const index = await writeTensorFiles(folder, tensors, { maxShardBytes: 200 });
    const map = JSON.parse(await readFile(index, "utf8")) as { weight_map: Record<string, string> };
    await rm(join(folder, shards(3)[1]!));
    await rm(join(folder, shards(3)[2]!));
    await expect(TensorFiles.open(folder)).rejects.toThrow(
      `lists 3 files, and 2 of them are missing: ${shards(3)[1]}, ${shards(3)[2]}.`,
    );
    map.weight_map = { "layer.4": shards(3)[0]! };
    await writeFile(index, JSON.stringify(map));
    await expect(TensorFiles.open(folder)).rejects.toThrow(/has the tensor "layer.4"; it has not/);
    for (const outside of ["../x.safetensors", "/etc/x.safetensors", "x.bin", 7]) {
      await writeFile(index, JSON.stringify({ weight_map: { a: outside } }));
      await expect(TensorFiles.open(folder)).rejects.toThrow(/as the file of "a"/);
    }
    await writeFile(index, "[]");
    await expect(TensorFiles.open(folder)).rejects.toThrow(/no object `weight_map`/);
  });

  test("that is none is refused with what is there", async () => {
    await expect(TensorFiles.open(join(folder, "none"))).rejects.toThrow(/There is no .*none/);
    await writeFile(join(folder, "pytorch_model.bin"), "");
    const refused = TensorFiles.open(folder);
    await expect(refused).rejects.toThrow(/it has: pytorch_model\.bin/);
    await expect(refused).rejects.toMatchObject({ fix: expect.stringMatching(/Only safetensors are read/) });
  });
});
