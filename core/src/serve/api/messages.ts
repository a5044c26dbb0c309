/** Anthropic's form of a conversation. */
import type { ChatMessage } from "../../data/text/chat-template.js";
import { collectEvents, type ParsedEvent } from "../parsers/index.js";
import { Choice, callId, promptOf, textOf } from "./conversation.js";
import { HttpError } from "./errors.js";
import { Body, shown } from "./fields.js";
import { generate, UsageCounter } from "./generate.js";
import { generationOptions } from "./request.js";
import type { Exchange } from "./service.js";

interface Block {
  readonly type?: unknown;
  readonly [field: string]: unknown;
}

/** `POST /v1/messages` */
export async function message(exchange: Exchange): Promise<unknown> {
  const { body, model, adapter, prompt, parsed } = conversation(exchange);
  body.required("max_tokens", body.integer("max_tokens", 1));
  const streamed = body.boolean("stream") ?? false;
  const request = {
    ...generationOptions(new Body({ ...body.fields, stop: body.list("stop_sequences") })),
    prompt,
    adapter,
    keepSpecialTokens: parsed,
  };
  const usage = new UsageCounter(prompt.length);
  const choice = new Choice(model, parsed);
  const head = {
    id: `msg_${exchange.id.slice(4)}`,
    type: "message",
    role: "assistant",
    model: body.fields.model,
  };
  const usedInput = () => ({
    input_tokens: prompt.length - usage.usage.prompt_tokens_details.cached_tokens,
    cache_read_input_tokens: usage.usage.prompt_tokens_details.cached_tokens,
    cache_creation_input_tokens: 0,
  });
  const blocks = new Blocks(exchange);
  let begun = false;
  let stopped: string | null = null;
  for await (const { output } of generate(model, [request], exchange)) {
    usage.add(output);
    const events = choice.read(output.text, output.finish);
    if (typeof output.stoppedBy === "string") stopped = output.stoppedBy;
    if (!streamed) continue;
    if (!begun)
      await exchange.stream.send(
        {
          type: "message_start",
          message: {
            ...head,
            content: [],
            stop_reason: null,
            stop_sequence: null,
            usage: { ...usedInput(), output_tokens: 0 },
          },
        },
        "message_start",
      );
    begun = true;
    for (const event of events) await blocks.send(event);
  }
  const end = {
    stop_reason: stopReason(choice.finish, stopped),
    stop_sequence: choice.finish === "stop" ? stopped : null,
  };
  const used = { ...usedInput(), output_tokens: usage.usage.completion_tokens };
  if (!streamed) return { ...head, content: contentOf(choice, exchange.id), ...end, usage: used };
  await blocks.end();
  await exchange.stream.send({ type: "message_delta", delta: end, usage: used }, "message_delta");
  await exchange.stream.send({ type: "message_stop" }, "message_stop");
  return undefined;
}

/** `POST /v1/messages/count_tokens` */
export function countTokens(exchange: Exchange) {
  return { input_tokens: conversation(exchange).prompt.length };
}

function conversation(exchange: Exchange) {
  const body = Body.of(exchange.body);
  const { model, adapter } = exchange.service.find(body.required("model", body.string("model")));
  const choice = body.object("tool_choice");
  if (choice !== undefined && choice.type !== "auto" && choice.type !== "none")
    throw new HttpError(400, `tool_choice is ${shown(choice)}; only auto and none are supported.`, {
      param: "tool_choice",
    });
  const given = choice?.type === "none" ? [] : (body.list("tools") ?? []);
  const tools = given.map((tool, at) => {
    const { name, description, input_schema } = Body.of(tool).fields;
    if (typeof name !== "string" || typeof input_schema !== "object")
      throw new HttpError(400, `tools[${at}] is ${shown(tool)}; it must have a name and an input_schema.`, {
        param: "tools",
      });
    return { type: "function", function: { name, description, parameters: input_schema } };
  });
  const messages = readMessages(body);
  const prompt = promptOf(model, messages, tools.length === 0 ? undefined : tools, body);
  return { body, model, adapter, prompt, parsed: tools.length > 0 || model.parser !== undefined };
}

