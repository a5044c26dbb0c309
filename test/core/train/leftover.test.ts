/** What a Trainer leaves on the devices when nobody holds it any more: a notebook's cell that runs again must find the room. */
import "../../support/runtime.js";
import { tree } from "aronnax";
import { expect, it } from "vitest";
import { collectGarbage } from "../../../core/src/host/garbage.js";
import { Runtime } from "../../../core/src/runtime/runtime.js";
import { Trainer } from "../../../core/src/train/index.js";
import { config } from "./support.js";

/** Bytes of states on the device, once the garbage is collected. */
async function held(): Promise<number> {
  await collectGarbage();
  const { byTag } = (await Runtime.default().memory()).devices[0]!;
  return (byTag.parameter ?? 0) + (byTag.optimizer ?? 0);
}

/** Trains, and forgets the training. */
async function train(): Promise<void> {
  await new Trainer(config({ steps: 2, average: { decay: 0.9 } })).fit();
}

it("is nothing", async () => {
  await train();
  await train();
  expect(await held()).toBe(0);
  const kept = new Trainer(config({ steps: 2 }));
  await kept.fit();
  expect(await held()).toBeGreaterThanOrEqual(3 * 4 * kept.model.parameterCount);
  expect(tree.leaves(kept.model)[0]!.buffer!.state).toBe("live");
});
