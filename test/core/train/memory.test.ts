/** A step that cannot fit is refused before it runs. */
import "./small-host.js";
import "../../support/runtime.js";
import { adamw, llm, Trainer, type text, tree } from "aronnax";
import { expect, it } from "vitest";
import { freeMemory, requireMemory, stepMemory } from "../../../core/src/train/memory.js";
import { config, small } from "./support.js";

/** Batches of any size, all zeros. */
function zeros(batchSize: number, sequenceLength: number): text.BatchSource {
  const position = (): text.DataPosition => ({ version: 1, kind: "zeros", samples: 0 });
  const tokens = (): Int32Array => new Int32Array(batchSize * sequenceLength);
  return {
    batchSize,
    sequenceLength,
    vocabSize: 257,
    prepare: async () => {},
    next: async () => ({ batchSize, sequenceLength, inputs: tokens(), targets: tokens(), after: position() }),
    async *validation() {},
    position,
    restore: async () => {},
  };
}

it("with the biggest consumer and the accumulation that would fit", async () => {
  const model = llm.llama({ ...small, hiddenSize: 256, intermediateSize: 512, heads: 4, layers: 4 });
  const trainer = new Trainer(config({ model, data: zeros(2 ** 12, 512), steps: 1 }));
  const error = (await trainer.fit().catch((e: Error) => e)) as Error & { fix: string };
  expect(error.name).toBe("TooLargeForMemory");
  expect(error.message).toMatch(
    /needs about [\d.]+ GB on each device, and [\d.]+ GB are free: gradients and activations [\d.]+ GB, /,
  );
  expect(error.fix).toMatch(/set accumulate: \d+, which computes a batch of 4096 in \d+ parts/);
  expect(trainer.step).toBe(0);
});

it("unless it is asked not to look; what fits is let through with what was predicted", async () => {
  const trainer = new Trainer(config({ checkMemory: false, steps: 1 }));
  expect((await trainer.fit()).status).toBe("finished");
  expect(trainer.rows[0]!.memory_activations).toBeGreaterThan(0);
});

it("shares a device's bytes out as the whole state is, and counts what the state holds already as its own", async () => {
  const model = llm.llama(small);
  const optimizer = adamw({ learningRate: 1 }).init(model);
  const parameters = Object.fromEntries(tree.named(model));
  const state = {
    parameters,
    buffers: {},
    optimizer,
    average: null,
    watch: null,
    scale: null,
    step: undefined as never,
  };
  const bytes = 4 * model.parameterCount;
  const memory = {
    arguments: 3 * bytes + 100,
    outputs: 3 * bytes + 16,
    aliased: 3 * bytes,
    temporaries: 5000,
    code: 7,
  };
  const whole = stepMemory(state, [], { memory });
  expect(whole).toMatchObject({
    parameters: bytes,
    optimizer: 2 * bytes,
    activations: 5000,
    other: 100 + 16 + 7,
  });
  // On one of two devices each has half.
  const half = stepMemory(state, [], { memory: { ...memory, arguments: 1.5 * bytes, aliased: 3 * bytes } });
  expect(half).toMatchObject({ parameters: bytes / 2, optimizer: bytes });
  const host = { processBytes: 0, availableBytes: 1000, totalBytes: 2000 };
  const device = { id: 0, byTag: {}, buffers: 10 };
  expect(
    freeMemory(
      {
        devices: [
          { ...device, inUse: 30, limit: 100 },
          { ...device, id: 1, limit: 100 },
        ],
        table: [],
        host,
      },
      5,
    ),
  ).toBe(75);
  expect(freeMemory({ devices: [device, device], table: [], host }, 5)).toBe(505);
});

it("before the parameters are drawn, where they alone are too many", async () => {
  const model = llm.llama({ ...small, vocabSize: 2 ** 18, hiddenSize: 2048 });
  const error = (await new Trainer(config({ model })).fit().catch((e: Error) => e)) as Error & {
    fix: string;
  };
  expect(error.message).toMatch(/parameters take 4\.4 GB on each device and the optimizer's state 8\.7 GB/);
  expect(error.fix).toMatch(/stateDType/);
});

it("names the optimizer or the parameters where they are the most", async () => {
  const huge = 1e15;
  const refusal = (need: Parameters<typeof requireMemory>[0]) =>
    requireMemory(need, { batchSize: 8, accumulate: 1 }).catch((e: Error & { fix: string }) => e.fix);
  const none = { parameters: 0, optimizer: 0, activations: 0, other: 0 };
  // What the state holds already is counted as free: the batch is what does not fit.
  expect(await refusal({ ...none, parameters: 2 * huge, other: huge })).toMatch(/parallel: { fsdp }/);
  expect(await refusal({ ...none, optimizer: 2 * huge, other: huge })).toMatch(/stateDType: "bfloat16"/);
});
