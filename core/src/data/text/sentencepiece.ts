import { readFile } from "node:fs/promises";
import { DataError } from "../errors.js";
import { PieceType, parseSentencePieceModel, type SentencePieceModel } from "./sentencepiece-model.js";
import { HuggingFaceTokenizer, type TokenizerConfig, type TokenizerJson } from "./tokenizer.js";

/** U+2581, which stands for a space in SentencePiece. */
const space = "\u2581";

/** Rules that are known without a model's table. */
const knownRules = new Set(["identity", "nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", ""]);

/**
 * Reads a SentencePiece model (`tokenizer.model`, `spiece.model`) of type unigram or BPE as the equal tokenizer.json, so
 * that it is run, saved and exchanged as any other.
 */
export async function loadSentencePiece(path: string): Promise<HuggingFaceTokenizer> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw new DataError(
      `The SentencePiece model ${path} cannot be read: ${(error as Error).message}`,
      undefined,
      {
        cause: error,
      },
    );
  }
  try {
    const model = parseSentencePieceModel(bytes);
    return new HuggingFaceTokenizer(tokenizerJson(model), tokenizerConfig(model));
  } catch (error) {
    throw new DataError(
      `${path} cannot be used as a SentencePiece model: ${(error as Error).message}.`,
      undefined,
      {
        cause: error,
      },
    );
  }
}

function tokenizerJson(model: SentencePieceModel): TokenizerJson {
  const { pieces, modelType, normalizer } = model;
  if (modelType !== "unigram" && modelType !== "bpe") {
    throw new DataError(`it is of type ${modelType}; unigram and bpe are supported`);
  }
  if (normalizer.charsmap.length === 0 && !knownRules.has(normalizer.name)) {
    throw new DataError(
      `it normalizes text by rules of its own ("${normalizer.name}"), whose table is missing`,
    );
  }
  if (model.treatWhitespaceAsSuffix || !normalizer.escapeWhitespaces) {
    throw new DataError("it treats spaces in a way that tokenizer.json cannot express");
  }
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: pieces.flatMap(({ piece, type }, id) =>
      type === PieceType.control || type === PieceType.unknown || type === PieceType.userDefined
        ? [
            {
              id,
              content: piece,
              single_word: false,
              lstrip: false,
              rstrip: false,
              normalized: false,
              special: type !== PieceType.userDefined,
            },
          ]
        : [],
    ),
    normalizer: { type: "Sequence", normalizers: normalizers(normalizer) },
    pre_tokenizer: preTokenizer(pieces),
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: space }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(normalizer.addDummyPrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: modelType === "unigram" ? unigramModel(model) : bpeModel(model),
  };
}

function normalizers(normalizer: SentencePieceModel["normalizer"]): object[] {
  const { name, charsmap } = normalizer;
  const out: object[] = [];
  if (charsmap.length > 0) {
    out.push({ type: "Precompiled", precompiled_charsmap: Buffer.from(charsmap).toString("base64") });
  } else if (name !== "identity" && name !== "") {
    if (name.startsWith("nmt")) out.push({ type: "Nmt" });
    out.push({ type: "NFKC" });
    if (name.endsWith("_cf")) out.push({ type: "Lowercase" });
  }
  if (normalizer.removeExtraWhitespaces) {
    out.push({ type: "Replace", pattern: { Regex: "\\A +| +\\z" }, content: "" });
    out.push({ type: "Replace", pattern: { Regex: " {2,}" }, content: " " });
  }
  if (normalizer.addDummyPrefix) out.push({ type: "Prepend", prepend: space });
  out.push({ type: "Replace", pattern: { String: " " }, content: space });
  if (normalizer.addDummyPrefix && normalizer.removeExtraWhitespaces) {
    // Nothing but spaces is nothing, and gets no prefix either.
    out.push({ type: "Replace", pattern: { Regex: `\\A${space}\\z` }, content: "" });
  }
  return out;
}

/**
 * SentencePiece encodes a text as a whole. Where no piece goes on with a space after another character, cutting the text
 * before each run of spaces gives the same tokens, far faster.
 */
function preTokenizer(pieces: SentencePieceModel["pieces"]): object | null {
  const across = new RegExp(`[^${space}]${space}`, "u");
  const crossing = pieces.some(
    ({ piece, type }) => (type === PieceType.normal || type === PieceType.userDefined) && across.test(piece),
  );
  if (crossing) return null;
  const pattern = { Regex: `${space}*[^${space}]+|${space}+` };
  return { type: "Split", pattern, behavior: "Isolated", invert: false };
}

function unigramModel(model: SentencePieceModel): TokenizerJson["model"] {
  return {
    type: "Unigram",
    unk_id: model.ids.unk,
    vocab: model.pieces.map(({ piece, score }) => [piece, score]),
    byte_fallback: model.byteFallback,
  };
}

function bpeModel(model: SentencePieceModel): TokenizerJson["model"] {
  const { pieces } = model;
  const usable = new Map<string, number>();
  pieces.forEach(({ piece, type }, id) => {
    if (type === PieceType.normal || type === PieceType.userDefined) usable.set(piece, id);
  });
  // SentencePiece merges the neighbours whose union has the best score; here merges are listed best first.
  const merges: { pair: [string, string]; score: number; left: number; right: number }[] = [];
  for (const [piece, id] of usable) {
    const characters = Array.from(piece);
    for (let cut = 1; cut < characters.length; cut++) {
      const pair: [string, string] = [characters.slice(0, cut).join(""), characters.slice(cut).join("")];
      const [left, right] = [usable.get(pair[0]), usable.get(pair[1])];
      if (left !== undefined && right !== undefined)
        merges.push({ pair, score: pieces[id]!.score, left, right });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.left - b.left || a.right - b.right);
  return {
    type: "BPE",
    dropout: null,
    unk_token: pieces[model.ids.unk]?.piece ?? null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: true,
    byte_fallback: model.byteFallback,
    ignore_merges: false,
    vocab: Object.fromEntries(pieces.map(({ piece }, id) => [piece, id])),
    merges: merges.map(({ pair }) => pair),
  };
}

function tokenizerConfig({ ids, pieces }: SentencePieceModel): TokenizerConfig {
  const config: TokenizerConfig = {};
  for (const [name, id] of Object.entries(ids)) {
    const piece = pieces[id];
    if (piece !== undefined) config[`${name}_token`] = piece.piece;
  }
  return config;
}
