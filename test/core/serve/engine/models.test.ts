/** Every family, and adapters that come and go: each writes what it writes without the engine. */
import "../../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { llm, peft, random, tree } from "aronnax";
import { describe, expect, it, vi } from "vitest";
import { createEngine } from "../../../../core/src/serve/engine/index.js";
import { characters, fixtures, ids, prompts, written } from "../../../support/written.js";

// Much of this is compilation, which takes its time on a busy machine.
vi.setConfig({ testTimeout: 300_000 });

describe("a family", () => {
  it.each([
    ["llama", 40],
    ["gpt2", 32],
    ["gemma2", 40],
    ["gemma3", 40],
    ["mistral", 40],
    ["mixtral", 40],
    ["qwen2", 40],
    ["qwen3", 40],
    ["qwen3-moe", 40],
    // Sees longer texts otherwise from their first token on.
    ["phi3", 16],
    ["llama-dynamic", 16],
  ])("%s", async (name, context) => {
    const model = await llm.load(join(fixtures, name));
    const engine = createEngine(model, { tokenizer: characters, context, pageSize: 8, chunk: 16 });
    const fitting = prompts.map((prompt) => prompt.slice(0, context - 8));
    const together = await Promise.all(fitting.map((prompt) => ids(engine, { prompt, maxTokens: 8 })));
    expect(together).toEqual(await written(model, fitting));
    const longer = { tokenizer: characters, context: context + 1 };
    if (context < 40) expect(() => createEngine(model, longer)).toThrow(`the model has ${context} positions`);
    await engine.close();
  });
});

it.each(["phi3", "llama-dynamic"])(
  "of %s reads a prompt in pieces, the last of them filled up, as in one",
  async (name) => {
    const model = await llm.load(join(fixtures, name));
    const logs: number[] = [];
    for (const chunk of [16, 5, 3]) {
      const engine = createEngine(model, { tokenizer: characters, context: 16, pageSize: 8, chunk });
      const request = { prompt: prompts[1]!.slice(0, 15), maxTokens: 1, logProbabilities: 0 };
      for await (const { tokens } of engine.submit({ ...request, sampling: { temperature: 0 } }))
        logs.push(...tokens.map(({ logProbability }) => logProbability!));
      await engine.close();
    }
    for (const log of logs) expect(log).toBeCloseTo(logs[0]!, 4);
    expect(logs).toHaveLength(3);
  },
);

it("computes each text with its own adapter, and takes and gives up adapters between", async () => {
  const base = await llm.load(join(fixtures, "llama"));
  const moved = (model: llm.Decoder, by: number): llm.Decoder =>
    tree.mapNamed(
      (leaf, path) =>
        path.includes("adapters.") ? random.normal(by + path.length, leaf.shape).mul(0.5) : leaf,
      model,
    );
  const folder = mkdtempSync(join(tmpdir(), "aronnax-adapters-"));
  try {
    const names = ["first", "second"];
    const alone: number[][] = [];
    const [prompt] = prompts as [number[]];
    for (const [i, name] of names.entries()) {
      const adapted = moved(peft.lora(base, { targetModules: "all-linear", rank: 2 + i }), 100 * i);
      await peft.save(adapted, join(folder, name));
      alone.push((await written(adapted))[0]!);
    }
    const engine = createEngine(base, { tokenizer: characters, context: 40, pageSize: 8 });
    for (const name of names) await engine.loadAdapter(name, join(folder, name));
    expect(engine.adapters()).toEqual(names);
    const own = (adapter?: string): Promise<number[]> =>
      ids(engine, { prompt, maxTokens: 8, ...(adapter !== undefined && { adapter }) });
    const bare = (await written(base))[0]!;
    // Equal prompts: a page of one adapter is of no use to another.
    const expected = [alone[0], alone[1], bare];
    expect(await Promise.all([own("first"), own("second"), own()])).toEqual(expected);
    expect(await Promise.all([own("first"), own("second"), own()])).toEqual(expected);
    expect(new Set(expected.map((each) => each!.join())).size).toBe(3);

    const cut = engine.submit({ prompt, adapter: "first", ignoreEnd: true, sampling: { temperature: 0 } });
    await engine.unloadAdapter("first");
    let finish: string | undefined;
    for await (const piece of cut) finish = piece.finish;
    expect(finish).toBe("aborted");
    expect(() => engine.submit({ prompt, adapter: "first" })).toThrow('there is no adapter "first"');
    expect(await Promise.all([own("second"), own()])).toEqual(expected.slice(1));
    // Another adapter of the same name does not find the pages of the first.
    await engine.loadAdapter("first", join(folder, "second"));
    expect(await own("first")).toEqual(alone[1]);
    await expect(engine.loadAdapter("first", join(folder, "second"))).rejects.toThrow("is loaded already");
    await engine.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
