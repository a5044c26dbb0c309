import type { Tokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import type { LanguageModel } from "./model.js";

/** Refuses a tokenizer whose ids the model does not have. A model may have more: vocabularies are padded. */
export function checkTokenizer(
  operation: string,
  model: Pick<LanguageModel, "config">,
  tokenizer: Tokenizer,
): void {
  const { vocabSize } = model.config;
  if (tokenizer.vocabSize <= vocabSize) return;
  throw new ArgumentError(
    `${operation}: the tokenizer has ids up to ${tokenizer.vocabSize - 1}, the model's vocabSize is ${vocabSize}`,
    "use the tokenizer that the model was trained with",
  );
}
