/** Which tokens of a conversation are learned. */
import { DataError } from "../errors.js";
import { type ChatOptions, marksGeneration, renderChat, renderMarked } from "../text/chat-template.js";
import type { HuggingFaceTokenizer } from "../text/tokenizer.js";
import { Malformed } from "./shapes.js";
import type { ChatRow, Conversation, TaughtMessage } from "./types.js";

export interface SuperviseOptions extends Pick<ChatOptions, "template" | "variables"> {
  readonly tokenizer: HuggingFaceTokenizer;
  /** What is done where the template gives earlier messages another form than they had in their turn. */
  readonly history: "rows" | "refuse";
  /** Tools that a conversation without tools of its own is offered. */
  readonly tools?: readonly Record<string, unknown>[];
}

/** A text with the parts of it that are learned. */
interface Taught {
  readonly text: string;
  readonly spans: readonly (readonly [start: number, end: number])[];
}

/**
 * The rows of a conversation: one, or where the template changes what came before (as Qwen 3's drops earlier thinking) one for each of the assistant's
 * messages, each as the model sees it when it is to write that message.
 *
 * @throws Malformed where no token is learned, or the template refuses
 */
export function rowsOf(
  conversation: Conversation,
  number: number,
  options: SuperviseOptions,
): readonly ChatRow[] {
  const { where } = conversation;
  const taught = conversation.plain ? [plainly(conversation, options)] : taughtTexts(conversation, options);
  return taught.map(({ text, spans }) => ({
    ...tokensOf(text, spans, options.tokenizer),
    conversation: number,
    where,
  }));
}

/** A prompt and its completion, one after the other, and the end of text. */
function plainly({ messages }: Conversation, { tokenizer }: SuperviseOptions): Taught {
  const prompt = messages.filter(({ role }) => role !== "assistant").map(({ content }) => content as string);
  const completion = messages.at(-1)!.content as string;
  const end = tokenizer.eosId === undefined ? undefined : tokenizer.tokenOf(tokenizer.eosId);
  if (end === undefined)
    throw new DataError(
      "The tokenizer has no token that ends a text.",
      "Name it `eos_token` in its configuration.",
    );
  const text = `${prompt.join("")}${completion}${end}`;
  return { text, spans: [[text.length - completion.length - end.length, text.length]] };
}

function taughtTexts({ messages, tools }: Conversation, options: SuperviseOptions): Taught[] {
  const { tokenizer, template, variables } = options;
  const chat = { template, variables, tools: tools ?? options.tools };
  const sent = messages.map(({ trainable: _, ...message }) => message);
  const assistants = messages.flatMap(({ role }, i) => (role === "assistant" ? [i] : []));
  const learned = assistants.filter((i) => messages[i]!.trainable !== false);
  if (learned.length === 0)
    throw new Malformed(
      assistants.length === 0
        ? "it has no message of the assistant, and so no token to learn"
        : "all messages of the assistant have trainable: false, so that there is no token to learn",
    );
  const turnOf = marksGeneration(tokenizer, template)
    ? markedTurn(sent, tokenizer, chat)
    : inferredTurn(sent, tokenizer, chat);
  const last = learned.at(-1)!;
  // What comes after the last message that is learned cannot be seen from it.
  const whole = refusals(() => renderMarked(tokenizer, sent.slice(0, last + 1), chat)).text;
  const turns = learned.map((i) => turnOf(i));
  const changed = turns.findIndex(({ text, core }) => !whole.startsWith(text.slice(0, core)));
  if (changed < 0) {
    const spans = turns.flatMap(({ text, spans: own, core }) => {
      const same = commonLength(text, whole);
      // What only closes a conversation is not there in the midst of one.
      return own
        .map(([start, end]) => [start, end <= same ? end : core] as const)
        .filter(([start, end]) => end > start);
    });
    return [{ text: whole, spans }];
  }
  if (options.history === "refuse")
    throw new Malformed(
      `the template gives message ${learned[changed]} another form once more messages follow, so that no one text has all that is learned`,
    );
  return turns;
}

function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}

/** A conversation up to one of the assistant's messages. */
interface Turn extends Taught {
  /** Where the text ends that must stay as it is when more messages follow: the template may close a conversation otherwise than a message. */
  readonly core: number;
}

type Render = (index: number) => Turn;

function refusals<T>(render: () => T): T {
  try {
    return render();
  } catch (error) {
    if (error instanceof DataError && error.message.startsWith("The chat template refused"))
      throw new Malformed(error.message.replace(/^The chat/, "the chat"));
    throw error;
  }
}

