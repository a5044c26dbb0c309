/** Recipes of fine-tuning and of continued pretraining, run on small models. */
import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { llm, nn, type Schedule, Trainer, text, tree } from "aronnax";
import { afterAll, describe, expect, it } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-finetuning-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tokenizer = text.byteTokenizer();
tokenizer.config.chat_template =
  "{% for m in messages %}{{ m.role[0] }}: {{ m.content }}{% if m.role == 'assistant' %}<|endoftext|>{% endif %}\n\n{% endfor %}" +
  "{% if add_generation_prompt %}a: {% endif %}";
const small = {
  ...llm.configs.tiny,
  vocabSize: 257,
  hiddenSize: 32,
  intermediateSize: 64,
  layers: 2,
  heads: 2,
  keyValueHeads: 1,
};
const talks = Array.from({ length: 32 }, (_, i) => ({ prompt: `say ${i % 8}`, completion: `${i % 8} ahoy` }));
const chat = () => text.chat(talks, { tokenizer, sequenceLength: 64, batchSize: 8, validation: 0.125 });

const peakOf = ({ optimizer }: { optimizer: { options?: object } }) =>
  (optimizer.options as { learningRate: Schedule }).learningRate.options as { peak: number };

describe("finetune", () => {
  it("has the published figures, of all parameters and of LoRA", () => {
    const model = llm.llama(small);
    const full = llm.recipes.llama3_8b.finetune({ model, data: chat() });
    expect(peakOf(full)).toMatchObject({ peak: 5e-6, warmup: 50, final: 0 });
    expect(full.model).toBe(model);
    const lora = llm.recipes.llama3_8b.finetune({ model, data: chat(), method: "lora" });
    expect(peakOf(lora)).toMatchObject({ peak: 1e-4 });
    // Rank 8 beside the seven linear layers of each block: (inputs + outputs) · 8.
    const sizes = [
      [32, 32],
      [32, 16],
      [32, 16],
      [32, 32],
      [32, 64],
      [32, 64],
      [64, 32],
    ] as const;
    const added = 2 * sizes.reduce((sum, [inputs, outputs]) => sum + 8 * (inputs + outputs), 0);
    expect(lora.model.parameterCount - model.parameterCount).toBe(added);
    const own = { method: "lora", lora: { rank: 2, targetModules: ["q_proj"] }, learningRate: 3e-4 } as const;
    const less = llm.recipes.llama3_8b.finetune({ model, data: chat(), ...own });
    expect(peakOf(less).peak).toBe(3e-4);
    expect(less.model.parameterCount - model.parameterCount).toBe(2 * 2 * 64);
    expect(() => llm.recipes.tiny.finetune({ model, data: chat(), method: "dora" as never })).toThrow(
      /method is "dora"/,
    );
    expect(() => llm.recipes.tiny.finetune({ model, data: chat(), lora: {} })).toThrow(/LoRA without LoRA/);
  });

  it.each(["full", "lora"] as const)("teaches answers: %s", async (method) => {
    const model = nn.initialize(llm.llama(small), 1);
    const recipe = llm.recipes.tiny.finetune({
      model,
      data: chat(),
      method,
      steps: 60,
      learningRate: 1e-2,
      microBatchSize: 4,
      neftune: 5,
    });
    const trainer = new Trainer({
      ...recipe,
      name: `teach-${method}`,
      folder,
      printEvery: 0,
      precision: "float32",
    });
    const before = (await trainer.evaluate())!;
    const { validation } = await trainer.fit();
    expect(validation!.valid_loss).toBeLessThan(before.valid_loss! - (method === "full" ? 1 : 0.1));
    expect(validation!.valid_accuracy).toBeGreaterThan(before.valid_accuracy!);
  });
});

