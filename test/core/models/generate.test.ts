import "../../support/runtime.js";
import { arange, jit, llm, minimum, nn, random, type Tensor, tensor, text } from "aronnax";
import { describe, expect, it, vi } from "vitest";
import {
  type Draw,
  nextTokens,
  type Sampling,
  samplingOf,
  withSeen,
} from "../../../core/src/models/llm/sampling.js";

import { interruptible } from "../../support/interrupt.js";

const tokenizer = text.byteTokenizer();
const model = nn.initialize(
  llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2, initStd: 0.5 }),
  1,
);
// Much of this is compilation, which takes its time on a busy machine.
vi.setConfig({ testTimeout: 180_000 });

// Nothing ends a text but its length, unless a test says so.
const endless = { tokenizer, stopIds: [] };

const integer = (ids: number | number[]): Tensor => tensor(ids, { dtype: "int32" });

const longest = 16;

/** One step without a cache: `window` [1, longest] is filled up on the right, where a causal model does not look. */
const step = jit(
  (of: llm.Llama, window: Tensor, last: Tensor, sampling: Sampling, draw: Draw, seen: Tensor) => {
    // What comes after the text counts to no length.
    const positions = minimum(arange(longest), last);
    const logits = of.forward(window, { positions }).take(last, 1);
    const next = nextTokens(logits, sampling, draw, { seen, vocabulary: 257 });
    return { next, seen: withSeen(seen, next) };
  },
);

/** What `complete` must draw, computed without a cache, a whole window for each token. */
async function uncached(
  prompt: string,
  row: number,
  options: llm.SamplingOptions & { seed?: number; maxTokens: number; context: number },
  of = model,
): Promise<number[]> {
  const { seed = 0, maxTokens, context } = options;
  const sampling = samplingOf(options);
  const ids = [...tokenizer.encode(prompt)];
  let from = Math.max(0, ids.length - context);
  let seen = tensor([Array.from({ length: 257 }, (_, id) => ids.includes(id))]);
  const drawn: number[] = [];
  for (let made = 0; made < maxTokens; made++) {
    if (ids.length - from > context) from = ids.length - Math.ceil(context / 2);
    const window = new Int32Array(longest);
    window.set(ids.slice(from));
    const draw = { key: random.key(seed), rows: integer([row]), step: integer(made) };
    const last = integer(ids.length - from - 1);
    const result = step(of, tensor(window, { shape: [1, longest] }), last, sampling, draw, seen);
    seen = result.seen;
    const [id] = (await result.next.array()) as [number];
    ids.push(id);
    drawn.push(id);
  }
  return drawn;
}

describe("with a cache", () => {
  it.each<llm.SamplingOptions>([
    { temperature: 0 },
    { temperature: 0.7, topK: 5 },
    { temperature: 1 },
    { temperature: 1.2, topK: 50, topP: 0.9, minP: 0.02, repetitionPenalty: 1.2 },
  ])("draws what it draws without one, beyond a full context too: %o", async (sampling) => {
    const options = { ...sampling, seed: 3, maxTokens: 20, context: longest };
    const [completion] = await llm.complete(model, ["Call me"], { ...endless, ...options, tokensPerCall: 4 });
    expect(completion!.ids).toEqual(await uncached("Call me", 0, options));
    expect(completion!.ended).toBe("length");
  });

  it("sees all of a text where no context is given", async () => {
    const options = { temperature: 0, maxTokens: 7 };
    const [completion] = await llm.complete(model, ["Call me I"], { ...endless, ...options });
    expect(completion!.ids).toEqual(await uncached("Call me I", 0, { ...options, context: longest }));
  });

  it("reads the end of a prompt longer than the context", async () => {
    const options = { temperature: 0, maxTokens: 3, context: longest };
    const [completion] = await llm.complete(model, ["Call me Ishmael. Some"], { ...endless, ...options });
    expect(completion!.ids).toEqual(await uncached("Call me Ishmael. Some", 0, options));
  });
});

