import type { DecodeOptions, Tokenizer } from "./tokenizer.js";

const windowIds = 8;

/**
 * Text from ids that arrive one by one. A token can hold part of a UTF-8 character, and some decoders treat the first token of a text
 * differently, so the last few ids are decoded together, and only that is given out of their text which no further id can change.
 */
export class DecodeStream {
  /** Those that are still decoded with what comes. */
  private ids: number[] = [];
  /** Characters of their text that were given out. */
  private given = 0;

  /** @param unsettled - matches what of a text's end may become another text when more comes, beside broken characters */
  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly options: DecodeOptions,
    private readonly unsettled?: RegExp,
  ) {}

  /** Begins after these ids, which are not given out again: only the last few of them can matter. */
  after(ids: readonly number[]): this {
    this.ids = ids.slice(-windowIds);
    this.given = whole(this.text()).length;
    return this;
  }

  /** Takes the next ids; returns the text that they complete, possibly none. */
  push(...ids: number[]): string {
    this.ids.push(...ids);
    const text = this.text();
    const settled = whole(text);
    const end = settled.length - (this.unsettled?.exec(settled)?.[0].length ?? 0);
    const out = text.slice(this.given, end);
    this.given = Math.max(this.given, end);
    // Where a character is broken, those before it may be read as broken too (byte fallback).
    if (settled === text) this.shorten(text);
    return out;
  }

  /** The rest, with U+FFFD for a character that never became whole. The stream starts afresh afterwards. */
  end(): string {
    const out = this.text().slice(this.given);
    this.ids = [];
    this.given = 0;
    return out;
  }

  /** Forgets ids without which the rest decodes to the same text. */
  private shorten(text: string): void {
    if (this.ids.length < 2 * windowIds) return;
    const last = this.ids.slice(-windowIds);
    const tail = this.tokenizer.decode(last, this.options);
    const dropped = text.length - tail.length;
    if (!text.endsWith(tail) || dropped > this.given) return;
    this.ids = last;
    this.given -= dropped;
  }

  private text(): string {
    return this.tokenizer.decode(this.ids, this.options);
  }
}

/** A text without the broken characters at its end. */
function whole(text: string): string {
  return text.replace(/\uFFFD+$/, "");
}
