// Completions, embeddings and Anthropic's messages of a real engine, read by the vendors' clients.
import "../../../support/runtime.js";
import Anthropic, { BadRequestError as AnthropicBadRequest, NotFoundError } from "@anthropic-ai/sdk";
import OpenAI, { BadRequestError } from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Service } from "../../../../core/src/serve/api/index.js";
import type { Engine, EngineToken } from "../../../../core/src/serve/engine/types.js";
import { startTiny, tokenizer } from "../../../support/served.js";

let engine: Engine;
let service: Service;
let openai: OpenAI;
let anthropic: Anthropic;

beforeAll(async () => {
  ({ engine, service } = await startTiny({ apiKeys: ["key"] }));
  openai = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: "key", maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: service.url, apiKey: "key", maxRetries: 0 });
});

afterAll(async () => {
  await service?.drain();
  await engine?.close();
});

describe("completions", () => {
  const base = { model: "tiny", max_tokens: 8, temperature: 0, ignore_eos: true };
  const ask = (prompt: OpenAI.CompletionCreateParams["prompt"], more: object = {}) =>
    openai.completions.create({ ...base, prompt, ...more, stream: false });

  it("are of texts and of tokens, alone and together, streamed and not", async () => {
    const [a, b] = ["whale", "the ship"].map((text) => [...tokenizer.encode(text)]);
    const one = (await ask("whale")).choices[0]!;
    const other = (await ask("the ship")).choices[0]!;
    expect(one.finish_reason).toBe("length");
    expect((await ask(a!)).choices[0]!.text).toBe(one.text);
    const both = await ask([a!, b!], { n: 2 });
    expect(both.choices.map(({ text }) => text)).toEqual([one.text, one.text, other.text, other.text]);
    expect(both.usage).toMatchObject({ prompt_tokens: 13, completion_tokens: 32 });
    const texts = ["", ""];
    let used: number | undefined;
    for await (const chunk of await openai.completions.create({
      ...base,
      prompt: ["whale", "the ship"],
      stream: true,
      stream_options: { include_usage: true },
    })) {
      for (const { index, text } of chunk.choices) texts[index] += text;
      used = chunk.usage?.completion_tokens ?? used;
    }
    expect(texts).toEqual([one.text, other.text]);
    expect(used).toBe(16);
  });

  it("echo the prompt with its log-probabilities, with and without more text", async () => {
    const prompt = [...tokenizer.encode("whale")];
    let given: readonly EngineToken[] = [];
    for await (const piece of engine.submit({
      prompt,
      maxTokens: 1,
      promptLogProbabilities: 2,
      sampling: { temperature: 0 },
    }))
      given = piece.prompt ?? given;
    const { choices, usage } = await ask("whale", { echo: true, logprobs: 2, max_tokens: 0 });
    const logprobs = choices[0]!.logprobs!;
    expect(choices[0]!.text).toBe("whale");
    expect(logprobs.tokens).toEqual(["w", "h", "a", "l", "e"]);
    expect(logprobs.text_offset).toEqual([0, 1, 2, 3, 4]);
    expect(logprobs.token_logprobs![0]).toBeNull();
    expect(logprobs.token_logprobs!.slice(1)).toEqual(
      given.slice(1).map(({ logProbability }) => logProbability),
    );
    expect(usage!.completion_tokens).toBe(0);
    const longer = (await ask("whale", { echo: true, logprobs: 2 })).choices[0]!;
    expect(longer.text.startsWith("whale")).toBe(true);
    expect(longer.logprobs!.tokens).toHaveLength(13);
    for (const top of longer.logprobs!.top_logprobs!.slice(1))
      expect(Object.keys(top).length).toBeGreaterThan(0);
  });

  it("name what is wrong", async () => {
    const wrong: [OpenAI.CompletionCreateParams["prompt"], object, string][] = [
      ["", {}, "prompt"],
      [[], {}, "prompt"],
      [[300], {}, "prompt"],
      ["a".repeat(300), {}, "prompt"],
      ["a", { suffix: "b" }, "suffix"],
      ["a", { best_of: 2 }, "best_of"],
      ["a", { max_tokens: 0 }, "max_tokens"],
      ["a", { logprobs: true }, "logprobs"],
    ];
    for (const [prompt, more, param] of wrong) {
      const error = await ask(prompt, more).catch((thrown: unknown) => thrown);
      expect(error, param).toBeInstanceOf(BadRequestError);
      expect(error).toMatchObject({ param });
    }
  });
});

describe("embeddings", () => {
  it("are the engine's, as numbers or base64, shortened when asked", async () => {
    const input = ["whale", "the ship sails"];
    const wanted = await engine.embed(input.map((text) => [...tokenizer.encode(text)]));
    const ask = async (more: Partial<OpenAI.EmbeddingCreateParams>) =>
      (await openai.embeddings.create({ model: "tiny", input, ...more })).data.map(
        ({ embedding }) => embedding,
      );
    expect(await ask({ encoding_format: "float" })).toEqual(wanted.map((one) => [...one]));
    // The client asks for base64 by itself, and reads it.
    expect(await ask({})).toEqual(wanted.map((one) => [...one]));
    const [short] = await ask({ encoding_format: "float", dimensions: 4 });
    expect(short).toHaveLength(4);
    expect(Math.hypot(...short!)).toBeCloseTo(1, 5);
    await expect(ask({ dimensions: 17 })).rejects.toBeInstanceOf(BadRequestError);
    await expect(ask({ input: "a".repeat(300) })).rejects.toMatchObject({ code: "context_length_exceeded" });
  });
});

