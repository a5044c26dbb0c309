// What the service answers before a request reaches an engine. `unreached` throws on any use beyond its figures, so no answer here is an engine's.
import { once } from "node:events";
import { connect } from "node:net";
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { byteTokenizer } from "../../../../core/src/data/text/byte-tokenizer.js";
import { Service } from "../../../../core/src/serve/api/index.js";
import type { Engine } from "../../../../core/src/serve/engine/types.js";

const unreached = new Proxy({ context: 128, vocabSize: 257, adapters: () => [] } as unknown as Engine, {
  get(target, name) {
    if (name in target) return Reflect.get(target, name);
    throw new Error(`the engine was reached: ${String(name)}`);
  },
});

const tokenizer = byteTokenizer();
tokenizer.config.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
let service: Service;
let client: OpenAI;

beforeAll(async () => {
  service = await Service.start([{ name: "tiny", engine: unreached, tokenizer }], {
    port: 0,
    apiKeys: ["right", "other"],
    maxBody: 10_000,
  });
  client = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: "right", maxRetries: 0 });
});

afterAll(() => service?.drain());

const post = (path: string, body: string | Uint8Array<ArrayBuffer>) =>
  fetch(service.url + path, { method: "POST", body, headers: { authorization: "Bearer right" } });

describe("the service", () => {
  it("listens on loopback", () => expect(service.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/));

  it("says that its port is in use", async () => {
    const port = Number(new URL(service.url).port);
    const another = Service.start([{ name: "tiny", engine: unreached, tokenizer }], { port });
    await expect(another).rejects.toThrow(/is in use/);
  });

  it("lists models to OpenAI's client, and takes any of its keys", async () => {
    for (const apiKey of ["right", "other"]) {
      const { data } = await client.withOptions({ apiKey }).models.list();
      expect(data.map(({ id }) => id)).toEqual(["tiny"]);
    }
    const wrong = client.withOptions({ apiKey: "wrong" }).models.list();
    await expect(wrong).rejects.toBeInstanceOf(AuthenticationError);
    await expect(wrong).rejects.toMatchObject({
      code: "invalid_api_key",
      requestID: expect.stringMatching(/^req_/),
    });
    expect((await fetch(`${service.url}/v1/models`)).status).toBe(401);
    expect((await fetch(`${service.url}/v1/models`, { headers: { "x-api-key": "right" } })).status).toBe(200);
  });

  it("tells probes how it is, without a key", async () => {
    for (const status of ["live", "ready"]) {
      const response = await fetch(`${service.url}/v1/health/${status}`);
      expect(response.status).toBe(200);
      expect(await response.json()).toMatchObject({ object: "health.response", status });
    }
  });

  it("makes tokens of text, and text of tokens", async () => {
    const tokens = [...Buffer.from("Größe")];
    const made = await (await post("/tokenize", JSON.stringify({ prompt: "Größe" }))).json();
    expect(made).toEqual({ tokens, count: 7, max_model_len: 128 });
    expect(await (await post("/detokenize", JSON.stringify({ model: "tiny", tokens }))).json()).toEqual({
      prompt: "Größe",
    });
    expect((await post("/detokenize", JSON.stringify({ tokens: [300] }))).status).toBe(400);
  });

  it("names what is wrong in a request, as OpenAI's client expects", async () => {
    const ask = (more: object) =>
      client.chat.completions.create({ model: "tiny", messages: [{ role: "user", content: "Hi" }], ...more });
    const wrong: [object, string][] = [
      [{ messages: [] }, "messages"],
      [{ messages: [{ role: 1, content: "" }] }, "messages"],
      [{ messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "messages"],
      [{ temperature: "hot" }, "temperature"],
      [{ temperature: 3 }, "temperature"],
      [{ top_p: 0 }, "top_p"],
      [{ n: 0 }, "n"],
      [{ max_tokens: -1 }, "max_tokens"],
      [{ logit_bias: { a: 1 } }, "logit_bias"],
      [{ top_logprobs: 21, logprobs: true }, "top_logprobs"],
      [{ stop: Array.from({ length: 500 }, () => "x") }, "stop"],
      [{ stop: "" }, "stop"],
      [{ tools: [{ type: "function" }] }, "tools"],
      [{ response_format: { type: "poem" } }, "response_format"],
      [{ modalities: ["audio"] }, "modalities"],
    ];
    for (const [more, param] of wrong) {
      const error = await ask(more).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error, JSON.stringify(more).slice(0, 80)).toBeInstanceOf(BadRequestError);
      expect(error).toMatchObject({ param, type: "invalid_request_error" });
    }
    const schema = { type: "json_schema", json_schema: { name: "a", schema: { type: "nothing" } } };
    await expect(ask({ response_format: schema })).rejects.toThrow(/cannot be followed/);
    await expect(ask({ model: "none" })).rejects.toBeInstanceOf(NotFoundError);
  });

  it("refuses bodies that are too long, cut off, not UTF-8 or not JSON, and lives", async () => {
    expect((await post("/tokenize", "[".repeat(20_000))).status).toBe(413);
    expect((await post("/tokenize", '{"prompt": "a')).status).toBe(400);
    expect((await post("/tokenize", new Uint8Array([0x22, 0xff, 0x22]))).status).toBe(400);
    expect((await post("/tokenize", "[]")).status).toBe(400);
    expect((await post("/nothing", "{}")).status).toBe(404);
    expect((await post("/v1/models", "{}")).status).toBe(405);
    expect((await fetch(`${service.url}/v1/health/live`)).status).toBe(200);
  });

  it("answers before 100 MB have come, and outlives a client that cuts its body off", async () => {
    const head = (length: number) =>
      `POST /tokenize HTTP/1.1\r\nhost: a\r\nauthorization: Bearer right\r\ncontent-length: ${length}\r\n\r\n`;
    const port = Number(new URL(service.url).port);
    const large = connect(port, "127.0.0.1");
    large.write(head(100_000_000));
    const [answer] = await once(large, "data");
    expect(String(answer)).toMatch(/^HTTP\/1.1 413 /);
    large.destroy();
    const cut = connect(port, "127.0.0.1");
    cut.write(`${head(1000)}{"prompt"`);
    await once(cut, "connect");
    cut.destroy();
    expect((await fetch(`${service.url}/v1/health/live`)).status).toBe(200);
  });
});

