// `aronnax serve` in a process of its own, asked by OpenAI's client.
import "../../support/runtime.js";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { llm } from "aronnax";
import OpenAI from "openai";
import { expect, it, vi } from "vitest";
import { tiny, tokenizer, until } from "../../support/served.js";

// Much of this is compilation, which takes its time on a busy machine.
vi.setConfig({ testTimeout: 300_000 });
const command = fileURLToPath(new URL("../../../core/bin/aronnax.js", import.meta.url));

it("serves a checkpoint's folder when it is warm, and ends on SIGTERM after the stream under way", async () => {
  const folder = mkdtempSync(join(tmpdir(), "aronnax-serve-"));
  await llm.save(tiny(), folder, { tokenizer });
  const args = ["serve", folder, "--port", "0", "--name", "tiny", "--api-key", "key"];
  const child = spawn(process.execPath, [command, ...args, "--context", "32", "--max-batch", "1"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const pipe of [child.stdout, child.stderr])
    pipe.on("data", (data) => {
      said += data;
    });
  const closed = once(child, "close");
  try {
    await until(() => said.includes("listening on") || child.exitCode !== null);
    const url = /listening on (\S+)/.exec(said)?.[1];
    expect(url, said).toBeDefined();
    expect((await fetch(`${url}/v1/health/live`)).status).toBe(200);
    await until(() => said.includes("\nready") || child.exitCode !== null);
    expect(child.exitCode, said).toBeNull();
    expect((await fetch(`${url}/v1/health/ready`)).status, said).toBe(200);
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "key", maxRetries: 0 });
    const stream = await client.chat.completions.create({
      model: "tiny",
      messages: [{ role: "user", content: "Hi" }],
      temperature: 0,
      // One after another: most are not begun when the signal comes.
      n: 8,
      stream: true,
      ...{ ignore_eos: true },
    });
    let chunks = 0;
    const finished: string[] = [];
    for await (const { choices } of stream) {
      if (++chunks === 2) child.kill("SIGTERM");
      finished.push(...choices.flatMap(({ finish_reason }) => finish_reason ?? []));
    }
    expect(finished).toEqual(Array(8).fill("length"));
    expect(await closed, said).toEqual([0, null]);
    expect(said).toContain("SIGTERM");
  } finally {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
});
