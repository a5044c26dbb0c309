import { llm, nn, tensor } from "aronnax";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { createEngine } from "../../../../core/src/serve/engine/index.js";
import type {
  Engine,
  EngineRequest,
  EngineStream,
  EngineToken,
  TokenGrammar,
} from "../../../../core/src/serve/engine/types.js";
import { compiledModules } from "../../../support/runtime.js";
import { tiny, tokenizer } from "../../../support/served.js";

const model = tiny();
// Much of this is compilation, which takes its time on a busy machine.
vi.setConfig({ testTimeout: 300_000 });

const make = (options: object = {}): Engine =>
  createEngine(model, { tokenizer, context: 40, pageSize: 8, pages: 24, maxBatch: 4, chunk: 16, ...options });

interface Whole {
  readonly ids: number[];
  readonly text: string;
  readonly finish: string | undefined;
  readonly tokens: EngineToken[];
  readonly prompt: readonly EngineToken[] | undefined;
  readonly stoppedBy: string | number | undefined;
  readonly cached: number | undefined;
}

async function whole(stream: EngineStream): Promise<Whole> {
  const tokens: EngineToken[] = [];
  let all = "";
  let last: Partial<Whole> = {};
  let cached: number | undefined;
  let prompt: readonly EngineToken[] | undefined;
  for await (const piece of stream) {
    tokens.push(...piece.tokens);
    all += piece.text;
    cached ??= piece.cachedTokens;
    prompt ??= piece.prompt;
    last = { finish: piece.finish, stoppedBy: piece.stoppedBy };
  }
  return {
    ids: tokens.map(({ id }) => id),
    text: all,
    finish: last.finish,
    stoppedBy: last.stoppedBy,
    tokens,
    prompt,
    cached,
  };
}

const encode = (words: string): number[] => [...tokenizer.encode(words)];

/** What the model writes without any cache, one whole window after another. */
async function greedy(prompt: readonly number[], count: number): Promise<number[]> {
  const ids = [...prompt];
  for (let i = 0; i < count; i++) {
    const window = new Int32Array(64);
    window.set(ids);
    const logits = (await model.forward(tensor(window, { shape: [1, 64] })).data()) as Float32Array;
    const row = logits.subarray((ids.length - 1) * 257, ids.length * 257);
    ids.push(row.indexOf(Math.max(...row)));
  }
  return ids.slice(prompt.length);
}

const known = new Map<string, number[]>();
/** `greedy` of 12 tokens, computed once for each prompt. */
async function reference(prompt: readonly number[]): Promise<number[]> {
  const key = prompt.join();
  const found = known.get(key) ?? (await greedy(prompt, 12));
  known.set(key, found);
  return found;
}