describe("messages", () => {
  const base = {
    model: "tiny",
    max_tokens: 12,
    temperature: 0,
    system: "Be short.",
    messages: [{ role: "user" as const, content: "Hi" }],
    ignore_eos: true,
  };
  const text = (content: Anthropic.ContentBlock[]) =>
    content.map((block) => (block.type === "text" ? block.text : "")).join("");

  it("are what the chat endpoint writes, streamed or not", async () => {
    const chat = await openai.chat.completions.create({
      ...base,
      messages: [{ role: "system", content: "Be short." }, ...base.messages],
    });
    const whole = await anthropic.messages.create(base);
    expect(text(whole.content)).toBe(chat.choices[0]!.message.content);
    expect(whole).toMatchObject({ type: "message", role: "assistant", stop_reason: "max_tokens" });
    expect(whole.usage).toMatchObject({ output_tokens: 12 });
    const final = await anthropic.messages.stream(base).finalMessage();
    expect(text(final.content)).toBe(text(whole.content));
    expect(final).toMatchObject({ stop_reason: "max_tokens", usage: { output_tokens: 12 } });
    const { input_tokens } = await anthropic.messages.countTokens({
      model: "tiny",
      system: base.system,
      messages: base.messages,
    });
    expect(input_tokens).toBe(chat.usage!.prompt_tokens);
  });

  it("end at a stop sequence, and say which", async () => {
    const all = text((await anthropic.messages.create(base)).content);
    const stop = [...all].find((character, i) => i > 2 && /\S/.test(character) && character !== "�")!;
    const cut = await anthropic.messages.create({ ...base, stop_sequences: [stop] });
    expect(cut).toMatchObject({ stop_reason: "stop_sequence", stop_sequence: stop });
    expect(text(cut.content)).toBe(all.slice(0, all.indexOf(stop)));
  });

  it("take results of tools, and name what is wrong", async () => {
    const tools = [{ name: "dive", input_schema: { type: "object" as const } }];
    const messages: Anthropic.MessageParam[] = [
      ...base.messages,
      { role: "assistant", content: [{ type: "tool_use", id: "a", name: "dive", input: { depth: 5 } }] },
      { role: "user", content: [{ type: "tool_result", tool_use_id: "a", content: "deep" }] },
    ];
    const { input_tokens } = await anthropic.messages.countTokens({ model: "tiny", tools, messages });
    expect(input_tokens).toBe(tokenizer.encode("user: Hi\nassistant: \ntool: deep\nassistant: ").length);
    const image = { type: "image", source: { type: "url", url: "x" } } as const;
    await expect(
      anthropic.messages.create({ ...base, messages: [{ role: "user", content: [image] }] }),
    ).rejects.toBeInstanceOf(AnthropicBadRequest);
    const none = anthropic.messages.create({ ...base, model: "none" });
    await expect(none).rejects.toBeInstanceOf(NotFoundError);
    await expect(none).rejects.toMatchObject({ requestID: expect.stringMatching(/^req_/) });
  });
});

describe("management", () => {
  it("counts what was served, under vLLM's and NIM's names", async () => {
    const response = await fetch(`${service.url}/v1/metrics`);
    expect(response.headers.get("content-type")).toMatch(/^text\/plain/);
    const lines = (await response.text()).split("\n");
    const value = (line: string) =>
      Number(
        lines
          .find((one) => one.startsWith(line))
          ?.split(" ")
          .at(-1),
      );
    const { generatedTokens, promptTokens } = engine.statistics();
    for (const prefix of ["vllm:", ""]) {
      expect(value(`${prefix}generation_tokens_total{`)).toBe(generatedTokens);
      expect(value(`${prefix}prompt_tokens_total{`)).toBe(promptTokens);
      expect(value(`${prefix}num_requests_running{`)).toBe(0);
      expect(value(`${prefix}time_to_first_token_seconds_count{`)).toBeGreaterThan(10);
      expect(value(`${prefix}e2e_request_latency_seconds_sum{`)).toBeGreaterThan(0);
    }
    expect(value('vllm:request_success_total{model_name="tiny",finished_reason="length"}')).toBeGreaterThan(
      5,
    );
    expect(value("vllm:request_queue_time_seconds_count{")).toBe(value("time_to_first_token_seconds_count{"));
  });

  it("says what it is", async () => {
    const get = async (path: string) =>
      (await fetch(service.url + path, { headers: { authorization: "Bearer key" } })).json();
    expect(await get("/v1/version")).toEqual({ release: "0.1.0", api: "0.1.0" });
    expect(await get("/v1/license")).toMatchObject({ name: "Apache-2.0" });
    expect(await get("/v1/metadata")).toMatchObject({ modelInfo: [{ shortName: "tiny" }] });
    expect(JSON.parse((await get("/v1/manifest")).manifest_file).models).toEqual([
      { name: "tiny", context: 256, adapters: [] },
    ]);
  });
});
