/** What language models write, compared with what they were to write. */
import "../../support/runtime.js";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adamw, evaluation, llm, metrics, nn, Trainer, text } from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-answers-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tokenizer = text.byteTokenizer();
tokenizer.config.chat_template =
  "{% for m in messages %}{{ m.role[0] }}: {{ m.content }}{% if m.role == 'assistant' %}<|endoftext|>{% endif %}\n\n{% endfor %}" +
  "{% if add_generation_prompt %}a: {% endif %}";

describe("scores", () => {
  it("compare texts", () => {
    expect(evaluation.exactMatch(" a b\n", "a b")).toBe(1);
    expect(evaluation.exactMatch("A b", "a b")).toBe(0);
    expect(evaluation.wordMatch("The white Whale!", "white whale")).toBe(1);
    expect(evaluation.wordMatch("white whales", "white whale")).toBe(0);
    expect(evaluation.wordF1("a white whale whale", "the white whale swims")).toBeCloseTo(2 / 3, 9);
    expect(evaluation.wordF1("", "the")).toBe(1);
    expect(evaluation.wordF1("sea", "")).toBe(0);
  });
});

describe("a training", () => {
  const talks = Array.from({ length: 40 }, (_, i) => ({
    messages: [
      { role: "user", content: "word?" },
      { role: "assistant", content: "aye" },
      { role: "user", content: `${"abcd"[i % 4]}` },
      { role: "assistant", content: `${"abcd"[i % 4]!.repeat(3)}` },
    ],
  }));
  const data = text.chat(talks, {
    tokenizer,
    sequenceLength: 48,
    batchSize: 8,
    packing: "none",
    validation: 0.3,
  });

  it("measures its answers to held-out conversations, and keeps its replies with the run", async () => {
    vi.spyOn(console, "log").mockImplementation(() => {});
    const scores = {
      exact_match: evaluation.exactMatch,
      first: (answer: string, reference: string) => (answer[0] === reference[0] ? 1 : 0),
    };
    const model = llm.llama({ ...llm.configs.tiny, layers: 2, hiddenSize: 32, intermediateSize: 64 });
    const trainer = new Trainer<llm.Llama, text.ChatFields>({
      name: "answers",
      folder,
      model,
      data,
      optimizer: adamw({ learningRate: 1e-2 }),
      steps: 150,
      printEvery: 0,
      loss: llm.supervised(),
      validation: {
        every: 75,
        measure: evaluation.measureAnswers(data, { tokenizer, maxTokens: 6, scores }),
      },
      callbacks: [
        evaluation.replies({
          tokenizer,
          prompts: ["b", talks[2]!.messages.slice(0, 3)],
          maxTokens: 6,
          temperature: 0,
        }),
      ],
    });
    const before = (await trainer.evaluate())!;
    expect(before.valid_exact_match).toBeLessThan(0.2);
    const { validation } = await trainer.fit();
    expect(validation!.valid_exact_match).toBeGreaterThan(0.8);
    expect(validation!.valid_first).toBeGreaterThanOrEqual(validation!.valid_exact_match!);
    expect(validation!.valid_accuracy).toBeGreaterThan(0.9);

    const found = await evaluation.answers(trainer.model, await data.validationConversations(), {
      tokenizer,
      maxTokens: 6,
    });
    expect(found.scores.exact_match).toBeCloseTo(validation!.valid_exact_match!, 9);
    const [one] = found.answers;
    expect(one!.prompt).toMatch(/^u: word\?\na: aye<\|endoftext\|>\nu: [abcd]\na: $/);
    expect(one!.reference).toHaveLength(3);

    const record = await metrics.readRun(join(folder, "answers"));
    const tables = record.media.filter(({ kind, name }) => kind === "table" && name === "replies");
    expect(tables.map(({ step }) => step)).toEqual([0, 75, 150]);
    const samples = readFileSync(join(folder, "answers", "samples.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(samples.filter(({ step }) => step === 150).map(({ name }) => name)).toEqual(["b", "c"]);
    expect(samples.at(-1).text).toBe("ccc");
    vi.restoreAllMocks();
  });

  it("is told what is wrong", async () => {
    const model = nn.initialize(llm.llama({ ...llm.configs.tiny, layers: 1 }), 0);
    const options = { tokenizer, maxTokens: 2 };
    await expect(evaluation.answers(model, [], options)).rejects.toThrow(/no conversations/);
    await expect(
      evaluation.answers(model, [{ messages: [{ role: "user", content: "a" }], where: "record 3" }], options),
    ).rejects.toThrow(/record 3 has no answer in words/);
    await expect(
      evaluation.answers(model, (await data.conversations()).slice(0, 1), {
        ...options,
        scores: { odd: () => "1" as never },
      }),
    ).rejects.toThrow(/the score odd gave 1/);
    expect(() => evaluation.replies({ tokenizer, prompts: [] })).toThrow(/no prompts/);
    expect(() => evaluation.measureAnswers(data, { tokenizer, limit: 0 })).toThrow(/limit is 0/);
    expect(() => evaluation.measureAnswers(data, {} as never)).toThrow(/no tokenizer/);
  });
});
