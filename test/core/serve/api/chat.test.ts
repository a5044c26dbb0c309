// Chat completions of a real engine, read by OpenAI's client.
import "../../../support/runtime.js";
import { once } from "node:events";
import { connect } from "node:net";
import OpenAI, { APIError, BadRequestError } from "openai";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { Runtime } from "../../../../core/src/runtime/runtime.js";
import type { Service } from "../../../../core/src/serve/api/index.js";
import type { Engine } from "../../../../core/src/serve/engine/types.js";
import { startTiny, tokenizer, until } from "../../../support/served.js";

let engine: Engine;
let service: Service;
let client: OpenAI;

beforeAll(async () => {
  ({ engine, service } = await startTiny());
  client = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: "any", maxRetries: 0 });
});

afterAll(() => service?.drain());

const base = {
  model: "tiny",
  messages: [{ role: "user" as const, content: "Hi" }],
  temperature: 0,
  max_tokens: 12,
  ignore_eos: true,
};
const whole = (more: object = {}): Promise<OpenAI.ChatCompletion> =>
  client.chat.completions.create({ ...base, ...more, stream: false });

async function streamed(more: object = {}): Promise<OpenAI.ChatCompletionChunk[]> {
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  for await (const chunk of await client.chat.completions.create({ ...base, ...more, stream: true }))
    chunks.push(chunk);
  return chunks;
}

const textOf = (chunks: readonly OpenAI.ChatCompletionChunk[], index = 0) =>
  chunks
    .flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
    .map(({ delta }) => delta.content ?? "")
    .join("");

