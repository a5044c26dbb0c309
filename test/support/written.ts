/** What the small checkpoints of the families write, with and without the engine. Import `runtime.js` before. */
import { fileURLToPath } from "node:url";
import { llm, text } from "aronnax";
import type { Engine, EngineRequest } from "../../core/src/serve/engine/types.js";

/** A folder for each family. */
export const fixtures = fileURLToPath(new URL("../fixtures/verify", import.meta.url));

/** Ids as text: the fixtures have a few dozen tokens and no tokenizer. */
export const characters = await text.characterTokenizer(["abcdefghijklmnopqrstuvwxyz .,;ABC"]);

export async function ids(engine: Engine, request: EngineRequest): Promise<number[]> {
  const drawn: number[] = [];
  for await (const { tokens } of engine.submit({ sampling: { temperature: 0 }, ignoreEnd: true, ...request }))
    drawn.push(...tokens.map(({ id }) => id));
  return drawn;
}

export const prompts = ["whale", "the ship sails on and on", "a"].map((each) => [...characters.encode(each)]);

export async function written(model: llm.Decoder, of = prompts): Promise<number[][]> {
  const completions = await llm.complete(model, of, {
    tokenizer: characters,
    maxTokens: 8,
    temperature: 0,
    stopIds: [],
  });
  return completions.map((each) => [...each.ids]);
}