describe("a batch of prompts", () => {
  const prompts = ["Call me", "x", "The pale Usher", ""];

  it.each<llm.SamplingOptions>([{ temperature: 0 }, { temperature: 0.9, topP: 0.9, repetitionPenalty: 1.3 }])(
    "of any lengths is continued as each alone, each beyond its full context: %o",
    async (sampling) => {
      const options = { ...sampling, seed: 8, maxTokens: 17, context: longest };
      const together = await llm.complete(model, prompts, { ...endless, ...options });
      for (const [row, prompt] of prompts.entries()) {
        const alone = await uncached(prompt === "" ? "<|endoftext|>" : prompt, row, options);
        expect(together[row]!.ids).toEqual(alone);
      }
    },
  );

  it("is continued beyond its context by models of learned positions and of windows too", async () => {
    const size = { vocabSize: 257, hiddenSize: 16, heads: 2, initStd: 0.5 };
    const learned = llm.gpt2({ ...size, layers: 1, maxPositions: longest });
    const windows = llm.gemma2({ ...size, layers: 2, intermediateSize: 32, headDim: 8, window: 5 });
    const options = { temperature: 0, maxTokens: 12, context: longest };
    for (const other of [learned, windows].map((one) => nn.initialize(one, 4))) {
      const together = await llm.complete(other, prompts.slice(0, 3), { ...endless, ...options });
      for (const [row, prompt] of prompts.slice(0, 3).entries())
        expect(together[row]!.ids).toEqual(await uncached(prompt, row, options, other));
    }
    // Two sets of frequencies: a text is read again where it outgrows the first.
    const half = (n: number): number[] => [n, n + 1, n + 2, n + 3];
    const scaling = { factor: 2, originalContext: 8, shortFactor: half(1), longFactor: half(3) };
    const stretched = llm.phi3({
      ...size,
      layers: 2,
      intermediateSize: 32,
      ropeScaling: { type: "longrope", ...scaling },
    });
    const long = { temperature: 0, maxTokens: 14, context: longest };
    const model = nn.initialize(stretched, 4);
    const together = await llm.complete(model, prompts.slice(0, 3), { ...endless, ...long });
    for (const [row, prompt] of prompts.slice(0, 3).entries())
      expect(together[row]!.ids).toEqual(await uncached(prompt, row, long, model));
    const beyond = llm.complete(learned, ["x"], { ...endless, context: 2 * longest });
    await expect(beyond).rejects.toThrow(/context is 32, the model has 16 positions/);
  });

  it("is the same in several smaller batches", async () => {
    const options = { ...endless, seed: 8, maxTokens: 6, topK: 20 };
    const together = await llm.complete(model, prompts, options);
    expect(await llm.complete(model, prompts, { ...options, batchSize: 3 })).toEqual(together);
  });

  it("ends each text by itself", async () => {
    const [free] = await llm.complete(model, ["x"], { ...endless, temperature: 0, maxTokens: 9 });
    const stopIds = [free!.ids[2]!];
    const [a, b] = await llm.complete(model, ["x", "Call me"], {
      tokenizer,
      stopIds,
      temperature: 0,
      maxTokens: 9,
    });
    expect(a!.ids).toEqual(free!.ids.slice(0, free!.ids.indexOf(stopIds[0]!) + 1));
    expect(a!.ended).toBe("stop-id");
    const [alone] = await llm.complete(model, ["Call me"], {
      tokenizer,
      stopIds,
      temperature: 0,
      maxTokens: 9,
    });
    expect(b).toEqual(alone);
  });

  it("has nothing to do without prompts or tokens", async () => {
    expect(await llm.complete(model, [], endless)).toEqual([]);
    expect(await llm.generate(model, { ...endless, prompt: ["a", "b"], maxTokens: 0 })).toEqual(["a", "b"]);
  });
});