describe("chat completions", () => {
  it("are what the engine writes, streamed or not, and say what they used", async () => {
    const prompt = [...tokenizer.encode("user: Hi\nassistant: ")];
    let text = "";
    for await (const piece of engine.submit({
      prompt,
      maxTokens: 12,
      ignoreEnd: true,
      sampling: { temperature: 0 },
    }))
      text += piece.text;
    const answer = await whole();
    expect(answer.choices[0]).toMatchObject({
      finish_reason: "length",
      message: { role: "assistant", content: text },
    });
    expect(answer.usage).toMatchObject({
      prompt_tokens: prompt.length,
      completion_tokens: 12,
      total_tokens: prompt.length + 12,
    });
    const chunks = await streamed({ stream_options: { include_usage: true } });
    expect(textOf(chunks)).toBe(text);
    expect(chunks[0]!.choices[0]!.delta.role).toBe("assistant");
    expect(chunks.at(-2)!.choices[0]!.finish_reason).toBe("length");
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 12 } });
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
  });

  it("give several texts, which a seed gives again", async () => {
    const more = { n: 3, seed: 7, temperature: 1 };
    const answer = await whole(more);
    const texts = answer.choices.map(({ message }) => message.content);
    expect(new Set(texts).size).toBe(3);
    const chunks = await streamed(more);
    expect([0, 1, 2].map((index) => textOf(chunks, index))).toEqual(texts);
    expect(answer.usage).toMatchObject({ prompt_tokens: 20, completion_tokens: 36 });
    expect((await whole({ ...more, seed: 8 })).choices.map(({ message }) => message.content)).not.toEqual(
      texts,
    );
  });

  it("tell log-probabilities", async () => {
    const more = { logprobs: true, top_logprobs: 3 };
    const content = (await whole(more)).choices[0]!.logprobs!.content!;
    expect(content).toHaveLength(12);
    for (const { token, logprob, top_logprobs } of content) {
      expect(top_logprobs).toHaveLength(3);
      // Of greedy decoding the drawn token is the likeliest.
      expect(top_logprobs[0]).toMatchObject({ token, logprob });
      expect(top_logprobs.map((one) => one.logprob)).toEqual(
        top_logprobs.map((one) => one.logprob).sort((a, b) => b - a),
      );
      expect(logprob).toBeLessThanOrEqual(0);
    }
    const chunks = await streamed(more);
    expect(chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? [])).toEqual(content);
    // Tokens that may not be drawn have a number too.
    const without = await whole({ ...more, top_logprobs: 20, logit_bias: { 0: -100 }, min_tokens: 4 });
    for (const one of without.choices[0]!.logprobs!.content!)
      expect(one.top_logprobs.every(({ logprob }) => Number.isFinite(logprob))).toBe(true);
  });

  it("end before a stop string", async () => {
    const text = (await whole({ max_tokens: 24 })).choices[0]!.message.content!;
    const at = [...text].findIndex((character, i) => i > 2 && character !== "�");
    const stop = [...text][at]!;
    const { choices } = await whole({ max_tokens: 24, stop });
    expect(choices[0]!.finish_reason).toBe("stop");
    expect(choices[0]!.message.content).toBe(text.slice(0, text.indexOf(stop)));
  });

  it("fit a JSON schema, each of several", async () => {
    const schema = {
      type: "object",
      properties: { whale: { type: "boolean" }, size: { enum: ["small", "large"] } },
      required: ["whale", "size"],
      additionalProperties: false,
    };
    const { choices } = await whole({
      n: 2,
      seed: 1,
      temperature: 1,
      max_tokens: 100,
      ignore_eos: false,
      response_format: { type: "json_schema", json_schema: { name: "whale", schema } },
    });
    expect(choices).toHaveLength(2);
    for (const { finish_reason, message } of choices) {
      expect(finish_reason).toBe("stop");
      const { whale, size, ...rest } = JSON.parse(message.content!);
      expect(typeof whale).toBe("boolean");
      expect(["small", "large"]).toContain(size);
      expect(rest).toEqual({});
    }
  });

  it("call tools", async () => {
    const call = '<tool_call>\n{"name": "dive", "arguments": {"depth": 5}}\n</tool_call>';
    const more = {
      max_tokens: 100,
      ignore_eos: false,
      tools: [{ type: "function", function: { name: "dive", parameters: { type: "object" } } }],
      tool_choice: "auto",
      // A model of random weights calls nothing by itself.
      structured_outputs: { choice: [call] },
    };
    const { finish_reason, message } = (await whole(more)).choices[0]!;
    expect(finish_reason).toBe("tool_calls");
    expect(message.content).toBeNull();
    expect(message.tool_calls).toMatchObject([
      { type: "function", function: { name: "dive", arguments: '{"depth": 5}' } },
    ]);
    const chunks = await streamed(more);
    const calls = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    expect(calls[0]).toMatchObject({ index: 0, type: "function", function: { name: "dive" } });
    expect(calls.map((one) => one.function?.arguments ?? "").join("")).toBe('{"depth": 5}');
    expect(chunks.at(-1)!.choices[0]!.finish_reason).toBe("tool_calls");
    // What it does write passes as content.
    const plain = await whole({ ...more, structured_outputs: undefined, max_tokens: 4, ignore_eos: true });
    expect(plain.choices[0]).toMatchObject({ finish_reason: "length", message: { role: "assistant" } });
  });

  it("are refused where the prompt is beyond the context", async () => {
    const long = whole({ messages: [{ role: "user", content: "a".repeat(300) }] });
    await expect(long).rejects.toBeInstanceOf(BadRequestError);
    await expect(long).rejects.toMatchObject({ code: "context_length_exceeded", param: "messages" });
    await expect(long).rejects.toThrow(/318 tokens.*256/);
  });

  it("end when the client goes, and free their pages", async () => {
    const before = engine.statistics().generatedTokens;
    const stream = await client.chat.completions.create({ ...base, max_tokens: 230, stream: true });
    for await (const _ of stream) break;
    await until(() => engine.statistics().running === 0);
    expect(engine.statistics()).toMatchObject({ running: 0, waiting: 0, cacheUsage: 0 });
    expect(engine.statistics().generatedTokens - before).toBeLessThan(230);
  });

  it("do not wait for a client that reads nothing", async () => {
    const body = JSON.stringify({
      ...base,
      max_tokens: 200,
      n: 8,
      logprobs: true,
      top_logprobs: 20,
      stream: true,
    });
    const socket = connect(Number(new URL(service.url).port), "127.0.0.1").pause();
    await once(socket, "connect");
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
    await until(() => engine.statistics().running > 0);
    expect((await whole()).choices[0]!.finish_reason).toBe("length");
    await until(() => engine.statistics().running + engine.statistics().waiting === 0);
    expect(engine.statistics().cacheUsage).toBe(0);
    socket.destroy();
  });

  // The last: nothing computes after it.
  it("say that the engine failed, within a stream and before one", async () => {
    const log = vi.spyOn(console, "error").mockImplementation(() => {});
    const stream = await client.chat.completions.create({ ...base, max_tokens: 230, stream: true });
    const read = (async () => {
      for await (const _ of stream)
        if (engine.statistics().running === 1)
          await Runtime.default()
            .shutdown()
            .catch(() => {});
    })();
    await expect(read).rejects.toBeInstanceOf(APIError);
    await expect(whole()).rejects.toMatchObject({ status: 500, type: "server_error" });
    expect((await fetch(`${service.url}/v1/health/live`)).status).toBe(200);
    expect(engine.statistics()).toMatchObject({ running: 0, cacheUsage: 0 });
    log.mockRestore();
  });
});