describe("adapt", () => {
  const terms = ["quillback", "zubrowka"];
  const sentence = (i: number) => `the ${terms[i % 2]} of day ${i} met the ${terms[(i + 1) % 2]}. `;
  const domain = Array.from({ length: 60 }, (_, i) => sentence(i).repeat(4));
  const general = Array.from({ length: 60 }, (_, i) =>
    `a ship ${i % 9} went out to sea and came home. `.repeat(4),
  );
  const heldOut = { domain: [sentence(101)], general: ["a ship 4 went out to sea and came home. "] };

  it("learns the domain with tokens of its own, and tells what it has forgotten", async () => {
    const before = new Trainer({
      ...llm.recipes.tiny.pretrain({
        model: llm.llama(small),
        data: (shape) =>
          text.packed(general, {
            tokenizer,
            batchSize: shape.batchSize,
            sequenceLength: shape.sequenceLength,
          }),
        steps: 60,
        batchSize: 8,
        microBatchSize: 8,
        sequenceLength: 64,
      }),
      name: "general",
      folder,
      printEvery: 0,
      precision: "float32",
      validation: undefined as never,
      checkpoints: undefined as never,
    });
    await before.fit();
    const common = {
      model: before.model,
      tokenizer,
      domain,
      general,
      heldOut,
      steps: 40,
      batchSize: 8,
      microBatchSize: 8,
      sequenceLength: 64,
    };
    const adapted = async (options: Partial<llm.AdaptOptions>) => {
      const recipe = llm.recipes.tiny.adapt({ ...common, ...options });
      const { tokenizer: own, ...config } = recipe;
      const trainer = new Trainer({
        ...config,
        name: `adapt-${options.replay ?? "terms"}`,
        folder,
        printEvery: 0,
        precision: "float32",
      });
      const first = (await trainer.evaluate())!;
      const { validation } = await trainer.fit();
      return { first, last: validation!, own, vocabSize: trainer.model.config.vocabSize };
    };
    const withTerms = await adapted({ newTokens: terms, replay: 0.25 });
    expect(withTerms.vocabSize).toBe(259);
    expect([...withTerms.own.encode(" quillback!")]).toEqual([32, 257, 33]);
    expect(withTerms.last.valid_domain_bits_per_byte!).toBeLessThan(
      0.75 * withTerms.first.valid_domain_bits_per_byte!,
    );
    // Of bytes as tokens both figures of the general texts say the same, but for the first byte, which nothing predicts.
    const { valid_general_perplexity: perplexity, valid_general_bits_per_byte: bits } = withTerms.first;
    const bytes = heldOut.general[0]!.length;
    expect(Math.log2(perplexity!) * (bytes - 1)).toBeCloseTo(bits! * bytes, 2);
    const without = await adapted({ replay: 0 });
    expect(without.vocabSize).toBe(257);
    // The control: with nothing repeated more is forgotten.
    expect(without.last.valid_general_perplexity!).toBeGreaterThan(withTerms.last.valid_general_perplexity!);
    expect(() => llm.recipes.tiny.adapt({ ...common, replay: 1 })).toThrow(/replay is 1/);
    expect(() => llm.recipes.tiny.adapt({ ...common, heldOut: { domain: [], general: ["a"] } })).toThrow(
      /heldOut.domain/,
    );
  });
});

describe("addTokens", () => {
  it("begins each token as the mean of its pieces, in place of rows that stand for none", async () => {
    const model = nn.initialize(llm.llama({ ...small, vocabSize: 260, tieEmbeddings: false }), 5);
    const { model: larger, tokenizer: own } = llm.addTokens(model, tokenizer, ["ab", "cde"]);
    expect([own.vocabSize, larger.config.vocabSize]).toEqual([259, 259]);
    expect([...own.encode("xabcde")]).toEqual([120, 257, 258]);
    expect(own.decode([120, 257, 258])).toBe("xabcde");
    for (const path of ["model.embedTokens.weight", "lmHead.weight"]) {
      const [old, fresh] = (await Promise.all(
        [model, larger].map((m) => new Map(tree.named(m)).get(path)!.array() as Promise<number[][]>),
      )) as [number[][], number[][]];
      expect(fresh.slice(0, 257)).toEqual(old.slice(0, 257));
      for (const k of [0, 9]) {
        expect(fresh[257]![k]).toBeCloseTo((old[97]![k]! + old[98]![k]!) / 2, 6);
        expect(fresh[258]![k]).toBeCloseTo((old[99]![k]! + old[100]![k]! + old[101]![k]!) / 3, 6);
      }
    }
    await own.save(join(folder, "larger"));
    expect([...(await text.loadTokenizer(join(folder, "larger"))).encode("abz")]).toEqual([257, 122]);
    const whole = text.addTokens(tokenizer, ["ab"], { wholeWords: true });
    expect([...whole.encode("ab abc")]).toEqual([257, 32, 97, 98, 99]);
    const marks = text.addTokens(tokenizer, ["<|user|>"], { special: true });
    expect(marks.decode([257, 97], { skipSpecialTokens: true })).toBe("a");
    expect(() => text.addTokens(tokenizer, ["a"])).toThrow('"a" is a token already, 97.');
    expect(() => text.addTokens(tokenizer, ["qq", "qq"])).toThrow('"qq" is there twice');
    expect(() => text.addTokens(tokenizer, [])).toThrow(/there are no tokens/);
  });
});
