/** What a model's text says, piece by piece: an answer, its reasoning, calls of tools. */
export type ParsedEvent =
  | { readonly type: "content" | "reasoning"; readonly text: string }
  /** A call begins; its arguments follow as fragments of JSON text. */
  | { readonly type: "call"; readonly index: number; readonly name: string }
  | { readonly type: "arguments"; readonly index: number; readonly text: string };

/** Reads a text as it arrives. What it gives does not depend on where the text was cut. */
export interface OutputParser {
  push(text: string): ParsedEvent[];
  /** The rest, after the last piece. */
  end(): ParsedEvent[];
}

export interface ParsedCall {
  readonly name: string;
  /** JSON text, as the model wrote it. */
  readonly arguments: string;
}

export interface ParsedOutput {
  readonly content: string;
  readonly reasoning: string;
  readonly calls: readonly ParsedCall[];
}

/** The events of a whole text, put together. */
export function collectEvents(events: readonly ParsedEvent[]): ParsedOutput {
  const text = { content: "", reasoning: "" };
  const calls: { name: string; arguments: string }[] = [];
  for (const event of events) {
    if (event.type === "call") calls[event.index] = { name: event.name, arguments: "" };
    else if (event.type === "arguments") calls[event.index]!.arguments += event.text;
    else text[event.type] += event.text;
  }
  return { ...text, calls };
}
