import type { OutputParser, ParsedEvent } from "./events.js";
import { JsonCallReader, JsonValueReader } from "./json-call.js";
import { MarkScanner } from "./marks.js";

/** How a call is written between its marks. */
export type CallForm =
  /** `{"name": ..., "arguments": {...}}`, one or several, in a list or not. */
  | { readonly form: "object" }
  /** The name up to one of the marks `upTo`, then the arguments as JSON. */
  | { readonly form: "named"; readonly upTo: readonly string[] };

export interface TaggedFormat {
  /** Marks around the reasoning; of models that begin within it, `begins`. */
  readonly reasoning?: { readonly open: string; readonly close: string; readonly begins?: boolean };
  readonly open: readonly string[];
  readonly close: readonly string[];
  readonly call: readonly CallForm[];
  /** A text that is a JSON object from its first character is a call. */
  readonly bare?: boolean;
  /** Marks that say nothing. */
  readonly ignored?: readonly string[];
}

type State = "start" | "content" | "reasoning" | "calls" | "object" | "name" | "arguments";

/** Texts whose calls and reasoning stand between marks. */
export class TaggedParser implements OutputParser {
  private readonly scanner = new MarkScanner();
  private state: State;
  private calls = 0;
  private reader: JsonCallReader | undefined;
  private value: JsonValueReader | undefined;
  private name = "";
  /** Text since the mark that opened a call, for one that is none. */
  private opened = "";
  private events: ParsedEvent[] = [];
  /** White space that is shown only when text follows: between calls, after the reasoning. */
  private space = "";
  private said = false;

  constructor(private readonly format: TaggedFormat) {
    this.state = format.reasoning?.begins ? "reasoning" : "start";
  }

  push(text: string): ParsedEvent[] {
    this.scanner.push(text);
    return this.run(false);
  }

  end(): ParsedEvent[] {
    return this.run(true);
  }

  private run(ended: boolean): ParsedEvent[] {
    this.events = [];
    while (this.step(ended));
    if (ended) this.abandon();
    return merged(this.events);
  }