describe("text", () => {
  it("is the same for the same seed, another for another, however many tokens a call decodes", async () => {
    const draw = (seed: number, tokensPerCall: number): Promise<string> =>
      llm.generate(model, { ...endless, prompt: "x", maxTokens: 13, seed, tokensPerCall });
    const first = await draw(5, 1);
    expect(await draw(5, 1)).toBe(first);
    expect(await draw(5, 6)).toBe(first);
    expect(await draw(6, 6)).not.toBe(first);
  });

  it("comes in pieces that make up the whole", async () => {
    const pieces = ["a", "bc"].map((prompt) => prompt);
    const onText = (piece: string, prompt: number): void => {
      pieces[prompt] += piece;
    };
    const written = await llm.generate(model, { ...endless, prompt: ["a", "bc"], maxTokens: 20, onText });
    expect(pieces).toEqual(written);
  });

  it("ends before a stop string, of which no part is shown", async () => {
    const greedy = { ...endless, temperature: 0, maxTokens: 40 };
    const [free] = await llm.complete(model, ["Call me"], greedy);
    // Letters in the middle, a stop that is met within a call and spans several tokens.
    const at = free!.text.length >> 1;
    const stop = free!.text.slice(at, at + 4);
    const before = free!.text.slice(0, free!.text.indexOf(stop));
    let shown = "";
    const onText = (piece: string): void => {
      shown += piece;
      expect(before.startsWith(shown)).toBe(true);
    };
    const [stopped] = await llm.complete(model, ["Call me"], { ...greedy, stop, onText, tokensPerCall: 3 });
    expect(stopped).toMatchObject({ text: before, ended: "stop-string" });
    expect(shown).toBe(before);
    expect(stopped!.ids.length).toBeLessThan(40);
  });

  it("goes on after a prompt with the spaces of a tokenizer that drops them at the beginning", async () => {
    const pieces = await text.loadSentencePiece("test/fixtures/sentencepiece/unigram.model");
    const ids = [...pieces.encode("The whale swims")];
    const first = pieces.encode("The").length;
    const stream = pieces.stream().after(ids.slice(0, first));
    expect(
      ids
        .slice(first)
        .map((id) => stream.push(id))
        .join("") + stream.end(),
    ).toBe(" whale swims");
  });

  it("ends with what was written when the signal is aborted", async () => {
    const controller = new AbortController();
    const [completion] = await llm.complete(model, ["x"], {
      ...endless,
      tokensPerCall: 2,
      maxTokens: 60,
      signal: controller.signal,
      onText: () => controller.abort(),
    });
    expect(completion!.ended).toBe("aborted");
    expect(completion!.ids.length).toBeLessThan(10);
    expect(completion!.text).not.toBe("");
  });
});

describe("the notebook's interrupt", () => {
  it("ends the writing with an error that says how far it came", async () => {
    const notebook = interruptible();
    try {
      const onText = (): void => notebook.interrupt();
      const written = llm.complete(model, ["x"], { ...endless, tokensPerCall: 2, maxTokens: 60, onText });
      await expect(written).rejects.toThrow(/stopped after \d tokens/);
      expect(notebook.observers).toBe(0);
    } finally {
      notebook.end();
    }
  });
});

describe("a conversation", () => {
  const chat_template =
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
  const chatty = new text.HuggingFaceTokenizer(tokenizer.toJSON(), { ...tokenizer.config, chat_template });

  it("is continued by the assistant, through the tokenizer's template", async () => {
    const options = { temperature: 0, maxTokens: 6, stopIds: [] };
    const reply = await llm.reply(model, [{ role: "user", content: "Hi" }], {
      tokenizer: chatty,
      ...options,
    });
    const [completion] = await llm.complete(model, ["<|user|>Hi<|assistant|>"], { tokenizer, ...options });
    expect(reply).toBe(completion!.text);
  });
});

