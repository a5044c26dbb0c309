import type { OutputParser, ParsedEvent } from "./events.js";
import { MarkScanner } from "./marks.js";
import { merged } from "./tagged.js";

const marks = [
  "<|start|>",
  "<|channel|>",
  "<|constrain|>",
  "<|message|>",
  "<|end|>",
  "<|return|>",
  "<|call|>",
];

/**
 * The messages of gpt-oss (openai/harmony): `<|channel|>analysis<|message|>...<|end|>`, the answer in the channel `final`, a call in
 * `commentary to=functions.NAME`. A text without a channel is an answer.
 */
export class HarmonyParser implements OutputParser {
  private readonly scanner = new MarkScanner();
  private header: string | undefined;
  private kind: "content" | "reasoning" | "arguments" = "content";
  private calls = 0;

  push(text: string): ParsedEvent[] {
    this.scanner.push(text);
    return this.run(false);
  }

  end(): ParsedEvent[] {
    return this.run(true);
  }

  private run(ended: boolean): ParsedEvent[] {
    const events: ParsedEvent[] = [];
    for (;;) {
      const { text, mark } = this.scanner.until(marks, ended);
      if (this.header !== undefined) this.header += text;
      else if (text !== "")
        events.push(
          this.kind === "arguments"
            ? { type: "arguments", index: this.calls - 1, text }
            : { type: this.kind, text },
        );
      if (mark === undefined) return merged(events);
      if (mark === "<|start|>") this.header = "";
      else if (mark === "<|channel|>" || mark === "<|constrain|>")
        this.header = `${this.header ?? ""} ${mark}`;
      else if (mark === "<|message|>") {
        this.open(events);
        this.header = undefined;
      } else {
        this.header = undefined;
        this.kind = "content";
      }
    }
  }

  private open(events: ParsedEvent[]): void {
    const to = /\bto=functions\.([^\s<]+)/.exec(this.header ?? "")?.[1];
    const channel = /<\|channel\|>\s*(\w+)/.exec(this.header ?? "")?.[1];
    if (to !== undefined) {
      events.push({ type: "call", index: this.calls++, name: to });
      this.kind = "arguments";
    } else this.kind = channel === "analysis" ? "reasoning" : "content";
  }
}
