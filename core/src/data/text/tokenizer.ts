import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DataError } from "../errors.js";
import { DecodeStream } from "./decode-stream.js";
import type { AddedToken } from "./huggingface/added-tokens.js";
import { Pipeline } from "./huggingface/pipeline.js";

/** How `encode` treats special tokens written out in the text, such as `<|endoftext|>`. */
export type SpecialTokenPolicy = "parse" | "text";

export interface EncodeOptions {
  /** Add what the tokenizer's post-processor adds (a BOS token, `[CLS]` ...). Default false. */
  addSpecialTokens?: boolean;
  /** `"parse"` (default) reads a written special token as that token; `"text"` reads it as ordinary text. */
  special?: SpecialTokenPolicy;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean;
}

/** Text to token ids and back. Ids are integers in [0, vocabSize). */
export interface Tokenizer {
  /** One more than the largest id: the rows that an embedding needs. */
  readonly vocabSize: number;
  /** Special tokens by their text. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** The token that ends a document, if the tokenizer has one. */
  readonly eosId: number | undefined;
  /** The token that begins a document, if the tokenizer has one. */
  readonly bosId: number | undefined;
  readonly padId: number | undefined;
  encode(text: string, options?: EncodeOptions): Int32Array;
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** Decodes ids as they arrive, and never cuts a character in two. */
  stream(options?: DecodeOptions): DecodeStream;
  idOf(token: string): number | undefined;
  tokenOf(id: number): string | undefined;
  /** The content of `tokenizer.json`. */
  toJSON(): TokenizerJson;
  /** Writes `tokenizer.json` and `tokenizer_config.json` into `folder`. */
  save(folder: string): Promise<void>;
}

/** The parts of Hugging Face's `tokenizer.json` that are read here; the rest is kept as it is. */
export interface TokenizerJson {
  version: string;
  added_tokens: AddedToken[];
  normalizer: object | null;
  pre_tokenizer: object | null;
  post_processor: object | null;
  decoder: object | null;
  model: { type?: string; [key: string]: unknown };
  [key: string]: unknown;
}

/** `tokenizer_config.json`: names of the special tokens, the chat template and the like. */
export type TokenizerConfig = Record<string, unknown>;

