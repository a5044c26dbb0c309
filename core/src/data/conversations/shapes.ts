/** The shapes in which users bring conversations, as messages: messages, ShareGPT, Alpaca, prompt and completion. */
import { refuseUnknown } from "../../graph/spelling.js";
import { DataError } from "../errors.js";
import type { ChatColumns, Conversation, ConversationRecord, TaughtMessage } from "./types.js";

type Json = Readonly<Record<string, unknown>>;

export interface ShapeOptions {
  readonly columns?: ChatColumns | ((record: Json) => ConversationRecord);
  /** Names of roles in the data by those that the template knows, beside the usual ones. */
  readonly roles?: Readonly<Record<string, string>>;
  /** Prompts and completions that are texts go through no template. */
  readonly plain?: boolean;
}

/** A record that is no conversation, and why. */
export class Malformed extends Error {}

const columnNames: readonly (keyof ChatColumns)[] = [
  "messages",
  "role",
  "content",
  "trainable",
  "tools",
  "system",
  "prompt",
  "completion",
  "instruction",
  "input",
  "output",
  "history",
];

export function checkColumns(columns: ShapeOptions["columns"]): void {
  if (columns === undefined || typeof columns === "function") return;
  if (typeof columns !== "object" || columns === null)
    throw new DataError(
      `columns is ${columns === null ? "null" : typeof columns}.`,
      "Give names of fields, or a function of a record.",
    );
  refuseUnknown("text.chat: columns has no field", Object.keys(columns), columnNames);
}

/** ShareGPT's names and others that occur. */
const usualRoles: Readonly<Record<string, string>> = {
  human: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  bot: "assistant",
  model: "assistant",
  function_call: "assistant",
  observation: "tool",
  function: "tool",
};

/** @throws Malformed where the record is no conversation */
export function conversationOf(record: Json, where: string, options: ShapeOptions): Conversation {
  if (typeof options.columns === "function") {
    const made = options.columns(record) as ConversationRecord | undefined;
    if (!Array.isArray(made?.messages)) throw new Malformed("the function `columns` returned no messages");
    return checked(messagesOf(made.messages, {}, options), made.tools, where);
  }
  const { columns = {} } = options;
  /** A named column must be there; one of the usual names may be. */
  const field = (name: keyof ChatColumns, ...usual: string[]): unknown => {
    const named = columns[name];
    if (named === undefined) return usual.map((each) => record[each]).find((x) => x !== undefined);
    if (!(named in record))
      throw new Malformed(`there is no field "${named}" (the record has: ${fieldsOf(record)})`);
    return record[named];
  };
  const tools = listOf(field("tools", "tools"), "tools") as Json[] | undefined;
  const system = textOf(field("system", "system"), "system");
  const before: TaughtMessage[] = system === undefined ? [] : [{ role: "system", content: system }];
  const list = listOf(field("messages", "messages", "conversations", "conversation"), "messages");
  if (list !== undefined) return checked([...before, ...messagesOf(list, columns, options)], tools, where);
  const [prompt, completion] = [field("prompt", "prompt"), field("completion", "completion", "response")];
  if (completion !== undefined) {
    const plain = options.plain === true && typeof prompt === "string" && typeof completion === "string";
    const messages = [
      ...before,
      ...sides(prompt, "user", "prompt", columns, options),
      ...sides(completion, "assistant", "completion", columns, options),
    ];
    return { ...checked(messages, tools, where), ...(plain && { plain }) };
  }
  const instruction = textOf(field("instruction", "instruction"), "instruction");
  const output = textOf(field("output", "output"), "output");
  if (instruction !== undefined && output !== undefined) {
    const input = textOf(field("input", "input"), "input");
    const history = (listOf(field("history", "history"), "history") ?? []).flatMap(
      (turn): TaughtMessage[] => {
        const [asked, answered] = turn as [unknown, unknown];
        if (typeof asked !== "string" || typeof answered !== "string")
          throw new Malformed("history is no list of pairs of texts");
        return [
          { role: "user", content: asked },
          { role: "assistant", content: answered },
        ];
      },
    );
    const content = input === undefined || input.trim() === "" ? instruction : `${instruction}\n${input}`;
    const messages = [
      ...before,
      ...history,
      { role: "user", content },
      { role: "assistant", content: output },
    ];
    return checked(messages, tools, where);
  }
  throw new Malformed(
    `it has neither messages, conversations, prompt and completion, nor instruction and output (it has: ${fieldsOf(record)})`,
  );
}

