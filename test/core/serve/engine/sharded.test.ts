/** A model over several devices writes what it writes on one. */
import "../../../support/eight-devices.js";
import "../../../support/runtime.js";
import { join } from "node:path";
import { llm, Mesh } from "aronnax";
import { expect, it } from "vitest";
import { createEngine } from "../../../../core/src/serve/engine/index.js";
import { characters, fixtures, ids, prompts, written } from "../../../support/written.js";

it("of four, split by rows and by heads", async () => {
  const folder = join(fixtures, "llama");
  const parted = await llm.load(folder, { mesh: new Mesh({ fsdp: 2, tensor: 2 }, [0, 1, 2, 3]) });
  const engine = createEngine(parted, { tokenizer: characters, context: 40, pageSize: 8 });
  const together = await Promise.all(prompts.map((prompt) => ids(engine, { prompt, maxTokens: 8 })));
  expect(together).toEqual(await written(await llm.load(folder)));
  await engine.close();
}, 300_000);
