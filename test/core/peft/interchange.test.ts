/** Adapters that Hugging Face's PEFT saved: the same logits, loss and gradients (fixtures/peft/make.py). */
import "../../support/runtime.js";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { checkpoint, llm, peft, tensor, tree, verify } from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";

vi.setConfig({ testTimeout: 240_000 });
const fixtures = fileURLToPath(new URL("../../fixtures/peft", import.meta.url));
const bases = fileURLToPath(new URL("../../fixtures/verify", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-peft-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const names = readdirSync(fixtures, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

const json = (path: string) => JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
const baseOf = (name: string) =>
  join(bases, json(join(fixtures, name, "adapter_config.json")).base_model_name_or_path as string);

/** What PEFT computed with adapters that we had saved (open_ours.py), and how their configurations looked. */
const opened = json(join(fixtures, "opened.json")) as Record<string, { error: number; config: object }>;

describe.each(names)("%s", (name) => {
  it("gives PEFT's logits, loss and gradients", async () => {
    const report = await verify(baseOf(name), { adapter: join(fixtures, name) });
    expect(report.comparisons.length).toBeGreaterThan(1);
    expect(report.comparisons.filter(({ holds }) => !holds)).toEqual([]);
    expect(report.holds).toBe(true);
  });

  it("is saved as PEFT saves it, and opens again", async () => {
    const base = await llm.load(baseOf(name));
    const model = await peft.load(base, join(fixtures, name));
    const at = join(folder, name);
    const named = json(join(fixtures, name, "adapter_config.json")).base_model_name_or_path as string;
    await peft.save(model, at, { base: named });
    const files = [join(fixtures, name), at].map((f) => join(f, "adapter_model.safetensors"));
    await using theirs = await checkpoint.SafetensorsFile.open(files[0]!);
    await using ours = await checkpoint.SafetensorsFile.open(files[1]!);
    // PEFT adds whole tables where products stand at them.
    const wanted = [...theirs.tensors.keys()].filter((key) => !key.endsWith("base_layer.weight"));
    expect([...ours.tensors.keys()].sort()).toEqual(wanted.sort());
    for (const key of wanted) {
      expect(ours.tensors.get(key)!.shape).toEqual(theirs.tensors.get(key)!.shape);
      expect(Buffer.from(await ours.read(key)).equals(Buffer.from(await theirs.read(key))), key).toBe(true);
    }
    const config = json(join(at, "adapter_config.json"));
    // This very file PEFT has opened, and computed the same logits with.
    expect(config).toEqual(opened[name]!.config);
    expect(opened[name]!.error).toBeLessThan(1e-5);
    const again = await peft.load(base, at);
    const [before, after] = [tree.named(model), tree.named(again)];
    expect([...after.keys()]).toEqual([...before.keys()]);
    for (const [path, leaf] of before) {
      if (!path.includes("adapters.")) continue;
      expect(await after.get(path)!.data(), path).toEqual(await leaf.data());
    }
  });
});

it("opens several of PEFT's adapters over one base, switches them and saves one of them", async () => {
  const base = await llm.load(join(bases, "llama"));
  const one = await peft.load(base, join(fixtures, "lora-llama"), { name: "one" });
  const both = await peft.load(one, join(fixtures, "lora-patterns"), { name: "two" });
  const alone = await peft.load(base, join(fixtures, "lora-llama"));
  const x = tensor(Int32Array.of(3, 5, 7, 9), { shape: [2, 2] });
  const logits = async (model: llm.Llama) => Array.from(await model.forward(x).data(), Number);
  expect(await logits(peft.activate(both, "one"))).toEqual(await logits(alone));
  expect(await logits(peft.activate(both, null))).toEqual(await logits(base));
  await peft.save(both, join(folder, "two"), { name: "two" });
  expect(await logits(await peft.load(base, join(folder, "two")))).toEqual(await logits(both));
  await expect(peft.save(both, join(folder, "three"))).rejects.toThrow(/no adapter "default"/);
  await expect(peft.load(both, join(fixtures, "lora-llama"), { name: "one" })).rejects.toThrow(/already/);
});

it("verifies an adapter from the command line", async () => {
  const command = fileURLToPath(new URL("../../../core/bin/aronnax.js", import.meta.url));
  const args = [command, "verify", join(bases, "gpt2"), "--adapter", join(fixtures, "lora-gpt2"), "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(JSON.parse(stdout)).toMatchObject({ holds: true, architecture: "GPT2LMHeadModel" });
});