describe("what is written", () => {
  it("is what the model writes without a cache, whatever arrives, is put back, found in the cache or ended beside it", async () => {
    const prompts = [
      "a",
      "whale",
      "whale rises",
      "whale risen and gone",
      "the ship",
      "the ship sails on and on",
    ];
    const engines = [
      make({ pages: 8 }),
      make({ prefixCache: false }),
      make({ pages: 11, maxBatch: 3, chunk: 8 }),
    ];
    const schedule = fc.array(
      fc.record({
        prompt: fc.constantFrom(...prompts),
        count: fc.integer({ min: 1, max: 12 }),
        wait: fc.integer({ min: 0, max: 3 }),
        abortAfter: fc.option(fc.integer({ min: 0, max: 6 }), { freq: 4 }),
      }),
      { minLength: 1, maxLength: 10 },
    );
    await fc.assert(
      fc.asyncProperty(schedule, fc.constantFrom(...engines), async (requests, engine) => {
        const jobs: Promise<void>[] = [];
        for (const { prompt, count, wait, abortAfter } of requests) {
          // Some steps go by.
          for (let i = 0; i < wait; i++) await new Promise((resolve) => setTimeout(resolve, 1));
          const ids = encode(prompt);
          const stream = engine.submit({
            prompt: ids,
            maxTokens: count,
            sampling: { temperature: 0 },
            ignoreEnd: true,
          });
          jobs.push(
            (async () => {
              const expected = (await reference(ids)).slice(0, count);
              if (abortAfter === null) {
                expect((await whole(stream)).ids).toEqual(expected);
                return;
              }
              const drawn: number[] = [];
              for await (const { tokens } of stream) {
                drawn.push(...tokens.map(({ id }) => id));
                if (drawn.length > abortAfter) break;
              }
              expect(drawn).toEqual(expected.slice(0, drawn.length));
            })(),
          );
        }
        await Promise.all(jobs);
        await vi.waitFor(
          () => expect(engine.statistics()).toMatchObject({ running: 0, waiting: 0, cacheUsage: 0 }),
          { timeout: 60_000 },
        );
      }),
      { numRuns: Number(process.env.SCHEDULES ?? 40) },
    );
    expect(engines[0]!.statistics().preemptions).toBeGreaterThan(0);
    expect(engines[0]!.statistics().prefixHits).toBeGreaterThan(0);
    expect(engines[1]!.statistics().prefixHits).toBe(0);
    await Promise.all(engines.map((engine) => engine.close()));
  });

  it("has the log-probabilities of model.forward, of drawn tokens and of the prompt's", async () => {
    const engine = make({ chunk: 4 });
    const prompt = encode("whale rises");
    const { tokens, prompt: ofPrompt } = await whole(
      engine.submit({
        prompt,
        maxTokens: 6,
        sampling: { temperature: 0 },
        ignoreEnd: true,
        logProbabilities: 3,
        promptLogProbabilities: 2,
      }),
    );
    const ids = [...prompt, ...tokens.map(({ id }) => id)];
    const all = (await model
      .forward(tensor(Int32Array.from(ids), { shape: [1, ids.length] }))
      .logSoftmax(-1)
      .array()) as number[][][];
    const at = (i: number): number[] => all[0]![i - 1]!;
    const likeliest = (i: number, k: number): number[] =>
      at(i)
        .toSorted((a, b) => b - a)
        .slice(0, k);
    expect(ofPrompt!.map(({ id }) => id)).toEqual(prompt);
    expect(ofPrompt![0]).toEqual({ id: prompt[0] });
    for (const [k, token] of [...ofPrompt!.slice(1), ...tokens].entries()) {
      const i = k + 1;
      expect(Math.abs(token.logProbability! - at(i)[token.id]!)).toBeLessThan(1e-5);
      const expected = likeliest(i, i < prompt.length ? 2 : 3);
      expect(token.alternatives).toHaveLength(expected.length);
      for (const [n, { id, logProbability }] of token.alternatives!.entries()) {
        expect(Math.abs(logProbability - expected[n]!)).toBeLessThan(1e-5);
        expect(Math.abs(at(i)[id]! - expected[n]!)).toBeLessThan(1e-5);
      }
    }
    await engine.close();
  });

  it("depends on its seed and options, not on what is beside it", async () => {
    const engine = make();
    const requests: EngineRequest[] = [
      { prompt: encode("whale"), sampling: { seed: 1 } },
      { prompt: encode("whale"), sampling: { seed: 2 } },
      { prompt: encode("the ship"), sampling: { seed: 1, topK: 5 } },
      { prompt: encode("the ship"), sampling: { seed: 1, topP: 0.4, temperature: 1.5 } },
      { prompt: encode("sea"), sampling: { seed: 3, minP: 0.2, presencePenalty: 1, frequencyPenalty: 0.5 } },
      { prompt: encode("sea"), sampling: { seed: 3, repetitionPenalty: 1.4, logitBias: { 101: 3 } } },
      { prompt: encode("sea"), sampling: { temperature: 0 } },
    ].map((request) => ({ ...request, maxTokens: 10, ignoreEnd: true }));
    const alone: number[][] = [];
    for (const request of requests) alone.push((await whole(engine.submit(request))).ids);
    const together = await Promise.all(requests.map((request) => whole(engine.submit(request))));
    expect(together.map(({ ids }) => ids)).toEqual(alone);
    expect(new Set(alone.map((ids) => ids.join())).size).toBe(alone.length);
    await engine.close();
  });

  it("reads the parameters that the model has now", async () => {
    const own = nn.initialize(
      llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2, initStd: 0.5 }),
      7,
    );
    const engine = createEngine(own, { tokenizer, context: 64 });
    const request = { prompt: encode("whale"), maxTokens: 8, sampling: { temperature: 0 }, ignoreEnd: true };
    const long = { ...request, prompt: encode("the ship sails on and on") };
    const before = (await whole(engine.submit(request))).ids;
    await whole(engine.submit(long));
    const table = own.model.embedTokens;
    table.weight = table.weight.mul(-1);
    const after = (await whole(engine.submit(request))).ids;
    expect(after).not.toEqual(before);
    expect(after).toEqual(
      (await llm.complete(own, ["whale"], { tokenizer, maxTokens: 8, temperature: 0, stopIds: [] }))[0]!.ids,
    );
    // Nor the pages of a beginning that was read before.
    const [afresh] = await llm.complete(own, ["the ship sails on and on"], {
      tokenizer,
      maxTokens: 8,
      temperature: 0,
      stopIds: [],
    });
    const later = await whole(engine.submit(long));
    expect([later.cached, later.ids]).toEqual([0, afresh!.ids]);
    expect((await whole(engine.submit(long))).cached).toBe(16);
    await engine.close();
  });

  it("has the log-probabilities of its prompt once, also where it was put back and read again", async () => {
    const engine = make({ context: 32, pages: 5 });
    const first = whole(engine.submit({ prompt: encode("the ship"), maxTokens: 20, ignoreEnd: true }));
    const prompt = encode("whale rises");
    const given = await whole(
      engine.submit({ prompt, maxTokens: 18, ignoreEnd: true, promptLogProbabilities: 0 }),
    );
    await first;
    expect(engine.statistics().preemptions).toBeGreaterThan(0);
    expect(given.prompt!.map(({ id }) => id)).toEqual(prompt);
    await engine.close();
  });
});