it("tells a client beyond the limit when to come back", async () => {
  const full = await Service.start([{ name: "tiny", engine: unreached, tokenizer }], {
    port: 0,
    maxRequests: 0,
  });
  try {
    const response = await fetch(`${full.url}/v1/chat/completions`, { method: "POST", body: "{}" });
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("1");
    expect(response.headers.get("retry-after-ms")).toBe("1000");
    expect(await response.json()).toMatchObject({ error: { type: "rate_limit_exceeded" } });
  } finally {
    await full.drain();
  }
});

it("is alive but takes no text before its engines are warm", async () => {
  let warm = () => {};
  const cold = new Proxy(unreached, {
    get: (target, name) =>
      name === "warmUp"
        ? () =>
            new Promise<void>((resolve) => {
              warm = resolve;
            })
        : Reflect.get(target, name),
  });
  const service = await Service.start([{ name: "tiny", engine: cold, tokenizer }], { port: 0, warmUp: true });
  const status = async (path: string, init: RequestInit = {}) =>
    (await fetch(service.url + path, init)).status;
  try {
    expect(await status("/v1/health/live")).toBe(200);
    expect(await status("/v1/health/ready")).toBe(503);
    expect(await status("/v1/chat/completions", { method: "POST", body: "{}" })).toBe(503);
    warm();
    await service.warm;
    expect(await status("/v1/health/ready")).toBe(200);
    expect(await status("/v1/chat/completions", { method: "POST", body: "{}" })).toBe(400);
  } finally {
    await service.drain();
  }
});
