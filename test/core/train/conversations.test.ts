/** Fine-tuning on conversations: every layout of them, and of the devices, gives the loss that is computed by hand. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jit, llm, nn, sgd, type Tensor, Trainer, type TrainerConfig, tensor, text, tree } from "aronnax";
import { afterAll, describe, expect, it } from "vitest";
import { compiledModules } from "../../support/runtime.js";

const folder = mkdtempSync(join(tmpdir(), "aronnax-conversations-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tokenizer = text.byteTokenizer();
tokenizer.config.chat_template =
  "{% for m in messages %}{{ m.role }}> {{ m.content }}{% if m.role == 'assistant' %}<|endoftext|>{% endif %}\n\n{% endfor %}" +
  "{% if add_generation_prompt %}assistant> {% endif %}";

/** 24 conversations of one to three turns. */
const talks = Array.from({ length: 24 }, (_, i) => ({
  messages: Array.from({ length: 1 + (i % 3) }, (_, turn) => [
    { role: "user", content: `${"where is whale ".repeat(1 + ((i + turn) % 2))}${i}?` },
    { role: "assistant", content: `at sea ${"far ".repeat(i % 4)}${turn}`, trainable: (i + turn) % 5 !== 4 },
  ]).flat(),
})).filter(({ messages }) => messages.some((m) => m.role === "assistant" && m.trainable));

const config = {
  ...llm.configs.tiny,
  layers: 2,
  hiddenSize: 32,
  intermediateSize: 64,
  vocabSize: 264,
  heads: 4,
  keyValueHeads: 2,
};

const chat = (options: Partial<text.ChatDataOptions> = {}) =>
  text.chat(talks, { tokenizer, sequenceLength: 224, batchSize: 8, shuffle: false, ...options });

let runs = 0;
const trainer = (options: Partial<TrainerConfig<llm.Llama, text.ChatFields>>) =>
  new Trainer<llm.Llama, text.ChatFields>({
    name: `sft-${runs++}`,
    folder,
    model: nn.initialize(llm.llama(config), 1),
    data: chat(),
    optimizer: sgd({ learningRate: 0.1 }),
    steps: 3,
    printEvery: 0,
    ...options,
  });

async function trained(options: Partial<TrainerConfig<llm.Llama, text.ChatFields>>) {
  const one = trainer(options);
  await one.fit();
  const weights = new Map(
    await Promise.all(
      [...tree.named(one.model)].map(async ([path, x]) => [path, (await x.data()) as Float32Array] as const),
    ),
  );
  return { losses: one.rows.flatMap((row) => row.loss ?? []), weights };
}

type Trained = Awaited<ReturnType<typeof trained>>;

function expectSame(found: Trained, wanted: Trained, within = 1e-5): void {
  expect(found.losses).toHaveLength(wanted.losses.length);
  for (const [i, loss] of wanted.losses.entries())
    expect(Math.abs(found.losses[i]! - loss) / loss, `step ${i + 1}`).toBeLessThan(within);
  for (const [path, values] of wanted.weights)
    for (const [i, value] of values.entries())
      expect(Math.abs(found.weights.get(path)![i]! - value), path).toBeLessThan(within);
}

/** The whole data set in each batch: in sequences of their own, and side by side. */
const alone = async () => {
  const data = chat({ packing: "none", batchSize: talks.length, buckets: { bounds: [224] } });
  await data.prepare();
  return data;
};
const together = async () => {
  const { sequences } = await chat().report();
  return chat({ batchSize: sequences });
};

describe("the loss of conversations", () => {
  it("is that of every learned token by itself, computed by hand", async () => {
    const data = await alone();
    const model = nn.initialize(llm.llama(config), 1);
    const logits = jit((m: llm.Llama, ids: Tensor) => m.forward(ids).logSoftmax(-1));
    let [nats, count] = [0, 0];
    for (const { ids, spans } of await data.rows()) {
      const likelihoods = await logits(model, tensor(ids, { shape: [1, ids.length] })).data();
      const learned = new Set(
        spans.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i)),
      );
      for (const at of learned) {
        nats -= Number(likelihoods[(at - 1) * config.vocabSize + ids[at]!]);
        count++;
      }
    }
    const found = await trained({ data, steps: 1 });
    expect(found.losses[0]).toBeCloseTo(nats / count, 5);
    const packed = await trained({ data: await together(), steps: 1 });
    expect(packed.losses[0]).toBeCloseTo(nats / count, 5);
  });

  it("side by side is that of each by itself, and so is the update", async () => {
    const [apart, packed] = [
      await trained({ data: await alone() }),
      await trained({ data: await together() }),
    ];
    expect(apart.losses.at(-1)!).toBeLessThan(apart.losses[0]! - 0.02);
    expectSame(packed, apart);
  });

  it("has logits for the learned positions only", async () => {
    // A length that no other training has: its program is compiled here.
    const { sequences: batchSize } = await chat({ sequenceLength: 232 }).report();
    const data = chat({ sequenceLength: 232, batchSize });
    const { sizes, sequences } = await data.report();
    const [{ capacity, length }] = sizes as [text.SequenceSize];
    expect(capacity).toBeLessThan(0.75 * length);
    compiledModules.clear();
    await trained({ data, steps: 1 });
    const step = [...compiledModules].join("\n");
    const shapes = new Set(step.match(/tensor<[0-9x]+xf32>/g));
    const places = (n: number) => [...shapes].filter((s) => s.endsWith(`x${n}x${config.vocabSize}xf32>`));
    expect(places(capacity)).not.toEqual([]);
    expect(places(length)).toEqual([]);
    expect(shapes.has(`tensor<${sequences * length}x${config.vocabSize}xf32>`)).toBe(false);
  });

  it("is divided once by the tokens of the whole update: in parts, and over four devices", async () => {
    const data = () => chat({ batchSize: 4 });
    const one = await trained({ data: data() });
    const four = { data: 4 };
    expectSame(await trained({ data: data(), accumulate: 2 }), one);
    expectSame(await trained({ data: data(), accumulate: 4 }), one);
    expectSame(await trained({ data: data(), parallel: four }), one);
    expectSame(await trained({ data: data(), parallel: { fsdp: 2, data: 2 } }), one);
    expectSame(await trained({ data: data(), parallel: { data: 2, tensor: 2 } }), one);
    const padded = () => chat({ batchSize: 4, packing: "none" });
    const alone = await trained({ data: padded() });
    expectSame(await trained({ data: padded(), accumulate: 2 }), alone);
    expectSame(await trained({ data: padded(), parallel: four }), alone);
  });

  it("resumes where it was, bit for bit", async () => {
    for (const packing of ["best-fit", "none"] as const) {
      const data = () => chat({ shuffle: true, packing, batchSize: 2 });
      const name = `resumed-${packing}`;
      const whole = await trained({ data: data(), steps: 14 });
      const checkpoints = { every: 9 };
      await trainer({ name, data: data(), steps: 9, checkpoints }).fit();
      const rest = await trained({ name, data: data(), steps: 14, checkpoints, resume: true });
      expect([...rest.weights].map(([path, x]) => [path, [...x]])).toEqual(
        [...whole.weights].map(([path, x]) => [path, [...x]]),
      );
    }
  });
});