describe("penalties and bias", () => {
  it("are OpenAI's: once for each token that was drawn, as often as it was drawn, and what is added", async () => {
    const engine = make();
    const prompt = encode("whale rises");
    const sampling = {
      temperature: 0,
      presencePenalty: 0.7,
      frequencyPenalty: 0.9,
      logitBias: { 32: 2.5, 65: -100 },
    };
    const { ids } = await whole(engine.submit({ prompt, maxTokens: 10, sampling, ignoreEnd: true }));
    const counts = new Map<number, number>();
    const so: number[] = [...prompt];
    for (const id of ids) {
      const logits = (await model
        .forward(tensor(Int32Array.from(so), { shape: [1, so.length] }))
        .data()) as Float32Array;
      const row = Array.from(logits.subarray(-257), (x, token) => {
        const times = counts.get(token) ?? 0;
        const bias = (sampling.logitBias as Record<number, number>)[token] ?? 0;
        return x - 0.9 * times - (times > 0 ? 0.7 : 0) + bias;
      });
      expect(id).toBe(row.indexOf(Math.max(...row)));
      counts.set(id, (counts.get(id) ?? 0) + 1);
      so.push(id);
    }
    await engine.close();
  });
});

describe("the end", () => {
  it("comes by tokens, strings, length, the grammar, not before minTokens, and says by what", async () => {
    const engine = make();
    const request = { prompt: encode("whale"), sampling: { temperature: 0 }, maxTokens: 12, ignoreEnd: true };
    const free = await whole(engine.submit(request));
    expect(free).toMatchObject({ finish: "length" });
    const third = free.ids[2]!;
    const first = free.ids.indexOf(third);
    const stopped = await whole(engine.submit({ ...request, stopIds: [third] }));
    expect(stopped).toMatchObject({ finish: "stop", stoppedBy: third, ids: free.ids.slice(0, first + 1) });
    const later = await whole(engine.submit({ ...request, stopIds: [third], minTokens: 6 }));
    expect(later.ids.slice(0, 6)).not.toContain(third);
    expect(later.ids.length).toBeGreaterThanOrEqual(6);

    // Two characters of ASCII make a stop string that both must be seen for.
    const only: TokenGrammar = {
      fill: (mask) => {
        mask.fill(0);
        for (const id of encode("xy")) mask[id >> 5]! |= 1 << (id % 32);
      },
      accept: (id) => {
        seen.push(id);
      },
      get ended() {
        return seen.length === 5;
      },
      dispose: () => {
        disposed++;
      },
    };
    const seen: number[] = [];
    let disposed = 0;
    const masked = await whole(engine.submit({ ...request, grammar: only }));
    expect(masked.text).toMatch(/^[xy]{5}$/);
    expect(masked).toMatchObject({ finish: "stop", ids: seen });
    expect(disposed).toBe(1);
    seen.length = 0;
    const stop = masked.text.slice(1, 3);
    const cut = await whole(engine.submit({ ...request, grammar: only, stop: [stop] }));
    expect(cut).toMatchObject({
      finish: "stop",
      stoppedBy: stop,
      text: masked.text.slice(0, masked.text.indexOf(stop)),
    });
    await engine.close();
  });

  it("of a grammar that fails is its own text's", async () => {
    const engine = make();
    const request = { prompt: encode("whale"), sampling: { temperature: 0 }, maxTokens: 10, ignoreEnd: true };
    const fails = (at: "fill" | "accept"): TokenGrammar => ({
      fill: (mask) => {
        mask.fill(-1);
        if (at === "fill") throw new Error("no mask");
      },
      accept: () => {
        throw new Error("not allowed");
      },
      ended: false,
      dispose: () => {
        throw new Error("freed twice");
      },
    });
    const beside = whole(engine.submit(request));
    await expect(whole(engine.submit({ ...request, grammar: fails("fill") }))).rejects.toThrow("no mask");
    await expect(whole(engine.submit({ ...request, grammar: fails("accept") }))).rejects.toThrow(
      "not allowed",
    );
    expect((await beside).ids).toHaveLength(10);
    expect(engine.statistics()).toMatchObject({ running: 0, cacheUsage: 0 });
    await engine.close();
  });

  it("frees the pages of who ends early or reads no more, and others go on", async () => {
    const engine = make();
    const controller = new AbortController();
    const request = { prompt: encode("whale"), sampling: { temperature: 0 }, ignoreEnd: true };
    const aborted = whole(engine.submit({ ...request, signal: controller.signal }));
    const unread = engine.submit(request);
    const goesOn = whole(engine.submit({ ...request, maxTokens: 20 }));
    await vi.waitFor(() => expect(engine.statistics().generatedTokens).toBeGreaterThan(4), {
      timeout: 60_000,
    });
    controller.abort();
    unread.abort();
    expect((await aborted).finish).toBe("aborted");
    expect((await goesOn).ids).toHaveLength(20);
    expect(engine.statistics()).toMatchObject({ running: 0, cacheUsage: 0 });
    await engine.close();
  });

  it("is clear for what can not be computed", async () => {
    const engine = make();
    const prompt = encode("whale");
    expect(() => engine.submit({ prompt: [] })).toThrow("submit: the prompt is empty");
    expect(() => engine.submit({ prompt: Array(40).fill(1) })).toThrow(/40 tokens, the context 40/);
    expect(() => engine.submit({ prompt: [1, 257] })).toThrow("the prompt has the token 257");
    expect(() => engine.submit({ prompt, sampling: { topP: 0 } })).toThrow("topP is 0");
    expect(() => engine.submit({ prompt, sampling: { temperature: Number.NaN } })).toThrow(
      "temperature is NaN",
    );
    expect(() => engine.submit({ prompt, sampling: { logitBias: { 400: 1 } } })).toThrow(
      "logitBias has the token 400",
    );
    expect(() => engine.submit({ prompt, adapter: "x" })).toThrow('there is no adapter "x"');
    expect(() => engine.submit({ prompt, stop: [""] })).toThrow(/stop holds/);
    expect(() => createEngine(model, { tokenizer, pageSize: 0 })).toThrow("pageSize is 0");
    await engine.drain();
    expect(() => engine.submit({ prompt })).toThrow("takes no more requests");
  });
});

