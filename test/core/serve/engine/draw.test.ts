/** Options of rows side by side are those of `samplingOf`, which is compared with transformers' processors, row by row. */
import "../../../support/runtime.js";
import { type llm, random, type Tensor, tensor } from "aronnax";
import { expect, it } from "vitest";
import { filteredLogits, samplingOf } from "../../../../core/src/models/llm/sampling.js";

it("leaves of each row's logits what its own options leave", async () => {
  const rows: llm.SamplingOptions[] = [
    { temperature: 0.7, topK: 5 },
    { temperature: 1.3, topP: 0.6 },
    { minP: 0.15 },
    { topK: 12, topP: 0.8, minP: 0.05 },
    {},
  ];
  // Some are alike.
  const logits = random.normal(3, [rows.length, 40]).mul(4).round().div(2);
  const column = (value: (row: llm.SamplingOptions) => number): Tensor =>
    tensor(Float32Array.from(rows, value), { shape: [rows.length, 1] });
  const together = (await filteredLogits(logits, {
    temperature: column(({ temperature = 1 }) => temperature),
    topK: tensor(
      Int32Array.from(rows, ({ topK = 40 }) => topK),
      { shape: [rows.length, 1] },
    ),
    topP: column(({ topP = 2 }) => topP),
    minP: column(({ minP = 0 }) => minP),
  }).array()) as number[][];
  for (const [i, options] of rows.entries()) {
    const [alone] = (await filteredLogits(
      logits.slice([i, i + 1]),
      samplingOf(options),
    ).array()) as number[][];
    expect(together[i]!.map(Number.isFinite)).toEqual(alone!.map(Number.isFinite));
    for (const [k, x] of alone!.entries()) if (Number.isFinite(x)) expect(together[i]![k]).toBeCloseTo(x, 5);
  }
  expect(together.map((row) => row.filter(Number.isFinite).length < 40)).toEqual([
    true,
    true,
    true,
    true,
    false,
  ]);
});