describe("llm.supervised", () => {
  it("measures the accuracy of held-out tokens, and is the model's own loss else", async () => {
    const plain = await trained({});
    const one = trainer({ loss: llm.supervised(), data: chat({ validation: 0.25 }) });
    const measured = (await one.evaluate())!;
    let [right, count] = [0, 0];
    for (const { ids, spans } of await rowsHeld(one)) {
      const best = await one.model
        .forward(tensor(ids, { shape: [1, ids.length] }))
        .argmax(-1)
        .data();
      for (const [from, to] of spans)
        for (let at = from; at < to; at++) {
          right += Number(best[at - 1]) === ids[at] ? 1 : 0;
          count++;
        }
    }
    expect(measured.valid_accuracy).toBeCloseTo(right / count, 6);
    expectSame(await trained({ loss: llm.supervised() }), plain);
  });

  it("adds noise to embeddings in training only, of the size of NEFTune", async () => {
    const { noisyEmbeddings } = await import("../../../core/src/models/llm/supervised.js");
    const { random, zeros } = await import("aronnax");
    const x = zeros([2, 64, 32]);
    const found = (await noisyEmbeddings(x, { key: random.key(3), alpha: 5 }).data()) as Float32Array;
    const bound = 5 / Math.sqrt(64 * 32);
    const largest = found.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    const mean = found.reduce((sum, v) => sum + v, 0) / found.length;
    const variance = found.reduce((sum, v) => sum + (v - mean) ** 2, 0) / found.length;
    expect(largest).toBeLessThanOrEqual(bound);
    expect(largest).toBeGreaterThan(0.98 * bound);
    expect(Math.abs(mean)).toBeLessThan(0.05 * bound);
    expect(Math.sqrt(variance)).toBeCloseTo(bound / Math.sqrt(3), 2);
    // Two texts of 16 and 48 tokens in a row: each has the noise of its own length.
    const segments = tensor(
      Int32Array.from({ length: 64 }, (_, i) => (i < 16 ? 1 : 2)),
      { shape: [1, 64] },
    );
    const parts = (await noisyEmbeddings(
      zeros([1, 64, 512]),
      { key: random.key(3), alpha: 5 },
      segments,
    ).data()) as Float32Array;
    const most = (from: number, to: number) =>
      parts.subarray(from * 512, to * 512).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    expect(most(0, 16)).toBeCloseTo(5 / Math.sqrt(16 * 512), 3);
    expect(most(16, 64)).toBeCloseTo(5 / Math.sqrt(48 * 512), 3);

    const quiet = trainer({ loss: llm.supervised(), data: chat({ validation: 0.25 }), steps: 2 });
    const noisy = trainer({
      loss: llm.supervised({ neftune: 5 }),
      data: chat({ validation: 0.25 }),
      steps: 2,
    });
    expect((await noisy.evaluate())!.valid_loss).toBe((await quiet.evaluate())!.valid_loss);
    await quiet.fit();
    await noisy.fit();
    expect(noisy.rows[0]!.loss).not.toBe(quiet.rows[0]!.loss);
    expect(() => llm.supervised({ neftune: -1 })).toThrow(/neftune is -1/);
  });
});

async function rowsHeld(one: Trainer<llm.Llama, text.ChatFields>) {
  const data = one.config.data as text.ChatSource;
  const held = await data.validationConversations();
  const source = text.chat(
    held.map(({ messages }) => ({ messages })),
    { tokenizer, sequenceLength: 224, batchSize: 1 },
  );
  return source.rows();
}
