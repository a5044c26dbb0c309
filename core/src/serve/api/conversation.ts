/** What the endpoints of conversations share. */
import { type ChatMessage, renderChat } from "../../data/text/chat-template.js";
import { createParser, familyOfTemplate, type ParsedEvent } from "../parsers/index.js";
import { HttpError } from "./errors.js";
import { type Body, shown } from "./fields.js";
import { type ChatLogprobs, checkLength } from "./generate.js";
import type { ServedModel } from "./service.js";

/** One text of several while it is read. */
export class Choice {
  readonly events: ParsedEvent[] = [];
  readonly logprobs: ChatLogprobs = { content: [] };
  private readonly parser;
  finish: string | undefined;

  constructor(model: ServedModel, parsed: boolean) {
    const template = model.tokenizer.config.chat_template;
    const family = model.parser ?? familyOfTemplate(typeof template === "string" ? template : "");
    this.parser = createParser(parsed ? family : "none");
  }

  read(text: string, finish: string | undefined): ParsedEvent[] {
    const events = this.parser.push(text);
    if (finish !== undefined) {
      events.push(...this.parser.end());
      const called = [...this.events, ...events].some(({ type }) => type === "call");
      this.finish = finish === "stop" && called ? "tool_calls" : finish;
    }
    this.events.push(...events);
    return events;
  }
}

/** Templates of language models take text; a list of parts is joined. */
export function textOf(content: unknown, where: string): string {
  if (typeof content === "string") return content;
  if (
    Array.isArray(content) &&
    content.every((part) => part?.type === "text" && typeof part.text === "string")
  )
    return content.map((part) => part.text).join("");
  throw new HttpError(400, `${where}.content is ${shown(content)}; it must be text.`, {
    param: "messages",
  });
}

/** Tokens of a conversation, up to where the model writes. */
export function promptOf(
  model: ServedModel,
  messages: readonly ChatMessage[],
  tools: readonly Record<string, unknown>[] | undefined,
  body: Body,
): number[] {
  const text = renderChat(model.tokenizer, messages, {
    addGenerationPrompt: true,
    tools,
    variables: body.object("chat_template_kwargs"),
  });
  const prompt = [...model.tokenizer.encode(text)];
  checkLength(model, prompt, "messages");
  return prompt;
}

export function callId(id: string, index: number): string {
  return `call_${id.slice(4, 24)}${index}`;
}
