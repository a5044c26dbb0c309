import type { Library, PreTokenizer } from "./library.js";
import type { TokenizerJson } from "./tokenizer.js";

const maxWords = 1 << 17;

interface PreTokenizerJson {
  type: string;
  use_regex?: boolean;
  add_prefix_space?: boolean;
  behavior?: string;
  invert?: boolean;
  pretokenizers?: PreTokenizerJson[];
}

/**
 * Byte-level BPE a word at a time, with the tokens of each distinct word kept: a text has few distinct words, and most of
 * the library's time goes into turning each of them into bytes again. Words and merges are the library's own.
 */
export class WordEncoder {
  private readonly words = new Map<string, readonly number[]>();

  private constructor(
    private readonly library: Library,
    private readonly split: PreTokenizer,
    private readonly bytes: PreTokenizer,
    /** Finds any added token, which the library must handle; undefined if there are none. */
    private readonly added: RegExp | undefined,
  ) {}

  /** Undefined where a tokenizer is not of this kind. */
  static for(library: Library, json: TokenizerJson): WordEncoder | undefined {
    const { model, normalizer, added_tokens } = json;
    const [split, bytes] = library.pre_tokenizer?.tokenizers ?? [];
    const plain =
      model.type === "BPE" &&
      normalizer === null &&
      !model.dropout &&
      !model.continuing_subword_prefix &&
      !model.end_of_word_suffix &&
      cutsFirst(json.pre_tokenizer as PreTokenizerJson | null);
    if (!plain || !split || !bytes) return undefined;
    const contents = added_tokens.map(({ content }) => content.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
    return new WordEncoder(
      library,
      split,
      bytes,
      contents.length > 0 ? new RegExp(contents.join("|")) : undefined,
    );
  }

  /** The ids of a text; undefined if it holds an added token, or a word without a token. */
  encode(text: string): Int32Array | undefined {
    if (this.added?.test(text)) return undefined;
    const ids: number[] = [];
    for (const word of this.split.pre_tokenize(text)) {
      const known = this.words.get(word) ?? this.encodeWord(word);
      if (known === undefined) return undefined;
      for (const id of known) ids.push(id);
    }
    return Int32Array.from(ids);
  }

  private encodeWord(word: string): readonly number[] | undefined {
    const tokens = this.library.model.encode(this.bytes.pre_tokenize(word));
    const ids: number[] = [];
    for (const token of tokens) {
      const id = this.library.token_to_id(token);
      if (id === undefined) return undefined;
      ids.push(id);
    }
    if (this.words.size >= maxWords) this.words.clear();
    this.words.set(word, ids);
    return ids;
  }
}

/** Whether a pattern's matches are the words, which are then written as bytes; see `writtenOut`. */
function cutsFirst(pre: PreTokenizerJson | null): boolean {
  if (pre?.type !== "Sequence" || pre.pretokenizers?.length !== 2) return false;
  const [first, second] = pre.pretokenizers as [PreTokenizerJson, PreTokenizerJson];
  const splits = first.type === "Split" && first.behavior === "Isolated" && !first.invert;
  return splits && second.type === "ByteLevel" && second.use_regex === false && !second.add_prefix_space;
}