function fieldsOf(record: Json): string {
  return Object.keys(record).slice(0, 8).join(", ") || "nothing";
}

/** A prompt or a completion: a text, or messages. */
function sides(
  value: unknown,
  role: string,
  name: string,
  columns: ChatColumns,
  options: ShapeOptions,
): TaughtMessage[] {
  if (typeof value === "string" && !value.trimStart().startsWith("[{")) return [{ role, content: value }];
  const list = listOf(value, name);
  if (list === undefined) throw new Malformed(`${name} is missing`);
  return messagesOf(list, columns, options);
}

function messagesOf(list: readonly unknown[], columns: ChatColumns, options: ShapeOptions): TaughtMessage[] {
  return list.map((each, i): TaughtMessage => {
    if (typeof each !== "object" || each === null || Array.isArray(each))
      throw new Malformed(
        `message ${i} is ${each === null ? "null" : Array.isArray(each) ? "an array" : typeof each}, not an object`,
      );
    const message = each as Json;
    const names = {
      role: columns.role ?? ("role" in message ? "role" : "from"),
      content: columns.content ?? ("content" in message || !("value" in message) ? "content" : "value"),
      trainable: columns.trainable ?? "trainable",
    };
    const { [names.role]: role, [names.content]: content, [names.trainable]: trainable, ...rest } = message;
    if (typeof role !== "string" || role === "")
      throw new Malformed(`message ${i} has no role (it has: ${fieldsOf(message)})`);
    if (trainable !== undefined && trainable !== null && typeof trainable !== "boolean")
      throw new Malformed(`message ${i} has trainable: ${JSON.stringify(trainable)}, not true or false`);
    const known = options.roles?.[role] ?? usualRoles[role] ?? role;
    const calls = message.tool_calls;
    const called = Array.isArray(calls) && calls.length > 0;
    if (content !== undefined && content !== null && typeof content !== "string" && !Array.isArray(content))
      throw new Malformed(`message ${i} (${role}) has content that is ${typeof content}, not text`);
    const empty = typeof content === "string" ? content.trim() === "" : (content ?? []).length === 0;
    if (empty && !called) throw new Malformed(`message ${i} (${role}) is empty`);
    return {
      ...rest,
      role: known,
      content: (content ?? "") as string,
      ...(typeof trainable === "boolean" && { trainable }),
    };
  });
}

function checked(
  messages: readonly TaughtMessage[],
  tools: readonly Record<string, unknown>[] | undefined,
  where: string,
): Conversation {
  if (messages.length === 0) throw new Malformed("it has no messages");
  const systems = messages.flatMap(({ role }, i) => (role === "system" ? [i] : []));
  if (systems.length > 1)
    throw new Malformed(
      `messages ${systems[0]} and ${systems[1]} are both of the system; there is one at most`,
    );
  const odd = messages.findIndex(({ role, trainable }) => trainable === true && role !== "assistant");
  if (odd >= 0)
    throw new Malformed(
      `message ${odd} (${messages[odd]!.role}) has trainable: true, and only what the assistant says is learned`,
    );
  return { messages, where, ...(tools !== undefined && tools.length > 0 && { tools }) };
}

/** A list, or the text of one in JSON, as tables hold it. */
function listOf(value: unknown, name: string): unknown[] | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  if (Array.isArray(value)) return value;
  if (typeof value === "string") {
    try {
      const read: unknown = JSON.parse(value);
      if (Array.isArray(read)) return read;
    } catch {
      // Said below.
    }
  }
  throw new Malformed(
    `${name} is ${typeof value === "string" ? "a text that is no list in JSON" : typeof value}, not a list`,
  );
}

function textOf(value: unknown, name: string): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  if (typeof value === "string") return value;
  throw new Malformed(`${name} is ${typeof value}, not a text`);
}
