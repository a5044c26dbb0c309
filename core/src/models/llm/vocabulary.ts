/** Another number of tokens for a model that has values. */

import { tensor } from "../../array/creation.js";
import { cast } from "../../array/elementwise.js";
import { slice, take } from "../../array/indexing.js";
import { concatenate, stack } from "../../array/joining.js";
import { mean } from "../../array/reductions.js";
import type { Tensor } from "../../array/tensor.js";
import { type AddTokensOptions, addTokens as withTokens } from "../../data/text/added-tokens.js";
import type { HuggingFaceTokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknownOptions } from "../../graph/spelling.js";
import { flatten } from "../../transform/tree.js";
import { build } from "./build.js";
import { checkTokenizer } from "./check-tokenizer.js";
import type { Decoder } from "./decoder.js";

export interface ResizeOptions {
  /** The old tokens whose mean a new token begins with, such as the pieces that it was written with before. Default all old tokens. */
  pieces?: (id: number) => readonly number[];
}

/**
 * The model with `vocabSize` tokens: rows of the embedding and of the output layer are added at the end, each the mean of old ones (Hewitt 2021,
 * "Initializing new word embeddings for pretrained language models"), or cut off there. What is not of the vocabulary is shared with the model
 * that was given.
 *
 * @throws ArgumentError for sizes that are no positive integers, and pieces that are no old tokens
 */
export function resizeVocabulary(model: Decoder, vocabSize: number, options: ResizeOptions = {}): Decoder {
  refuseUnknownOptions("resizeVocabulary", options, ["pieces"]);
  if (!(Number.isSafeInteger(vocabSize) && vocabSize >= 1))
    throw new ArgumentError(`resizeVocabulary: vocabSize is ${String(vocabSize)}`, "give a positive integer");
  const { family, config, source, generation, execution } = model;
  if (family === null)
    throw new ArgumentError("resizeVocabulary: a decoder of no family", "make it with llm.llama or its kin");
  const old = config.vocabSize;
  const like = build(
    family,
    { ...config, vocabSize },
    { ...execution, source: source ?? undefined, generation: generation ?? undefined },
  );
  const tables = new Set(["model.embedTokens.weight", "lmHead.weight"]);
  const from = flatten(model);
  const known = new Map(from.paths.map((path, i) => [path, from.leaves[i]!]));
  const to = flatten(like);
  return to.rebuild(
    to.paths.map((path) => {
      const leaf = known.get(path)!;
      if (!tables.has(path) || vocabSize === old) return leaf;
      return vocabSize < old ? slice(leaf, [0, vocabSize]) : grown(leaf, vocabSize, options.pieces);
    }),
  ) as Decoder;
}

export interface NewTokens {
  readonly model: Decoder;
  readonly tokenizer: HuggingFaceTokenizer;
}

/**
 * A model and its tokenizer with further tokens, each of which begins as the mean of the pieces that it was written with before: rows of the
 * embedding and of the output layer. Rows that the model has beyond its tokenizer's tokens give way to them.
 */
export function addTokens(
  model: Decoder,
  tokenizer: HuggingFaceTokenizer,
  tokens: readonly string[],
  options: AddTokensOptions = {},
): NewTokens {
  checkTokenizer("addTokens", model, tokenizer);
  const larger = withTokens(tokenizer, tokens, options);
  const first = tokenizer.vocabSize;
  const pieces = (id: number): readonly number[] => [...tokenizer.encode(tokens[id - first]!)];
  const own = resizeVocabulary(model, first);
  return { model: resizeVocabulary(own, larger.vocabSize, { pieces }), tokenizer: larger };
}

function grown(table: Tensor, rows: number, pieces: ResizeOptions["pieces"]): Tensor {
  const old = table.shape[0]!;
  const wide = cast(table, "float32");
  const all = pieces === undefined ? mean(wide, 0) : undefined;
  const added = Array.from({ length: rows - old }, (_, i): Tensor => {
    if (all !== undefined) return all;
    const own = pieces!(old + i);
    const odd = own.find((id) => !(Number.isInteger(id) && id >= 0 && id < old));
    if (own.length === 0 || odd !== undefined) {
      throw new ArgumentError(
        `resizeVocabulary: token ${old + i} is to begin with ${own.length === 0 ? "no old token" : `token ${odd}`}`,
        `give ids from 0 to ${old - 1}`,
      );
    }
    return mean(take(wide, tensor(Int32Array.from(own), { shape: [own.length] }), 0), 0);
  });
  return concatenate([table, cast(stack(added), table.dtype)], 0);
}
