import type { DecodeOptions, Tokenizer } from "./tokenizer.js";

const precedingIds = 8;

/**
 * Text from ids that arrive one by one. A token can hold part of a UTF-8 character, and some decoders treat the first
 * token of a text differently, so a short window of ids is decoded with and without the new ones, and only the
 * difference is given out, and only when it does not end inside a character.
 */
export class DecodeStream {
  private ids: number[] = [];
  /** Start of the window. */
  private windowStart = 0;
  /** The ids before this one were given out. */
  private emitted = 0;

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly options: DecodeOptions,
  ) {}

  /** Begins after these ids, which are not given out again: only the last few of them can matter. */
  after(ids: readonly number[]): this {
    this.ids = ids.slice(-precedingIds);
    this.windowStart = 0;
    this.emitted = this.ids.length;
    return this;
  }

  /** Takes the next ids; returns the text that they complete, possibly none. */
  push(...ids: number[]): string {
    this.ids.push(...ids);
    const before = this.decode(this.windowStart, this.emitted);
    const after = this.decode(this.windowStart, this.ids.length);
    if (after.length <= before.length || after.endsWith("\uFFFD")) return "";
    const text = after.slice(before.length);
    this.windowStart = this.emitted;
    this.emitted = this.ids.length;
    if (this.windowStart > 256) {
      this.ids.splice(0, this.windowStart);
      this.emitted -= this.windowStart;
      this.windowStart = 0;
    }
    return text;
  }

  /** The rest, with U+FFFD for a character that never became whole. The stream starts afresh afterwards. */
  end(): string {
    const before = this.decode(this.windowStart, this.emitted);
    const after = this.decode(this.windowStart, this.ids.length);
    this.ids = [];
    this.windowStart = 0;
    this.emitted = 0;
    return after.slice(before.length);
  }

  private decode(start: number, end: number): string {
    return this.tokenizer.decode(this.ids.slice(start, end), this.options);
  }
}