  private step(ended: boolean): boolean {
    const { scanner, format } = this;
    switch (this.state) {
      case "start": {
        const rest = scanner.rest;
        if (format.bare && /^\s*\{/.test(rest)) this.openObject();
        else if (rest.trim() === "" && !ended) return false;
        else this.state = "content";
        return true;
      }
      case "content":
      case "reasoning": {
        const inside = this.state === "reasoning";
        const marks = inside
          ? [format.reasoning!.close]
          : [...(format.reasoning ? [format.reasoning.open] : []), ...format.open, ...(format.ignored ?? [])];
        const { text, mark } = scanner.until(marks, ended);
        this.say(inside ? "reasoning" : "content", text);
        if (mark === undefined) return false;
        if (format.open.includes(mark)) {
          this.opened = mark;
          this.state = "calls";
        } else if (mark === format.reasoning?.open || mark === format.reasoning?.close) {
          this.space = "";
          this.said = false;
          this.state = inside ? "start" : "reasoning";
        }
        return true;
      }
      case "calls":
        return this.stepCalls(ended);
      case "object": {
        const index = this.calls;
        const rest = this.reader!.push(scanner.take(scanner.rest.length).text, this.events);
        scanner.push(rest);
        if (this.reader!.state === "reading") return false;
        if (this.reader!.state === "failed" && !this.reader!.named) {
          this.state = "content";
          this.space = "";
          this.say("content", this.opened + this.reader!.read);
        } else {
          this.calls = index + 1;
          this.opened = "";
          this.state = "calls";
        }
        this.reader = undefined;
        return true;
      }
      case "name": {
        const marks = this.format.call.flatMap((one) => (one.form === "named" ? one.upTo : []));
        const { text, mark } = scanner.until(marks, ended);
        this.name += text;
        if (mark === undefined) return false;
        this.events.push({ type: "call", index: this.calls, name: this.name.trim() });
        this.opened = "";
        this.value = undefined;
        this.state = "arguments";
        return true;
      }
      case "arguments": {
        if (this.value === undefined) {
          // Space before the value is no part of it, space within it is.
          scanner.take(/^\s*/.exec(scanner.rest)![0].length);
          if (scanner.rest === "") return false;
          this.value = new JsonValueReader();
        }
        const length = this.value.push(scanner.rest);
        if (length > 0)
          this.events.push({ type: "arguments", index: this.calls, text: scanner.take(length).text });
        if (!this.value.done) return false;
        this.calls++;
        this.state = "calls";
        return true;
      }
    }
  }

  /** Between calls: marks, commas and brackets of a list, space. */
  private stepCalls(ended: boolean): boolean {
    const { scanner, format } = this;
    const marks = [...format.open, ...format.close, ...(format.ignored ?? [])];
    const skipped = /^[\s,;[\]]*/.exec(scanner.rest)![0];
    const at = scanner.rest.slice(skipped.length);
    // A mark may itself begin with a bracket or a space, as Mistral's and DeepSeek's do.
    const place = this.markWithin(skipped, marks);
    if (at === "" && place === skipped.length) {
      if (this.opened === "") scanner.take(place);
      return false;
    }
    const rest = scanner.rest.slice(place);
    const mark = marks.filter((one) => rest.startsWith(one)).sort((a, b) => b.length - a.length)[0];
    if (marks.some((one) => one.length > rest.length && one.startsWith(rest)) && !ended) return false;
    if (mark !== undefined) {
      scanner.take(place + mark.length);
      if (format.close.includes(mark)) {
        this.state = "content";
        this.opened = "";
      } else if (format.open.includes(mark)) this.opened += mark;
      return true;
    }
    // After a call, brackets and commas are of the list; after a mark they may prove to be text.
    if (this.opened !== "") this.opened += skipped;
    scanner.take(skipped.length);
    if (at.startsWith("{") && format.call.some(({ form }) => form === "object")) this.openObject();
    else if (this.opened.trim() !== "" && format.call.some(({ form }) => form === "named")) {
      this.name = "";
      this.state = "name";
    } else {
      this.state = "content";
      if (this.opened.trim() !== "") this.say("content", this.opened);
    }
    return true;
  }

  /** Where in a run of brackets and space a mark begins, or its end. */
  private markWithin(skipped: string, marks: readonly string[]): number {
    for (let at = 0; at < skipped.length; at++) {
      const rest = this.scanner.rest.slice(at);
      if (marks.some((mark) => rest.startsWith(mark) || mark.startsWith(rest))) return at;
    }
    return skipped.length;
  }

  private openObject(): void {
    this.reader = new JsonCallReader(this.calls);
    this.state = "object";
  }

  /** At the end of the text: what was held as a call and is none is content. */
  private abandon(): void {
    if (this.state === "object" && !this.reader!.named) this.say("content", this.opened + this.reader!.read);
    else if (this.state === "name") this.say("content", this.opened + this.name);
    else if (this.state === "calls" && this.opened.trim() !== "")
      this.say("content", this.opened + this.scanner.take(this.scanner.rest.length).text);
    this.state = "content";
  }

  private say(type: "content" | "reasoning", text: string): void {
    const whole = this.space + text;
    // No white space first (it stands between a mark and the text), nor last.
    const shown = (this.said ? whole : whole.trimStart()).trimEnd();
    const leading = this.said ? whole : whole.trimStart();
    this.space = leading.slice(shown.length);
    if (shown === "") return;
    this.said = true;
    this.events.push({ type, text: shown });
  }
}

/** Neighbours of one kind as one. */
export function merged(events: readonly ParsedEvent[]): ParsedEvent[] {
  const out: ParsedEvent[] = [];
  for (const event of events) {
    const last = out.at(-1);
    if (
      last !== undefined &&
      last.type === event.type &&
      last.type !== "call" &&
      event.type !== "call" &&
      (last.type !== "arguments" || (event.type === "arguments" && event.index === last.index))
    )
      out[out.length - 1] = { ...last, text: last.text + event.text };
    else out.push(event);
  }
  return out;
}
