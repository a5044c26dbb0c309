import type { ParsedEvent } from "./events.js";

/**
 * One value of JSON out of a text that arrives in pieces. It looks only for the value's end; whether it is valid is for its reader to say.
 */
export class JsonValueReader {
  private depth = 0;
  private quoted = false;
  private escaped = false;
  private begun = false;
  done = false;

  /** How many characters belong to the value. A number or word ends before the character after it. */
  push(text: string): number {
    for (let at = 0; at < text.length; at++) {
      const character = text[at]!;
      if (this.quoted) {
        if (this.escaped) this.escaped = false;
        else if (character === "\\") this.escaped = true;
        else if (character === '"') {
          this.quoted = false;
          if (this.depth === 0) return this.finish(at + 1);
        }
        continue;
      }
      if (this.depth === 0 && this.begun && /[\s,}\]]/.test(character)) return this.finish(at);
      if (/\s/.test(character) && !this.begun) continue;
      this.begun = true;
      if (character === '"') this.quoted = true;
      else if (character === "{" || character === "[") this.depth++;
      else if (character === "}" || character === "]") {
        this.depth--;
        if (this.depth <= 0) return this.finish(at + 1);
      }
    }
    return text.length;
  }

  private finish(length: number): number {
    this.done = true;
    return length;
  }
}

type Place = "before" | "key" | "colon" | "value" | "comma";

/**
 * `{"name": "f", "arguments": {...}}` out of a text that arrives in pieces: the name once, then the arguments as they come. Models also
 * write `parameters`, and arguments before the name, which are then kept until it is known.
 */
export class JsonCallReader {
  private place: Place = "before";
  private key = "";
  private token = "";
  private value = new JsonValueReader();
  private kept = "";
  private name: string | undefined;
  /** Everything that was read, for a text that proves to be no call. */
  read = "";
  state: "reading" | "done" | "failed" = "reading";

  constructor(private readonly index: number) {}

  get named(): boolean {
    return this.name !== undefined;
  }

  /** Takes what belongs to the call; the rest is returned. */
  push(text: string, events: ParsedEvent[]): string {
    let at = 0;
    while (at < text.length && this.state === "reading") {
      const from = at;
      const character = text[at]!;
      if (this.place === "value" || this.place === "key") {
        const length = this.value.push(text.slice(at));
        this.take(text.slice(at, at + length), events);
        at += length;
      } else {
        at++;
        this.structure(character);
        // The quotation mark is of the key.
        if ((this.place as Place) === "key") at--;
      }
      this.read += text.slice(from, at);
    }
    return text.slice(at);
  }

  private structure(character: string): void {
    if (/\s/.test(character)) return;
    if (this.place === "before" && character === "{") this.place = "comma";
    else if (this.place === "comma" && character === '"') this.begin("key");
    else if (this.place === "comma" && character === ",") return;
    else if (this.place === "comma" && character === "}") this.state = this.named ? "done" : "failed";
    else if (this.place === "colon" && character === ":") this.begin("value");
    else this.state = "failed";
  }

  private begin(place: "key" | "value"): void {
    this.place = place;
    this.token = "";
    this.value = new JsonValueReader();
  }

  private take(text: string, events: ParsedEvent[]): void {
    const isArguments = this.place === "value" && (this.key === "arguments" || this.key === "parameters");
    if (isArguments) {
      // White space before the value is not part of it.
      const shown = this.token === "" ? text.trimStart() : text;
      this.token += shown;
      if (shown !== "") {
        if (this.named) events.push({ type: "arguments", index: this.index, text: shown });
        else this.kept += shown;
      }
    } else this.token += text;
    if (!this.value.done) return;
    if (this.place === "key") {
      this.key = stringOf(this.token) ?? "";
      this.place = "colon";
      return;
    }
    if (this.key === "name") this.begun(events);
    this.place = "comma";
  }

  private begun(events: ParsedEvent[]): void {
    const name = stringOf(this.token);
    if (name === undefined || this.named) return;
    this.name = name;
    events.push({ type: "call", index: this.index, name });
    if (this.kept !== "") events.push({ type: "arguments", index: this.index, text: this.kept });
    this.kept = "";
  }
}

function stringOf(json: string): string | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}