describe("what cannot be used", () => {
  it("is a tokenizer with more tokens than the model", async () => {
    const small = llm.llama({ vocabSize: 50, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 });
    const written = llm.generate(small, { tokenizer, prompt: "x" });
    await expect(written).rejects.toThrow(/ids up to 256, the model's vocabSize is 50/);
  });

  it.each([
    [{ maxTokens: -1 }, /maxTokens is -1/],
    [{ context: 1 }, /context is 1/],
    [{ tokensPerCall: 0 }, /tokensPerCall is 0/],
    [{ stop: [""] }, /stop holds ""/],
    [{ topP: 1.5 }, /topP is 1.5/],
    [{ maxNewTokens: 5 }, /there is no option maxNewTokens/],
    [{ tokenizer: undefined }, /there is no tokenizer/],
    [{ prompt: undefined }, /prompt is undefined/],
    [{ prompt: [1, 2] }, /prompt is an array of other things than texts/],
    [{ stop: 3 }, /stop is number/],
    [{ stopIds: ["a"] }, /stopIds holds a/],
    [{ onText: true }, /onText is boolean/],
  ])("are options out of range: %o", async (options, message) => {
    const given = { tokenizer, prompt: "x", ...options } as llm.CompletionOptions & { prompt: string };
    await expect(llm.generate(model, given)).rejects.toThrow(message);
  });

  it("is a model that is none, or prompts that are one text", async () => {
    const none = llm.complete(tokenizer as unknown as llm.Llama, ["x"], { tokenizer });
    await expect(none).rejects.toThrow(/no language model/);
    const one = llm.complete(model, "x" as unknown as string[], { tokenizer });
    await expect(one).rejects.toThrow(/the prompts are string/);
  });

  it("are tokens that the tokenizer does not have", async () => {
    await expect(llm.complete(model, [[1, 999]], { tokenizer })).rejects.toThrow(/holds the token 999/);
  });
});

describe("log-probabilities", () => {
  const prompts = ["ab", "a longer prompt"];
  // Of moderate logits: float32 leaves log-probabilities of many nats with larger errors.
  const calm = nn.initialize(
    llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2, initStd: 0.2 }),
    1,
  );
  const given = { ...endless, maxTokens: 11, tokensPerCall: 4, seed: 3 };

  /** log softmax(logits / temperature) of the tokens after a prompt, by `forward` of the whole text. */
  const recomputed = async (
    prompt: string,
    ids: readonly number[],
    temperature: number,
  ): Promise<number[][]> => {
    const before = [...tokenizer.encode(prompt)];
    const all = tensor([[...before, ...ids]], { dtype: "int32" });
    const logits = (await calm.forward(all).array()) as number[][][];
    return ids.map((_, i) => {
      const row = logits[0]![before.length + i - 1]!.map((x) => x / temperature);
      const most = Math.max(...row);
      const lse = most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
      return row.map((x) => x - lse);
    });
  };

  it.each([
    [{}, 1],
    [{ temperature: 0.7 }, 0.7],
    [{ temperature: 0 }, 1],
    [{ temperature: 1.3, topK: 5, topP: 0.9, minP: 0.01, repetitionPenalty: 1.2 }, 1.3],
  ])("are those of forward at the temperature: %o", async (sampling, temperature) => {
    const options = { ...given, ...sampling };
    const plain = await llm.complete(calm, prompts, options);
    const alone = await llm.complete(calm, prompts, { ...options, logProbabilities: true });
    const withOthers = await llm.complete(calm, prompts, { ...options, logProbabilities: 3 });
    for (const [i, prompt] of prompts.entries()) {
      const [completion, others] = [alone[i]!, withOthers[i]!];
      expect(completion.ids).toEqual(plain[i]!.ids);
      expect(others.ids).toEqual(plain[i]!.ids);
      expect(plain[i]!.logProbabilities).toBeUndefined();
      expect(completion.alternatives).toBeUndefined();
      const expected = await recomputed(prompt, completion.ids, temperature);
      expect(completion.logProbabilities).toHaveLength(completion.ids.length);
      for (const [t, row] of expected.entries()) {
        const id = completion.ids[t]!;
        expect(Math.abs(completion.logProbabilities![t]! - row[id]!)).toBeLessThan(1e-5);
        expect(Math.abs(others.logProbabilities![t]! - row[id]!)).toBeLessThan(1e-5);
        const likeliest = row.map((value, other) => ({ other, value })).sort((a, b) => b.value - a.value);
        expect(others.alternatives![t]).toHaveLength(3);
        for (const [k, { id: other, logProbability }] of others.alternatives![t]!.entries()) {
          expect(Math.abs(logProbability - likeliest[k]!.value)).toBeLessThan(1e-5);
          expect(Math.abs(logProbability - row[other]!)).toBeLessThan(1e-5);
        }
      }
    }
  });

  it("end where the text ends", async () => {
    const [free] = await llm.complete(calm, ["ab"], given);
    const stopIds = [free!.ids[5]!];
    const [ended] = await llm.complete(calm, ["ab"], { ...given, stopIds, logProbabilities: true });
    expect(ended!.logProbabilities).toHaveLength(ended!.ids.length);
    expect(ended!.ids.length).toBeLessThan(free!.ids.length);
  });

  it.each([[-1], [1.5], [258], ["yes"]])("are refused as %s", async (logProbabilities) => {
    const options = { ...given, logProbabilities: logProbabilities as number };
    await expect(llm.complete(calm, ["ab"], options)).rejects.toThrow(/logProbabilities is/);
  });
});