/** What `{% generation %}` blocks hold of a message: those after the messages before it. */
function markedTurn(
  messages: readonly TaughtMessage[],
  tokenizer: HuggingFaceTokenizer,
  chat: ChatOptions,
): Render {
  const closing = closingOf(tokenizer);
  return (index) => {
    const until = (count: number) => refusals(() => renderMarked(tokenizer, messages.slice(0, count), chat));
    const earlier = messages.slice(0, index).some(({ role }) => role === "assistant");
    const skipped = earlier ? until(index).spans.length : 0;
    const { text, spans } = until(index + 1);
    const own = spans.slice(skipped);
    if (own.length === 0)
      throw new Malformed(
        `the template marks nothing of message ${index} as the model's own, so that no token of it is learned`,
      );
    return { text, spans: own, core: text.length - closing.tailOf(text).length };
  };
}

/**
 * What rendering a message adds to the prompt for it, up to and with the token that ends it. The prompt's own end, the header of the message, is
 * given to the model when it writes.
 */
function inferredTurn(
  messages: readonly TaughtMessage[],
  tokenizer: HuggingFaceTokenizer,
  chat: ChatOptions,
): Render {
  const closing = closingOf(tokenizer);
  return (index) => {
    const asked = refusals(() =>
      renderChat(tokenizer, messages.slice(0, index), { ...chat, addGenerationPrompt: true }),
    );
    const text = refusals(() => renderChat(tokenizer, messages.slice(0, index + 1), chat));
    if (!text.startsWith(asked)) {
      throw new Malformed(
        `the template does not begin message ${index} with the prompt for it, so that what is learned of it is not known (mark it with {% generation %} in the template)`,
      );
    }
    const start = asked.length;
    const tail = closing.tailOf(text.slice(start));
    const core = text.length - tail.length;
    const stop = core + closing.endOf(tail);
    return { text, spans: [[start, stop]], core };
  };
}

/** What may stand after the last word of a text: white space and special tokens. */
interface Closing {
  tailOf(text: string): string;
  /** Where the first special token of a tail ends; its own end where it has none. */
  endOf(tail: string): number;
}

function closingOf(tokenizer: HuggingFaceTokenizer): Closing {
  const specials = [...tokenizer.specialTokens.keys()].filter((token) => token !== "");
  const escaped = specials.map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  const tail = new RegExp(specials.length === 0 ? "\\s+$" : `(?:\\s|${escaped})+$`);
  const special = specials.length === 0 ? undefined : new RegExp(escaped);
  return {
    tailOf: (text) => tail.exec(text)?.[0] ?? "",
    endOf(text) {
      const found = special?.exec(text);
      return found === null || found === undefined ? text.length : found.index + found[0].length;
    },
  };
}

/** The tokens of a text, and the ranges of those that hold any of the given parts. */
function tokensOf(
  text: string,
  spans: Taught["spans"],
  tokenizer: HuggingFaceTokenizer,
): Pick<ChatRow, "ids" | "spans"> {
  const ids = tokenizer.encode(text);
  const borders = spans.flat();
  const places =
    bySplitting(text, borders, ids, tokenizer) ??
    borders.map((at, i) => {
      const before = tokensBefore(text, at, ids, tokenizer);
      // A token over a border belongs to the part that it reaches into.
      return i % 2 === 0 ? before.whole : before.begun;
    });
  return {
    ids,
    spans: spans
      .map((_, i) => [places[2 * i]!, places[2 * i + 1]!] as const)
      .filter(([start, end]) => end > start),
  };
}

/** Places of borders where the parts between them have the same tokens by themselves, as they mostly have. */
function bySplitting(
  text: string,
  borders: readonly number[],
  ids: Int32Array,
  tokenizer: HuggingFaceTokenizer,
): number[] | undefined {
  const places: number[] = [];
  let [from, count] = [0, 0];
  for (const border of [...borders, text.length]) {
    if (border > from) {
      const part = tokenizer.encode(text.slice(from, border));
      for (const id of part) if (ids[count++] !== id) return undefined;
    }
    places.push(count);
    from = border;
  }
  return count === ids.length ? places.slice(0, -1) : undefined;
}

/** Tokens that end at or before a place of the text, and those that begin before it. */
function tokensBefore(
  text: string,
  at: number,
  ids: Int32Array,
  tokenizer: HuggingFaceTokenizer,
): { whole: number; begun: number } {
  const alone = tokenizer.encode(text.slice(0, at));
  let same = 0;
  while (same < alone.length && alone[same] === ids[same]) same++;
  if (same === alone.length) return { whole: same, begun: same };
  // The tokens around the border are others than without what comes after it.
  const from = Math.max(0, same - 4);
  const length = (tokens: Int32Array) => tokenizer.decode(tokens).length;
  const wanted = length(alone.subarray(from));
  let whole = same;
  while (whole < ids.length && length(ids.subarray(from, whole + 1)) <= wanted) whole++;
  const ends = length(ids.subarray(from, whole)) >= wanted;
  return { whole, begun: ends ? whole : whole + 1 };
}