it("warms up every program, counts what it does, and embeds as llm.embed", async () => {
  const engine = make({ context: 16, maxBatch: 2, chunk: 4 });
  const told: [number, number][] = [];
  await engine.warmUp((done, of) => told.push([done, of]));
  expect(told.at(-1)![0]).toBe(told.at(-1)![1]);
  const compiled = compiledModules.size;
  for (const sampling of [{ temperature: 0 }, {}, { topP: 0.9, topK: 20 }])
    await whole(engine.submit({ prompt: encode("whale"), maxTokens: 4, sampling, ignoreEnd: true }));
  expect(compiledModules.size).toBe(compiled);
  const written = await whole(
    engine.submit({ prompt: encode("whale"), maxTokens: 3, sampling: { temperature: 0 }, ignoreEnd: true }),
  );
  expect(written.ids).toEqual((await reference(encode("whale"))).slice(0, 3));
  expect(engine.statistics()).toMatchObject({ promptTokens: 20, generatedTokens: 15, running: 0 });
  const texts = ["whale", "the ship sails"];
  const expected = await llm.embed(model, texts, { tokenizer });
  const got = await engine.embed(texts.map((each) => [...encode(each), tokenizer.eosId!]));
  for (const [i, vector] of got.entries())
    for (const [k, x] of vector.entries()) expect(Math.abs(x - expected[i]![k]!)).toBeLessThan(1e-5);
  await engine.close();
});
