import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type CheckpointContent,
  CheckpointStore,
  type NamedTensor,
  SafetensorsFile,
  TensorFiles,
  tensorsOf,
} from "../../../core/src/checkpoint/index.js";
import { finished, runTypeScript } from "../files/run-typescript.js";

let folder: string;
let warnings: string[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "aronnax-checkpoints-"));
  warnings = [];
});
afterEach(() => rm(folder, { recursive: true }));

const store = (keep?: number) =>
  new CheckpointStore(folder, { keep, onWarning: (warning) => warnings.push(warning) });

function filled(name: string, value: number, length = 1000): NamedTensor {
  return {
    name,
    dtype: "float32",
    shape: [length],
    bytes: async () => new Uint8Array(4 * length).fill(value),
  };
}

function content(step: number): CheckpointContent {
  return {
    step,
    tensors: {
      model: [filled("weight", step), filled("bias", step, 10)],
      optimizer: [filled("weight.m", step)],
    },
    trainer: { step, data: { samples: step * 8 } },
    metadata: { format: "pt" },
  };
}

describe("checkpoints", () => {
  test("are saved under their step and found again", async () => {
    expect(await store().latest()).toBeUndefined();
    for (const step of [0, 20, 123]) await store().save(content(step));
    expect((await readdir(folder)).sort()).toEqual(["step-000000", "step-000020", "step-000123"]);
    expect((await readdir(join(folder, "step-000123"))).sort()).toEqual([
      "manifest.json",
      "model.safetensors",
      "optimizer.safetensors",
      "trainer.json",
    ]);
    const latest = (await store().latest())!;
    expect(latest).toMatchObject({ step: 123, trainer: { step: 123, data: { samples: 984 } } });
    const model = await SafetensorsFile.open(latest.files.model!);
    expect([...model.tensors.keys()].sort()).toEqual(["bias", "weight"]);
    expect(await model.read("bias")).toEqual(new Uint8Array(40).fill(123));
    await model.close();
    expect((await store().open(20)).step).toBe(20);
    await expect(store().open(21)).rejects.toThrow(/no checkpoint of step 21; it has: 0, 20, 123/);
    expect(warnings).toEqual([]);
  });

  test("are kept n at a time, the last saved ones", async () => {
    const three = store(3);
    await Promise.all([10, 20, 30, 40].map((step) => three.save(content(step))));
    expect(await three.steps()).toEqual([20, 30, 40]);
    // Gone on from an earlier step: what was saved last counts, not the highest step.
    await three.save(content(25));
    expect(await three.steps()).toEqual([30, 40, 25]);
    expect((await three.latest())!.step).toBe(25);
    expect(await readdir(folder)).toHaveLength(3);
  });

  test("are kept longer when they are among the best", async () => {
    const best = new CheckpointStore(folder, { keep: 1, keepBest: 2 });
    const scores = [3, 1, 4, 1.5, 9, Number.NaN];
    for (const [i, score] of scores.entries()) await best.save({ ...content(i), score });
    expect(await best.steps()).toEqual([1, 3, 5]);
    expect(await best.best()).toMatchObject({ step: 1, score: 1 });
    expect((await best.latest())!.score).toBeUndefined();
    expect(await store().best()).toMatchObject({ step: 1 });
    await best.save({ ...content(6), score: 1.2 });
    expect(await best.steps()).toEqual([1, 6]);
  });

  test("that are damaged stay until enough newer ones are whole", async () => {
    const two = store(2);
    for (const step of [1, 2, 3]) await two.save(content(step));
    await truncate(join(folder, "step-000003", "model.safetensors"), 100);
    await two.save(content(4));
    expect((await readdir(folder)).sort()).toEqual(["step-000002", "step-000003", "step-000004"]);
    await two.save(content(5));
    expect((await readdir(folder)).sort()).toEqual(["step-000004", "step-000005"]);
  });

  test("of the same step are replaced", async () => {
    await store().save(content(5));
    await store().save({ ...content(5), trainer: "second" });
    expect((await store().latest())!.trainer).toBe("second");
    expect(await readdir(folder)).toEqual(["step-000005"]);
  });

  const damages: [string, (step: string) => Promise<void>, RegExp][] = [
    [
      "a missing file",
      (step) => rm(join(step, "optimizer.safetensors")),
      /optimizer\.safetensors is missing/,
    ],
    [
      "a cut file",
      (step) => truncate(join(step, "model.safetensors"), 900),
      /model\.safetensors has 900 bytes instead of/,
    ],
    [
      "a changed bit",
      (step) => flip(join(step, "model.safetensors"), 2000),
      /content of model\.safetensors does not match/,
    ],
    [
      "a changed state",
      (step) => flip(join(step, "trainer.json"), 5),
      /content of trainer\.json does not match/,
    ],
    ["no manifest", (step) => rm(join(step, "manifest.json")), /manifest\.json cannot be read/],
    ["half a manifest", (step) => truncate(join(step, "manifest.json"), 50), /manifest\.json cannot be read/],
    ["an empty manifest", (step) => writeFile(join(step, "manifest.json"), "null"), /does not describe it/],
    [
      "a later format",
      (step) => writeFile(join(step, "manifest.json"), '{"version":2}'),
      /version 2; .* reads version 1/,
    ],
  ];
  test.each(damages)("with %s are passed over with a warning that says so", async (_, damage, message) => {
    for (const step of [1, 2]) await store().save(content(step));
    await damage(join(folder, "step-000002"));
    expect((await store().latest())!.step).toBe(1);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/step-000002/);
    expect(warnings[0]).toMatch(message);
  });

  async function flip(path: string, at: number): Promise<void> {
    const bytes = await readFile(path);
    bytes[at]! ^= 1;
    await writeFile(path, bytes);
  }

  test("can be saved from the tensors of another checkpoint, byte for byte", async () => {
    const saved = await store().save(content(7));
    const file = await SafetensorsFile.open(saved.files.model!);
    const copy = new CheckpointStore(join(folder, "copy"));
    const again = await copy.save({
      step: 7,
      tensors: { model: tensorsOf(file) },
      trainer: null,
      metadata: { format: "pt" },
    });
    expect((await readFile(again.files.model!)).equals(await readFile(saved.files.model!))).toBe(true);
    await file.close();
  });

  test("that fail leave nothing behind and the earlier ones intact", async () => {
    await store().save(content(1));
    const failing = { ...filled("weight", 0), bytes: () => Promise.reject(new Error("the device is gone")) };
    const broken = { ...content(2), tensors: { model: [filled("bias", 1), failing] } };
    const one = store();
    await expect(one.save(broken)).rejects.toThrow("the device is gone");
    await expect(one.save({ ...content(2), trainer: { loss: Number.NaN } as never })).rejects.toThrow(
      /trainer\.loss is NaN/,
    );
    await expect(one.save({ ...content(2), step: -1 })).rejects.toThrow(/step -1/);
    await expect(one.save({ ...content(2), tensors: { "../x": [] } })).rejects.toThrow(/cannot be named/);
    expect(await readdir(folder)).toEqual(["step-000001"]);
    // And the store goes on.
    await one.save(content(2));
    expect((await one.latest())!.step).toBe(2);
  });

  test("larger than the free space are refused before anything is fetched or written", async () => {
    await store().save(content(1));
    const huge: NamedTensor = {
      name: "huge",
      dtype: "float32",
      shape: [2 ** 46],
      bytes: () => Promise.reject(new Error("must not be fetched")),
    };
    const saving = store().save({ step: 2, tensors: { model: [huge] }, trainer: null });
    await expect(saving).rejects.toThrow(/step-000002 needs 28147\d+ bytes and the disk is full/);
    await expect(saving).rejects.toMatchObject({ fix: expect.stringMatching(/Free some space/) });
    expect(await readdir(folder)).toEqual(["step-000001"]);
  });

  test("that hit the end of the disk while being written leave the earlier ones intact", async () => {
    await store().save(content(1));
    // The limit on a file's size (in KiB) makes the system refuse the write, as a full disk or a quota does.
    const child = await runTypeScript(
      folder,
      `import { CheckpointStore } from "./checkpoint/index.js";
       process.on("SIGXFSZ", () => {});
       const bytes = new Uint8Array(1 << 20);
       new CheckpointStore(process.argv[2])
         .save({ step: 2, tensors: { model: [{ name: "w", dtype: "uint8", shape: [bytes.length], bytes: async () => bytes }] }, trainer: null })
         .catch((error) => console.log(error.name, error.message, error.fix));`,
      { arguments: [folder], command: ["bash", "-c", 'ulimit -f 500; exec "$@"', "bash"] },
    );
    const { stdout } = await finished(child);
    expect(stdout).toMatch(
      /^CheckpointError The checkpoint .*step-000002 needs 10\d{5} bytes and the disk is full \(EFBIG/,
    );
    expect((await readdir(folder)).filter((name) => !name.startsWith("script"))).toEqual(["step-000001"]);
    expect((await store().latest())!.step).toBe(1);
  });

  test("survive kill -9 at any moment of saving and deleting", async () => {
    const script = `
      import { CheckpointStore } from "./checkpoint/index.js";
      const store = new CheckpointStore(process.argv[2], { keep: 2 });
      const tensor = (name, value) => ({ name, dtype: "uint8", shape: [300000], bytes: async () => new Uint8Array(300000).fill(value) });
      (async () => {
        const first = ((await store.latest())?.step ?? 0) + 1;
        for (let step = first; ; step++) {
          await store.save({ step: step % 7 === 0 ? step - 1 : step, tensors: { model: [tensor("a", step), tensor("b", step)] }, trainer: { value: step % 256 } });
          process.stdout.write(step + "\\n");
        }
      })();`;
    let litter = 0;
    for (let round = 0; round < 8; round++) {
      const child = await runTypeScript(folder, script, { arguments: [join(folder, "run")] });
      let said = "";
      child.stdout!.on("data", (chunk) => {
        said += chunk;
      });
      await once(child.stdout!, "data");
      await sleep(5 + 23 * round);
      child.kill("SIGKILL");
      await once(child, "close");
      const reported = Number(said.split("\n").at(-2));
      const after = new CheckpointStore(join(folder, "run"), {
        onWarning: (warning) => warnings.push(warning),
      });
      const latest = (await after.latest())!;
      expect(warnings).toEqual([]);
      expect(latest.step).toBeGreaterThanOrEqual(reported - 1);
      const { value } = latest.trainer as { value: number };
      const model = await SafetensorsFile.open(latest.files.model!);
      for (const name of ["a", "b"]) {
        expect(Buffer.compare(await model.read(name), new Uint8Array(300_000).fill(value))).toBe(0);
      }
      await model.close();
      // Reading left what the killed process had not finished.
      const unfinished = (await readdir(join(folder, "run"))).filter((name) => name.startsWith("."));
      litter += unfinished.length;
    }
    expect(litter).toBeGreaterThan(0);
    await new CheckpointStore(join(folder, "run"), { onWarning() {} }).save(content(100_000));
    expect((await readdir(join(folder, "run"))).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("moved aside by a process that died are brought back", async () => {
    await store().save(content(3));
    await mkdir(join(folder, "x"));
    await cp(join(folder, "step-000003"), join(folder, ".old-step-000004-999999999.1-0"), {
      recursive: true,
    });
    await rm(join(folder, "step-000003"), { recursive: true });
    await cp(join(folder, ".old-step-000004-999999999.1-0"), join(folder, ".old-step-000003-999999999.1-0"), {
      recursive: true,
    });
    await mkdir(join(folder, ".tmp-step-000009-999999999.1-0"));
    await mkdir(join(folder, ".del-step-000001-999999999.1-0"));
    const before = (await readdir(folder)).sort();
    expect((await store().latest())!).toMatchObject({ step: 3, trainer: { step: 3 } });
    expect((await store().open(3)).step).toBe(3);
    expect((await readdir(folder)).sort()).toEqual(before);
    await store().save(content(5));
    // Step 4 came back as well, but its manifest is that of step 3.
    expect((await readdir(folder)).sort()).toEqual(["step-000003", "step-000004", "step-000005", "x"]);
    expect(await store().steps()).toEqual([3, 5]);
  });

  test("unfinished by a process of another host or namespace are left to it, until they are a day old", async () => {
    const foreign = join(folder, ".tmp-step-000009-0123456789ab-1.1-0011223344556677");
    await mkdir(foreign);
    await writeFile(join(foreign, "model.safetensors"), "half");
    await store().save(content(1));
    expect((await store().latest())!.step).toBe(1);
    expect(await readdir(foreign)).toEqual(["model.safetensors"]);
    const old = new Date(Date.now() - 25 * 3600e3);
    await utimes(foreign, old, old);
    await store().save(content(2));
    expect(await readdir(foreign)).toEqual(["model.safetensors"]);
    await utimes(join(foreign, "model.safetensors"), old, old);
    await utimes(foreign, old, old);
    await store().save(content(3));
    expect((await readdir(folder)).sort()).toEqual(["step-000001", "step-000002", "step-000003"]);
  });

  test("are found beside a process that saves and deletes, each time", async () => {
    const script = `
      import { CheckpointStore } from "./checkpoint/index.js";
      const store = new CheckpointStore(process.argv[2], { keep: 2 });
      const bytes = new Uint8Array(400000);
      (async () => {
        for (let step = 1; ; step++) {
          // Each second time the step of before is replaced.
          await store.save({ step: step >> 1, tensors: { model: [{ name: "w", dtype: "uint8", shape: [bytes.length], bytes: async () => bytes }] }, trainer: { step } });
          if (step === 4) process.stdout.write("go");
        }
      })();`;
    const child = await runTypeScript(folder, script, { arguments: [join(folder, "run")] });
    try {
      await once(child.stdout!, "data");
      const reader = new CheckpointStore(join(folder, "run"), {
        onWarning: (warning) => warnings.push(warning),
      });
      let last = 0;
      for (let look = 0; look < 150; look++) {
        const found = await reader.latest();
        const { step } = found!.trainer as { step: number };
        expect(step).toBeGreaterThanOrEqual(last);
        last = step;
      }
      expect(warnings).toEqual([]);
    } finally {
      child.kill("SIGKILL");
    }
  }, 120_000);

  const manifests = [
    "{}",
    '{"version":1,"step":2,"savedAt":1,"files":{"../../../etc/passwd":{"bytes":1,"crc32":1}}}',
    '{"version":1,"step":2,"savedAt":1,"files":null}',
    '{"version":1,"step":2,"savedAt":1,"files":[]}',
    '{"version":1,"step":2,"savedAt":1e400,"files":{}}',
    '{"version":1,"step":2,"savedAt":99999999999999,"files":{"model.safetensors":null}}',
    '{"version":1,"step":2,"savedAt":99999999999999,"files":{"sub.d":{"bytes":4096,"crc32":1}}}',
    '{"version":1,"step":2,"savedAt":99999999999999,"files":{"trainer.json":{"bytes":1,"crc32":366298937}}}',
    '{"version":1,"step":2,"savedAt":99999999999999,"files":{"pipe.d":{"bytes":0,"crc32":0}}}',
  ];
  test.each(manifests)("with the manifest %s are passed over", async (manifest) => {
    for (const step of [1, 2]) await store().save(content(step));
    const step = join(folder, "step-000002");
    await mkdir(join(step, "sub.d"));
    execFileSync("mkfifo", [join(step, "pipe.d")]);
    // One byte that is no JSON, with its checksum.
    await writeFile(join(step, "trainer.json"), "{");
    await writeFile(join(step, "manifest.json"), manifest);
    expect((await store().latest())!.step).toBe(1);
    expect(warnings).toHaveLength(1);
    await store().save(content(3));
    expect((await store().latest())!.step).toBe(3);
  });

  test("whose files are pipes or devices do not hold the reader up", async () => {
    for (const step of [1, 2]) await store().save(content(step));
    const manifest = join(folder, "step-000002", "manifest.json");
    await rm(manifest);
    execFileSync("mkfifo", [manifest]);
    expect((await store().latest())!.step).toBe(1);
    expect(warnings[0]).toMatch(/no regular file/);
    const pipe = join(folder, "pipe.safetensors");
    execFileSync("mkfifo", [pipe]);
    for (const path of [pipe, "/dev/zero"]) {
      await expect(SafetensorsFile.open(path)).rejects.toThrow(/no regular file/);
    }
    const index = join(folder, "model.safetensors.index.json");
    execFileSync("mkfifo", [index]);
    await expect(TensorFiles.open(folder)).rejects.toThrow(/no regular file/);
  });
});