/** In the form that chat templates take. */
function readMessages(body: Body): ChatMessage[] {
  const given = body.required("messages", body.list("messages"));
  if (given.length === 0)
    throw new HttpError(400, "messages is empty; give one or more.", { param: "messages" });
  const { system } = body.fields;
  const first: ChatMessage[] =
    system === undefined || system === null ? [] : [{ role: "system", content: textOf(system, "system") }];
  return [...first, ...given.flatMap((one, at) => readMessage(Body.of(one).fields, `messages[${at}]`))];
}

function readMessage({ role, content }: Readonly<Record<string, unknown>>, where: string): ChatMessage[] {
  if (role !== "user" && role !== "assistant")
    throw new HttpError(400, `${where}.role is ${shown(role)}; it must be user or assistant.`, {
      param: "messages",
    });
  if (!Array.isArray(content)) return [{ role, content: textOf(content, where) }];
  const blocks = content as Block[];
  const of = (type: string) => blocks.filter((block) => block?.type === type);
  const known = role === "user" ? ["text", "tool_result"] : ["text", "tool_use", "thinking"];
  const other = blocks.find((block) => !known.includes(String(block?.type)));
  if (other !== undefined)
    throw new HttpError(400, `${where}.content has ${shown(other)}; it may have ${known.join(", ")}.`, {
      param: "messages",
    });
  const results = of("tool_result").map((block) => ({
    role: "tool",
    tool_call_id: block.tool_use_id,
    content: textOf(block.content ?? "", where),
  }));
  const calls = of("tool_use").map(({ id, name, input }) => ({
    id,
    type: "function",
    function: { name, arguments: input },
  }));
  const text = textOf(of("text"), where);
  const rest =
    text === "" && calls.length === 0 && results.length > 0
      ? []
      : [{ role, content: text, ...(calls.length > 0 && { tool_calls: calls }) }];
  return [...results, ...rest];
}

function stopReason(finish: string | undefined, stopped: string | null): string {
  if (finish === "tool_calls") return "tool_use";
  if (finish === "length") return "max_tokens";
  return stopped === null ? "end_turn" : "stop_sequence";
}

function contentOf(choice: Choice, id: string): object[] {
  const { content, reasoning, calls } = collectEvents(choice.events);
  return [
    ...(reasoning === "" ? [] : [{ type: "thinking", thinking: reasoning, signature: "" }]),
    ...(content === "" ? [] : [{ type: "text", text: content, citations: null }]),
    ...calls.map((call, index) => ({
      type: "tool_use",
      id: callId(id, index),
      name: call.name,
      input: argumentsOf(call.arguments),
    })),
  ];
}

/** What a model wrote as arguments; cut off or wrong JSON has no form here but text. */
function argumentsOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return { arguments: text };
  }
}

/** Events of a stream: blocks, one after another. */
class Blocks {
  private index = -1;
  private open: string | undefined;

  constructor(private readonly exchange: Exchange) {}

  async send(event: ParsedEvent): Promise<void> {
    switch (event.type) {
      case "content":
        await this.begin("text", { type: "text", text: "", citations: null });
        return this.delta({ type: "text_delta", text: event.text });
      case "reasoning":
        await this.begin("thinking", { type: "thinking", thinking: "", signature: "" });
        return this.delta({ type: "thinking_delta", thinking: event.text });
      case "call": {
        const id = callId(this.exchange.id, event.index);
        return this.begin(id, { type: "tool_use", id, name: event.name, input: {} });
      }
      case "arguments":
        return this.delta({ type: "input_json_delta", partial_json: event.text });
    }
  }

  async end(): Promise<void> {
    if (this.open === undefined) return;
    this.open = undefined;
    await this.write({ type: "content_block_stop", index: this.index });
  }

  private async begin(name: string, block: object): Promise<void> {
    if (this.open === name) return;
    await this.end();
    this.open = name;
    this.index++;
    await this.write({ type: "content_block_start", index: this.index, content_block: block });
  }

  private delta(delta: object): Promise<void> {
    return this.write({ type: "content_block_delta", index: this.index, delta });
  }

  private write(event: { type: string; [field: string]: unknown }): Promise<void> {
    return this.exchange.stream.send(event, event.type);
  }
}