/** A tokenizer in Hugging Face's format: BPE, byte-level BPE, Unigram, WordPiece or whole words. */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly specialTokens: ReadonlyMap<string, number>;
  readonly eosId: number | undefined;
  readonly bosId: number | undefined;
  readonly padId: number | undefined;
  private readonly pipeline: Pipeline;

  constructor(
    private readonly json: TokenizerJson,
    readonly config: TokenizerConfig = {},
  ) {
    for (const part of [
      "model",
      "added_tokens",
      "normalizer",
      "pre_tokenizer",
      "post_processor",
      "decoder",
    ]) {
      if (!(part in json)) {
        throw new DataError(
          `This is no tokenizer.json: the field "${part}" is missing.`,
          "Save it with tokenizers >= 0.10 (`tokenizer.save(path)`), or with transformers' `save_pretrained`.",
        );
      }
    }
    try {
      this.pipeline = new Pipeline(json);
    } catch (error) {
      throw new DataError(
        `The tokenizer (model type ${json.model.type ?? "unknown"}) cannot be built: ${(error as Error).message}.`,
        undefined,
        { cause: error },
      );
    }
    this.vocabSize = this.pipeline.largestId + 1;
    this.specialTokens = new Map(
      json.added_tokens.filter((token) => token.special).map((token) => [token.content, token.id]),
    );
    this.eosId = this.namedId("eos_token", ["<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "[SEP]"]);
    this.bosId = this.namedId("bos_token", ["<s>", "<bos>", "<|begin_of_text|>", "[CLS]"]);
    this.padId = this.namedId("pad_token", ["<pad>", "[PAD]", "<|pad|>"]);
  }

  encode(text: string, options: EncodeOptions = {}): Int32Array {
    if (typeof text !== "string")
      throw new DataError(
        `A text to encode is ${typeof text}.`,
        "Give a string; encode several texts one by one.",
      );
    return Int32Array.from(
      // Lone surrogates have no bytes.
      this.pipeline.encode(text.replace(loneSurrogates, "\uFFFD"), {
        specials: options.addSpecialTokens ?? false,
        literal: options.special === "text",
      }),
    );
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    if (typeof ids !== "object" || ids === null)
      throw new DataError(`The ids to decode are ${typeof ids}.`, "Give an array of token ids.");
    if (ids.length === 0) return "";
    const list = Array.from(ids);
    for (const id of list) {
      if (this.pipeline.tokenOf(id) === undefined) {
        throw new DataError(
          `Token id ${id} is not in the vocabulary of ${this.vocabSize} tokens.`,
          "The ids come from another tokenizer, or from a model whose vocabulary is padded: mask the unused ids.",
        );
      }
    }
    const text = this.pipeline.decode(list, { skipSpecial: options.skipSpecialTokens ?? false });
    return this.cleansUp ? cleanUp(text) : this.isClip ? text.replaceAll("</w>", " ") : text;
  }

  stream(options: DecodeOptions = {}): DecodeStream {
    return new DecodeStream(this, options, this.cleansUp ? uncleaned : undefined);
  }

  /** Of BPE, spaces before punctuation are the text's own, whatever the configuration says: transformers leaves them too. */
  private get cleansUp(): boolean {
    return this.config.clean_up_tokenization_spaces === true && this.json.model.type !== "BPE";
  }

  /** transformers writes a space for the mark of a word's end, which the decoder in CLIP's files leaves. */
  private get isClip(): boolean {
    return String(this.config.tokenizer_class).startsWith("CLIPTokenizer");
  }

  idOf(token: string): number | undefined {
    return this.pipeline.idOf(token);
  }

  tokenOf(id: number): string | undefined {
    return this.pipeline.tokenOf(id);
  }

  toJSON(): TokenizerJson {
    return this.json;
  }

  async save(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "tokenizer.json"), `${JSON.stringify(this.json, null, 2)}\n`);
    await writeFile(join(folder, "tokenizer_config.json"), `${JSON.stringify(this.config, null, 2)}\n`);
  }

  private namedId(key: string, usual: readonly string[]): number | undefined {
    const named = this.config[key];
    // tokenizer_config.json holds either the text or an AddedToken object.
    const content = typeof named === "object" && named !== null ? (named as AddedToken).content : named;
    if (typeof content === "string") return this.pipeline.idOf(content);
    for (const token of usual) {
      const id = this.specialTokens.get(token);
      if (id !== undefined) return id;
    }
    return undefined;
  }
}

/**
 * Reads a tokenizer from a `tokenizer.json`, or from a folder that holds one. A `tokenizer_config.json` beside it names
 * the special tokens, and it or a `chat_template.jinja` holds the chat template.
 */
export async function loadTokenizer(path: string): Promise<HuggingFaceTokenizer> {
  if (typeof path !== "string") throw new DataError(`The path of the tokenizer is ${typeof path}.`);
  const file = path.endsWith(".json") ? path : join(path, "tokenizer.json");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    const model = ["tokenizer.model", "spiece.model"].find((name) => existsSync(join(path, name)));
    throw new DataError(
      `The tokenizer ${file} cannot be read: ${(error as Error).message}`,
      model === undefined
        ? "Give the path of a tokenizer.json, or of the folder that holds it."
        : `Open its SentencePiece model: text.loadSentencePiece(${JSON.stringify(join(path, model))}).`,
      { cause: error },
    );
  }
  return new HuggingFaceTokenizer(parseJson(text, file) as TokenizerJson, await readConfig(dirname(file)));
}

async function readConfig(folder: string): Promise<TokenizerConfig> {
  const file = join(folder, "tokenizer_config.json");
  const text = await readIfThere(file);
  const config = text === undefined ? {} : (parseJson(text, file) as TokenizerConfig);
  // Newer models keep the template in a file of its own, which then counts.
  const template = await readIfThere(join(folder, "chat_template.jinja"));
  return template === undefined ? config : { ...config, chat_template: template };
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function parseJson(text: string, file: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new DataError(`${file} is not valid JSON: ${(error as Error).message}`, undefined, {
      cause: error,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new DataError(`${file} must hold a JSON object.`);
  }
  return value;
}

/** What transformers' `clean_up_tokenization` replaces, one after another. */
const cleanings: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

/** The end of a text that may be the beginning of one of them. */
const uncleaned = / +(?:'|n|n'|n '|'v|'r)?$/;

function cleanUp(text: string): string {
  return cleanings.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, to), text);
}

const loneSurrogates = /\p{Surrogate}/gu;
