import { DataError } from "../errors.js";
import type { AddedToken } from "./huggingface/added-tokens.js";
import { HuggingFaceTokenizer } from "./tokenizer.js";

export interface AddTokensOptions {
  /** Tokens that are no text, such as the marks of a chat template: left out by `skipSpecialTokens`. Default false. */
  special?: boolean;
  /** Only where no letter or digit stands beside it. Default false. */
  wholeWords?: boolean;
}

/**
 * The tokenizer with further tokens at the end of its vocabulary, each the whole of a text such as a term of a domain. What has a token already is
 * refused.
 */
export function addTokens(
  tokenizer: HuggingFaceTokenizer,
  tokens: readonly string[],
  { special = false, wholeWords = false }: AddTokensOptions = {},
): HuggingFaceTokenizer {
  if (!Array.isArray(tokens) || tokens.length === 0)
    throw new DataError("addTokens: there are no tokens.", "Give texts.");
  const seen = new Set<string>();
  const added = tokens.map((content, i): AddedToken => {
    if (typeof content !== "string" || content === "")
      throw new DataError(
        `addTokens: token ${i} is ${content === "" ? "empty" : typeof content}.`,
        "Give texts.",
      );
    const known = tokenizer.idOf(content);
    if (known !== undefined || seen.has(content))
      throw new DataError(
        `addTokens: ${JSON.stringify(content)} ${known === undefined ? "is there twice" : `is a token already, ${known}`}.`,
        "Leave it out.",
      );
    seen.add(content);
    return {
      id: tokenizer.vocabSize + i,
      content,
      special,
      single_word: wholeWords,
      lstrip: false,
      rstrip: false,
      normalized: false,
    };
  });
  const json = tokenizer.toJSON();
  return new HuggingFaceTokenizer(
    { ...json, added_tokens: [...json.added_tokens, ...added] },
    tokenizer.config,
  );
}
