import { type AddedToken, AddedTokens, type Wanted } from "./added-tokens.js";
import { decoder } from "./decoders.js";
import { type Model, model } from "./models.js";
import { type Normalized, normalizer } from "./normalizers.js";
import type { Part } from "./part.js";
import { type PostProcessor, postProcessor } from "./post-processors.js";
import { type PreTokenizer, preTokenizer, type Word } from "./pre-tokenizers.js";

/** What of a tokenizer.json decides ids and texts. */
export interface PipelineJson {
  readonly added_tokens: readonly AddedToken[];
  readonly normalizer: object | null;
  readonly pre_tokenizer: object | null;
  readonly post_processor: object | null;
  readonly decoder: object | null;
  readonly model: object;
}

const maxWords = 1 << 17;

/**
 * The steps of Hugging Face's `tokenizers`: added tokens are cut out, the rest is normalized, cut into words, and each word turned into
 * tokens. The tokens of each distinct word are kept: a text has few of them.
 */
export class Pipeline {
  private readonly model: Model;
  private readonly normalize: ((text: string) => Normalized) | undefined;
  private readonly cuts: readonly PreTokenizer[];
  private readonly last: ((word: string) => string) | undefined;
  private readonly around: PostProcessor;
  private readonly joined: (tokens: readonly string[]) => string;
  /** Looked for in the text as it is, and as it is normalized. */
  private readonly asGiven: AddedTokens;
  private readonly asNormalized: AddedTokens;
  private readonly added = new Map<number, Wanted>();
  private readonly addedIds = new Map<string, number>();
  private readonly special = new Set<string>();
  private readonly words = new Map<string, readonly number[]>();
  /** The largest id of a token; -1 without any. */
  readonly largestId: number;

  constructor(json: PipelineJson) {
    this.model = model(json.model as Part);
    this.normalize = normalizer(json.normalizer as Part | null);
    const { cuts, last } = preTokenizer(json.pre_tokenizer as Part | null);
    this.cuts = cuts;
    this.last = last;
    this.around = postProcessor(json.post_processor as Part | null);
    this.joined = decoder(json.decoder as Part | null);
    let largest = this.model.largestId;
    for (const token of json.added_tokens) {
      const content =
        token.normalized === true && this.normalize !== undefined
          ? this.normalize(token.content).text
          : token.content;
      this.added.set(token.id, { token, content });
      this.addedIds.set(token.content, token.id);
      if (token.special === true) this.special.add(token.content);
      largest = Math.max(largest, token.id);
    }
    this.largestId = largest;
    const all = [...this.added.values()];
    this.asGiven = new AddedTokens(all.filter(({ token }) => token.normalized !== true));
    this.asNormalized = new AddedTokens(all.filter(({ token }) => token.normalized === true));
  }

  idOf(token: string): number | undefined {
    return this.addedIds.get(token) ?? this.model.idOf(token);
  }

  tokenOf(id: number): string | undefined {
    return this.added.get(id)?.token.content ?? this.model.tokenOf(id);
  }

  /**
   * @param specials - add what the post-processor adds
   * @param literal - read special tokens that are written in the text as text
   */
  encode(text: string, { specials, literal }: { specials: boolean; literal: boolean }): readonly number[] {
    const ids: number[] = [];
    for (const { start, end, id } of this.asGiven.find(text, literal))
      if (id !== undefined) ids.push(id);
      else this.encodePart(text.slice(start, end), start === 0, literal, ids);
    return specials ? this.around(ids) : ids;
  }

  private encodePart(given: string, first: boolean, literal: boolean, ids: number[]): void {
    const { text, trimmed } = this.normalize?.(given) ?? { text: given, trimmed: false };
    for (const { start, end, id } of this.asNormalized.find(text, literal)) {
      if (id !== undefined) {
        ids.push(id);
        continue;
      }
      const whole = start === 0 && end === text.length;
      let words: Word[] = [
        { text: whole ? text : text.slice(start, end), first: first && start === 0 && !trimmed },
      ];
      for (const cut of this.cuts) words = words.length === 1 ? cut(words[0]!) : words.flatMap(cut);
      for (const word of words) for (const each of this.tokens(word.text)) ids.push(each);
    }
  }

  private tokens(word: string): readonly number[] {
    const known = this.words.get(word);
    if (known !== undefined) return known;
    const ids = this.model.tokenize(this.last === undefined ? word : this.last(word));
    if (this.words.size >= maxWords) this.words.clear();
    if (word.length < 256) this.words.set(word, ids);
    return ids;
  }

  /** Ids without a token are passed over. */
  decode(ids: readonly number[], { skipSpecial }: { skipSpecial: boolean }): string {
    const tokens: string[] = [];
    for (const id of ids) {
      // A token that was looked for in normalized text is written as it reads there, which the decoder undoes.
      const token = this.added.get(id)?.content ?? this.model.tokenOf(id);
      if (token !== undefined && !(skipSpecial && this.special.has(token))) tokens.push(token);
    }
    return this.joined(tokens);
  }
}
