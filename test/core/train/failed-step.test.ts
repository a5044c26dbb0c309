/** A step for which there is no memory any more when it is to begin. */
process.env.ARONNAX_RUNTIME_HOST_BYTES = String(2.5e9);

import "../../support/runtime.js";
import { type llm, nn, ones, Trainer, tree } from "aronnax";
import { expect, it, vi } from "vitest";
import { OutOfDeviceMemory } from "../../../core/src/runtime/errors.js";
import { type DeviceBuffer, Runtime } from "../../../core/src/runtime/runtime.js";
import type { Loss } from "../../../core/src/train/loss.js";
import { altered, config, losses, source, weights } from "./support.js";

/** The model's loss, and nothing by way of a matrix of 256 MiB. */
const wide: Loss<llm.Llama> = (model, batch) => {
  const [first] = tree.named(model).values();
  const column = ones([8192, 4]).mul(first!.mean());
  const nothing = column.matmul(column.mT).square().mean().mul(0);
  return nn.crossEntropy(model.forward(batch.inputs), batch.targets).add(nothing);
};

it("loses nothing: the training goes on with it when there is memory again", async () => {
  const undisturbed = new Trainer(config({ steps: 7, loss: wide }));
  await undisturbed.fit();

  const ballast: DeviceBuffer[] = [];
  const quarter = { shape: [2 ** 26], dtype: "float32" } as const;
  const data = altered(source(), (batch, i) => {
    // While steps are queued, before the fifth.
    if (i === 4 && ballast.length === 0) {
      for (let k = 0; k < 7; k++)
        ballast.push(Runtime.default().put(new Float32Array(2 ** 26).fill(1), quarter));
    }
    return batch;
  });
  const trainer = new Trainer(config({ steps: 7, loss: wide, data }));
  const told = vi.spyOn(console, "error").mockImplementation(() => {});
  await expect(trainer.fit()).rejects.toThrow(OutOfDeviceMemory);
  expect(told.mock.calls.join()).toMatch(/Step 5 failed before it began: nothing is lost/);
  told.mockRestore();
  expect(trainer.step).toBe(4);
  expect(Object.keys(await weights(trainer.model)).length).toBeGreaterThan(0);

  for (const each of ballast) each.free();
  expect(await trainer.fit()).toMatchObject({ status: "finished", step: 7 });
  expect(losses(trainer)).toEqual(losses(undisturbed));
  expect(await weights(trainer.model)).toEqual(await weights(undisturbed.model));
});
