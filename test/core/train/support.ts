/** Small trainings that the tests of the Trainer share. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adamw, cosine, llm, type Trainer, type TrainerConfig, text, tree } from "aronnax";
import { afterAll } from "vitest";

export const folder = mkdtempSync(join(tmpdir(), "aronnax-trainer-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

export const documents = Array.from({ length: 20 }, (_, i) => `${i} sailors went to sea. `.repeat(12 + i));
export const small = { vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 1, heads: 2 };

let runs = 0;

export function source(options: Partial<text.PackedOptions> = {}): text.BatchSource {
  return text.packed(documents, {
    tokenizer: text.byteTokenizer(),
    sequenceLength: 16,
    batchSize: 4,
    validation: 0.2,
    ...options,
  });
}

export function config(options: Partial<TrainerConfig<llm.Llama>> = {}): TrainerConfig<llm.Llama> {
  return {
    name: `run-${runs++}`,
    folder,
    model: llm.llama(small),
    data: source(),
    optimizer: adamw({ learningRate: cosine({ peak: 1e-2, warmup: 3 }), weightDecay: 0.1, clipNorm: 1 }),
    steps: 12,
    printEvery: 0,
    ...options,
  };
}

/** Every parameter's values by path. */
export async function weights(model: llm.Llama): Promise<Record<string, number[]>> {
  const values: Record<string, number[]> = {};
  for (const [path, leaf] of tree.named(model))
    values[path] = Array.from((await leaf.data()) as Float32Array);
  return values;
}

export const losses = (trainer: Trainer<llm.Llama>): number[] =>
  trainer.rows.flatMap((row) => row.loss ?? []);

/** A source whose batches are changed on their way. */
export function altered(
  inner: text.BatchSource,
  change: (batch: text.Batch, index: number) => text.Batch,
): text.BatchSource {
  return {
    batchSize: inner.batchSize,
    sequenceLength: inner.sequenceLength,
    vocabSize: inner.vocabSize,
    prepare: (options) => inner.prepare(options),
    async next() {
      const index = inner.position().samples / inner.batchSize;
      return change(await inner.next(), index);
    },
    validation: (limit) => inner.validation(limit),
    position: () => inner.position(),
    restore: (position) => inner.restore(position),
  };
}
