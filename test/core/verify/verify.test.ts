/** `verify` and `aronnax verify`, on checkpoints that transformers made (fixtures/verify/make.py). */
import "../../support/runtime.js";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkpoint, type VerifyReport, verify } from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";
import { families } from "../../../core/src/models/llm/pretrained.js";

const fixtures = fileURLToPath(new URL("../../fixtures/verify", import.meta.url));
const command = fileURLToPath(new URL("../../../core/bin/aronnax.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-verify-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
vi.setConfig({ testTimeout: 240_000 });

const names = readdirSync(fixtures, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

/** The command in a process of its own. */
function run(...args: string[]): Promise<{ status: number | null; out: string; errors: string }> {
  const child = spawn(process.execPath, [command, "verify", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const said = { out: "", errors: "" };
  child.stdout.on("data", (data) => {
    said.out += data;
  });
  child.stderr.on("data", (data) => {
    said.errors += data;
  });
  return new Promise((resolve) => child.on("close", (status) => resolve({ status, ...said })));
}

let copies = 0;
/** A copy of a fixture. */
function copyOf(name: string): string {
  const at = join(folder, `${name}-${copies++}`);
  cpSync(join(fixtures, name), at, { recursive: true });
  return at;
}

type Arrays = Map<string, checkpoint.NamedTensor>;

/** Changes the tensors of a file. */
async function rewrite(path: string, change: (tensors: Arrays) => void): Promise<void> {
  const tensors: Arrays = new Map();
  {
    await using file = await checkpoint.SafetensorsFile.open(path);
    for (const { name, dtype, shape } of file.tensors.values()) {
      const bytes = await file.read(name);
      tensors.set(name, { name, dtype, shape, bytes: async () => bytes });
    }
  }
  change(tensors);
  rmSync(path);
  await checkpoint.writeSafetensors(path, [...tensors.values()], { format: "pt" });
}

/** A tensor with its floats changed. */
function changed(
  tensor: checkpoint.NamedTensor,
  change: (values: Float32Array) => void,
): checkpoint.NamedTensor {
  return {
    ...tensor,
    bytes: async () => {
      const bytes = (await tensor.bytes()).slice();
      change(new Float32Array(bytes.buffer));
      return bytes;
    },
  };
}

const move = (tensors: Arrays, from: string, to: string): void => {
  tensors.set(to, { ...tensors.get(from)!, name: to });
  tensors.delete(from);
};

describe("every family", () => {
  const all = run("--json", ...names.map((name) => join(fixtures, name))).then((done) => ({
    ...done,
    reports: JSON.parse(done.out) as VerifyReport[],
  }));

  it("has a fixture", async () => {
    const { reports } = await all;
    const made = new Set(reports.map(({ architecture }) => architecture));
    expect([...made].sort()).toEqual(families.map(({ architecture }) => architecture).sort());
  });

  it.each(names.map((name, i) => [name, i] as const))(
    "computes here what it computed there: %s",
    async (name, i) => {
      const { comparisons, small, holds } = (await all).reports[i]!;
      for (const { kind, name: of, error } of comparisons)
        expect(error, `${kind} ${of}`).toBeLessThanOrEqual(1e-5);
      expect(holds).toBe(true);
      // All that the reference has was looked at, and everything of the checkpoint.
      await using gradients = await checkpoint.TensorFiles.open(
        join(fixtures, name, "reference-grads.safetensors"),
      );
      const seen = [...comparisons, ...small].filter((each) => !("kind" in each) || each.kind === "gradient");
      expect(seen.map((each) => each.name).sort()).toEqual([...gradients.tensors.keys()].sort());
      expect(comparisons.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["output", "loss"]));
      const errors = comparisons.map(({ error }) => error);
      expect(errors).toEqual(errors.toSorted((a, b) => b - a));
    },
  );

  it("ends with 0", async () => {
    expect((await all).status).toBe(0);
  });

  it("lists gradients that are zero but for rounding apart", async () => {
    const gpt2 = (await all).reports.filter(({ architecture }) => architecture === "GPT2LMHeadModel");
    // GPT-2's key biases lie within one tensor with others: none of its gradients is all zero.
    for (const { small } of gpt2) expect(small).toEqual([]);
  });

  it("says which of torch's ways it was", async () => {
    const ways = Object.fromEntries((await all).reports.map(({ way }, i) => [names[i]!, way]));
    expect(ways.llama).toBeUndefined();
    expect(ways["llama-left"]).toMatch(/zeros/);
    expect(ways["llama-eager"]).toMatch(/mean/);
    expect(ways["llama-packed"]).toMatch(/use_cache=False/);
  });
});

describe("what does not hold", () => {
  it("is shown first, and the command ends with 1", async () => {
    const at = copyOf("llama-summed");
    const weight = "model.layers.0.mlp.down_proj.weight";
    await rewrite(join(at, "model.safetensors"), (tensors) => {
      tensors.set(
        weight,
        changed(tensors.get(weight)!, (values) => {
          values[3] = values[3]! + 0.01;
        }),
      );
    });
    const { status, out } = await run(at);
    expect(status, out).toBe(1);
    expect(out.split("\n")[1]).toMatch(/e-\d +(output|gradient) .* <-- differs$/);
    expect(out).toMatch(/does not hold: \d+ of 13 beyond 0.00001, the worst /);
    expect((await run(at, "--tolerance", "0.5")).status).toBe(0);
  });

  it("is a value that is not finite", async () => {
    const at = copyOf("llama-summed");
    await rewrite(join(at, "model.safetensors"), (tensors) => {
      tensors.set(
        "model.norm.weight",
        changed(tensors.get("model.norm.weight")!, (values) => values.fill(Number.NaN)),
      );
    });
    const { holds, comparisons } = await verify(at);
    expect(holds).toBe(false);
    expect(comparisons[0]!.error).toBe(Number.POSITIVE_INFINITY);
  });

  it("is a small gradient that is not small here, or one that torch does not have", async () => {
    const at = copyOf("llama-summed");
    const [shrunk, left] = ["model.norm.weight", "model.layers.0.input_layernorm.weight"];
    await rewrite(join(at, "reference-grads.safetensors"), (tensors) => {
      tensors.set(
        shrunk,
        changed(tensors.get(shrunk)!, (values) => values.fill(1e-12)),
      );
      tensors.delete(left);
    });
    const { holds, small } = await verify(at);
    expect(holds).toBe(false);
    expect(small).toEqual([
      {
        name: shrunk,
        reference: expect.closeTo(1e-12 * Math.sqrt(8), 14),
        ours: expect.any(Number),
        holds: false,
      },
      { name: left, reference: 0, ours: expect.any(Number), holds: false },
    ]);
  });

  it("is fine where both are zero but for rounding", async () => {
    const at = copyOf("llama-summed");
    // A vocabulary's row that nothing reads, and a bias that does nothing, are the like: here a factor of the loss of nearly zero.
    const report = await verify(at);
    expect(report).toMatchObject({ holds: true, small: [] });
  });
});

describe("what cannot be compared is named", () => {
  const cases: Record<string, [string, (at: string) => Promise<void> | void, RegExp, RegExp]> = {
    "a missing reference": [
      "llama-summed",
      (at) => rmSync(join(at, "reference.safetensors")),
      /there is no .*reference.safetensors/,
      /docs\/verify.md/,
    ],
    "another architecture": [
      "llama-summed",
      (at) => writeFileSync(join(at, "config.json"), JSON.stringify({ architectures: ["BertModel"] })),
      /architecture is BertModel/,
      /LlamaForCausalLM, MistralForCausalLM/,
    ],
    "a diffusers model": [
      "llama-summed",
      (at) => writeFileSync(join(at, "config.json"), JSON.stringify({ _class_name: "UNet2DModel" })),
      /architecture is UNet2DModel/,
      /can be opened/,
    ],
    "no checkpoint": [
      "llama-summed",
      (at) => rmSync(join(at, "config.json")),
      /there is no .*config.json/,
      /save_pretrained/,
    ],
    "another loss": [
      "llama-summed",
      (at) => writeFileSync(join(at, "reference.json"), '{"loss": "mine"}'),
      /the loss is "mine"/,
      /sum over outputs/,
    ],
    "an own loss without labels": [
      "llama-summed",
      (at) => rmSync(join(at, "reference.json")),
      /have no labels/,
      /input.labels/,
    ],
    "an unknown input": [
      "llama",
      (at) =>
        rewrite(join(at, "reference.safetensors"), (t) => move(t, "input.labels", "input.token_type_ids")),
      /has input.token_type_ids/,
      /input_ids, attention_mask, position_ids, labels/,
    ],
    "an unknown output": [
      "llama",
      (at) =>
        rewrite(join(at, "reference.safetensors"), (t) =>
          move(t, "output.logits", "output.last_hidden_state"),
        ),
      /has output.last_hidden_state/,
      /it gives logits/,
    ],
    "a name without a kind": [
      "llama",
      (at) => rewrite(join(at, "reference.safetensors"), (t) => move(t, "output.logits", "logits")),
      /holds "logits"/,
      /output.NAME/,
    ],
    "tokens that are none": [
      "llama",
      (at) =>
        rewrite(join(at, "reference.safetensors"), (t) => move(t, "input.input_ids", "input.position_ids")),
      /input.input_ids is missing/,
      /tokens/,
    ],
    "outputs of another shape": [
      "llama",
      (at) =>
        rewrite(join(at, "reference.safetensors"), (t) => {
          t.set("output.logits", { ...t.get("output.logits")!, shape: [25, 2, 40] });
        }),
      /output.logits is \[25, 2, 40\] in the reference, here \[2, 25, 40\]/,
      /this very checkpoint/,
    ],
    "a gradient of another name": [
      "llama",
      (at) =>
        rewrite(join(at, "reference-grads.safetensors"), (t) =>
          move(t, "model.norm.weight", "model.norms.weight"),
        ),
      /no parameter of the checkpoint: model.norms.weight/,
      /such as model.norm.weight/,
    ],
    "a gradient of another shape": [
      "llama",
      (at) =>
        rewrite(join(at, "reference-grads.safetensors"), (t) => {
          t.set("lm_head.weight", { ...t.get("lm_head.weight")!, shape: [16, 40] });
        }),
      /gradient of lm_head.weight is \[16, 40\] in the reference, here \[40, 16\]/,
      /this very checkpoint/,
    ],
  };

  it.each(Object.entries(cases))("%s", async (_, [name, change, message, fix]) => {
    const at = copyOf(name);
    await change(at);
    expect(await verify(at).catch((error: unknown) => error)).toMatchObject({
      message: expect.stringMatching(message),
      fix: expect.stringMatching(fix),
    });
  });

  it("as an adapter of a kind that cannot be opened", async () => {
    const adapter = join(folder, "adapter");
    mkdirSync(adapter);
    await expect(verify(join(fixtures, "llama"), { adapter })).rejects.toThrow(
      /there is no .*adapter_config.json/,
    );
    writeFileSync(join(adapter, "adapter_config.json"), JSON.stringify({ peft_type: "VBLORA" }));
    await expect(verify(join(fixtures, "llama"), { adapter })).rejects.toThrow(/the adapter is VBLORA/);
  });

  it("as options", async () => {
    await expect(verify(fixtures, { tolerance: 0 })).rejects.toThrow(/tolerance is 0/);
    await expect(verify(fixtures, { tolerant: 1 } as never)).rejects.toThrow(/no option tolerant/);
    await expect(verify(1 as never)).rejects.toThrow(/the folder is number/);
  });

  it("by the command, beside what holds, with 1 at the end", async () => {
    const at = copyOf("llama-summed");
    rmSync(join(at, "reference.safetensors"));
    const { status, out, errors } = await run(at, join(fixtures, "llama-summed"));
    expect(status).toBe(1);
    expect(errors).toMatch(/error: there is no .*reference.safetensors\n {2}fix: /);
    expect(out).toMatch(/holds: all 13 within 0.00001/);
    expect((await run("--tolerance", "x", at)).errors).toMatch(/--tolerance is x/);
    expect((await run()).status).toBe(2);
  });
});

it("takes torch's name of a shared table's second use", async () => {
  const at = copyOf("llama-summed");
  await rewrite(join(at, "reference-grads.safetensors"), (t) =>
    move(t, "model.embed_tokens.weight", "lm_head.weight"),
  );
  expect((await verify(at)).holds).toBe(true);
});

it("compares outputs alone where the reference has no more", async () => {
  const at = copyOf("llama");
  rmSync(join(at, "reference-grads.safetensors"));
  await rewrite(join(at, "reference.safetensors"), (t) => {
    t.delete("loss");
    t.delete("input.labels");
  });
  const report = await verify(at);
  expect(report.comparisons.map(({ kind, name }) => `${kind} ${name}`)).toEqual(["output logits"]);
  expect(report).toMatchObject({ holds: true, gradientNorm: undefined });
  expect(readFileSync(join(at, "reference.json"), "utf8")).toContain("own");
});
