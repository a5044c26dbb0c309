import { HttpError } from "./errors.js";
import { type Body, shown } from "./fields.js";
import { checkLength } from "./generate.js";
import type { ServedModel } from "./service.js";

const mostPrompts = 2048;

export interface Prompt {
  readonly text: string;
  readonly ids: readonly number[];
}

/** A text, a list of texts, a list of tokens or a list of those. */
export function readPrompts(model: ServedModel, body: Body, name: "prompt" | "input"): Prompt[] {
  const { tokenizer, engine } = model;
  const given = body.required(name, body.fields[name] ?? undefined);
  const list: readonly unknown[] =
    Array.isArray(given) && typeof given[0] !== "number" ? given : [given as unknown];
  if (list.length === 0 || list.length > mostPrompts)
    throw new HttpError(400, `${name} has ${list.length} texts; give 1 to ${mostPrompts}.`, { param: name });
  return list.map((one) => {
    let prompt: Prompt;
    if (typeof one === "string") prompt = { text: one, ids: [...tokenizer.encode(one)] };
    else {
      if (!Array.isArray(one))
        throw new HttpError(400, `${name} is ${shown(given)}; it must be texts or lists of tokens.`, {
          param: name,
        });
      const wrong = one.find((id) => !Number.isSafeInteger(id) || id < 0 || id >= engine.vocabSize);
      if (wrong !== undefined)
        throw new HttpError(400, `${name} has ${shown(wrong)}, which is no token of the model.`, {
          param: name,
        });
      prompt = { text: tokenizer.decode(one, { skipSpecialTokens: false }), ids: one };
    }
    if (prompt.ids.length === 0)
      throw new HttpError(400, `${name} has an empty text; give at least one token.`, { param: name });
    checkLength(model, prompt.ids, name);
    return prompt;
  });
}
