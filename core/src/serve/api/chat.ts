import type { ChatMessage } from "../../data/text/chat-template.js";
import { collectEvents, type ParsedEvent } from "../parsers/index.js";
import { constraintOf } from "./constraints.js";
import { Choice, callId, promptOf, textOf } from "./conversation.js";
import { HttpError } from "./errors.js";
import { Body, shown } from "./fields.js";
import { chatLogprobs, generate, repeated, UsageCounter } from "./generate.js";
import { generationOptions } from "./request.js";
import type { Exchange } from "./service.js";

/** `POST /v1/chat/completions` */
export async function chatCompletion(exchange: Exchange): Promise<unknown> {
  const body = Body.of(exchange.body);
  const { model, adapter } = exchange.service.find(body.required("model", body.string("model")));
  const messages = readMessages(body);
  body.unsupported("modalities");
  body.unsupported("audio");
  const n = body.integer("n", 1, 128) ?? 1;
  const streamed = body.boolean("stream") ?? false;
  const withUsage = body.object("stream_options")?.include_usage === true;
  const choice = body.fields.tool_choice;
  const tools = choice === "none" ? undefined : readTools(body);
  if (choice !== undefined && choice !== null && choice !== "auto" && choice !== "none")
    throw new HttpError(400, `tool_choice is ${shown(choice)}; only "auto" and "none" are supported.`, {
      param: "tool_choice",
    });
  const withLogprobs = body.boolean("logprobs") ?? false;
  const alternatives = body.integer("top_logprobs", 0, 20) ?? 0;
  const prompt = promptOf(model, messages, tools, body);
  const parsed = tools !== undefined || model.parser !== undefined;
  const constraint = constraintOf(body);
  const request = {
    ...generationOptions(body),
    prompt,
    adapter,
    keepSpecialTokens: parsed,
    ...(withLogprobs && { logProbabilities: alternatives }),
  };
  const requests = await repeated(
    request,
    n,
    constraint && (() => exchange.service.grammar(model, constraint)),
  );
  const head = {
    id: `chatcmpl-${exchange.id.slice(4)}`,
    created: Math.floor(Date.now() / 1000),
    model: body.fields.model,
  };
  const usage = new UsageCounter(prompt.length);
  const choices = Array.from({ length: n }, () => new Choice(model, parsed));
  const chunk = (index: number, delta: object, rest: object = {}) =>
    exchange.stream.send({
      ...head,
      object: "chat.completion.chunk",
      choices: [{ index, delta, logprobs: null, finish_reason: null, ...rest }],
      ...(withUsage && { usage: null }),
    });
  const begun = new Set<number>();
  for await (const { index, output } of generate(model, requests, exchange)) {
    usage.add(output);
    const one = choices[index]!;
    const events = one.read(output.text, output.finish);
    const logprobs = withLogprobs ? chatLogprobs(model, output.tokens) : undefined;
    if (logprobs) one.logprobs.content.push(...logprobs.content);
    if (!streamed) continue;
    if (!begun.has(index)) {
      begun.add(index);
      await chunk(index, { role: "assistant", content: "" });
    }
    const deltas = events.map((event) => delta(event, exchange.id));
    if (deltas.length === 0 && logprobs?.content.length) deltas.push({});
    for (const [at, part] of deltas.entries())
      await chunk(index, part, at === 0 && logprobs ? { logprobs } : {});
    if (one.finish !== undefined) await chunk(index, {}, { finish_reason: one.finish });
  }
  if (!streamed)
    return {
      ...head,
      object: "chat.completion",
      choices: choices.map((one, index) => ({
        index,
        message: message(one, exchange.id),
        logprobs: withLogprobs ? one.logprobs : null,
        finish_reason: one.finish,
      })),
      usage: usage.usage,
    };
  if (withUsage)
    await exchange.stream.send({ ...head, object: "chat.completion.chunk", choices: [], usage: usage.usage });
  await exchange.stream.send("[DONE]");
  return undefined;
}

function readMessages(body: Body): ChatMessage[] {
  const messages = body.required("messages", body.list("messages"));
  if (messages.length === 0)
    throw new HttpError(400, "messages is empty; give one or more.", { param: "messages" });
  return messages.map((one, at) => {
    const { role, content, ...rest } = Body.of(one).fields;
    if (typeof role !== "string")
      throw new HttpError(400, `messages[${at}].role is ${shown(role)}; it must be a string.`, {
        param: "messages",
      });
    return { ...rest, role, content: textOf(content ?? "", `messages[${at}]`) };
  });
}

function readTools(body: Body): Record<string, unknown>[] | undefined {
  const tools = body.list("tools");
  if (tools === undefined || tools.length === 0) return undefined;
  return tools.map((tool, at) => {
    const { type, function: described } = Body.of(tool).fields;
    if (type !== "function" || typeof (described as { name?: unknown } | undefined)?.name !== "string")
      throw new HttpError(400, `tools[${at}] is ${shown(tool)}; it must be a function with a name.`, {
        param: "tools",
      });
    return tool as Record<string, unknown>;
  });
}

function delta(event: ParsedEvent, id: string): object {
  switch (event.type) {
    case "content":
      return { content: event.text };
    case "reasoning":
      return { reasoning_content: event.text };
    case "call":
      return {
        tool_calls: [
          {
            index: event.index,
            id: callId(id, event.index),
            type: "function",
            function: { name: event.name, arguments: "" },
          },
        ],
      };
    case "arguments":
      return { tool_calls: [{ index: event.index, function: { arguments: event.text } }] };
  }
}

function message(choice: Choice, id: string): object {
  const { content, reasoning, calls } = collectEvents(choice.events);
  return {
    role: "assistant",
    content: content === "" && calls.length > 0 ? null : content,
    refusal: null,
    ...(reasoning !== "" && { reasoning_content: reasoning }),
    ...(calls.length > 0 && {
      tool_calls: calls.map((call, index) => ({ id: callId(id, index), type: "function", function: call })),
    }),
  };
}
