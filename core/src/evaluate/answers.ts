/** Language models by what they write: answers to the questions of conversations, and replies to fixed prompts. */
import type { ChatSource, Conversation } from "../data/conversations/index.js";
import { type ChatMessage, type ChatOptions, renderChat } from "../data/text/chat-template.js";
import type { HuggingFaceTokenizer, Tokenizer } from "../data/text/tokenizer.js";
import { ArgumentError } from "../graph/errors.js";
import { type CompletionOptions, complete } from "../models/llm/generate.js";
import type { LanguageModel } from "../models/llm/model.js";
import type { Module } from "../nn/module.js";
import type { TrainerCallback } from "../train/callbacks.js";
import type { HostMeasure } from "../train/config.js";
import { exactMatch } from "./scores.js";

/** A figure of an answer: usually from 0 to 1. */
export type Score = (
  answer: string,
  reference: string,
  conversation: Conversation,
) => number | Promise<number>;

/** How answers are written: by default the likeliest token each time. */
interface Writing
  extends Omit<CompletionOptions, "tokenizer" | "addSpecialTokens" | "onText" | "logProbabilities"> {
  tokenizer: Tokenizer;
  /** How the tokenizer's chat template is filled in. */
  chat?: Omit<ChatOptions, "addGenerationPrompt">;
}

export interface AnswerOptions extends Writing {
  /** Figures by name. Default `{ exact_match: exactMatch }`. */
  scores?: Readonly<Record<string, Score>>;
}

export interface Answer {
  /** The conversation up to the answer, as the model reads it. */
  readonly prompt: string;
  readonly answer: string;
  /** The last message of the assistant. */
  readonly reference: string;
  readonly scores: Readonly<Record<string, number>>;
}

export interface Answers {
  /** The mean of each score. */
  readonly scores: Readonly<Record<string, number>>;
  readonly answers: readonly Answer[];
}

/**
 * Lets a model write the last answer of each conversation, and compares it with the one that is there.
 *
 * @throws ArgumentError for a conversation without an answer at its end
 */
export async function answers(
  model: LanguageModel,
  conversations: readonly Conversation[],
  options: AnswerOptions,
): Promise<Answers> {
  const { scores = { exact_match: exactMatch }, chat, ...writing } = options;
  const tokenizer = tokenizerOf("evaluation.answers", options);
  const asked = conversations.map((conversation) => {
    const { messages, tools, where, plain } = conversation;
    const last = messages.findLastIndex(({ role }) => role === "assistant");
    const reference = messages[last]?.content;
    if (typeof reference !== "string")
      throw new ArgumentError(
        `evaluation.answers: ${where} has no answer in words`,
        "give conversations with a message of the assistant",
      );
    const before = messages.slice(0, last).map(({ trainable: _, ...message }) => message);
    const prompt = plain
      ? before.map(({ content }) => content as string).join("")
      : renderChat(tokenizer, before, { ...chat, tools: tools ?? chat?.tools, addGenerationPrompt: true });
    return { conversation, reference, prompt };
  });
  if (asked.length === 0)
    throw new ArgumentError(
      "evaluation.answers: there are no conversations",
      "hold some out: validation: 0.1",
    );
  const written = await complete(
    model,
    asked.map(({ prompt }) => prompt),
    { temperature: 0, ...writing, tokenizer, addSpecialTokens: false },
  );
  const found: Answer[] = [];
  for (const [i, { conversation, reference, prompt }] of asked.entries()) {
    const answer = written[i]!.text;
    const own: Record<string, number> = {};
    for (const [name, score] of Object.entries(scores)) {
      const value = await score(answer, reference, conversation);
      if (typeof value !== "number")
        throw new ArgumentError(
          `evaluation.answers: the score ${name} gave ${String(value)}`,
          "return a number of an answer and its reference",
        );
      own[name] = value;
    }
    found.push({ prompt, answer, reference, scores: own });
  }
  const means = Object.keys(scores).map((name) => [
    name,
    found.reduce((sum, { scores: own }) => sum + own[name]!, 0) / found.length,
  ]);
  return { scores: Object.fromEntries(means) as Record<string, number>, answers: found };
}

export interface MeasureOptions extends AnswerOptions {
  /** Conversations that are answered at most, always the same ones. Default 64. */
  limit?: number;
}

/**
 * For a Trainer's `validation.measure`: the scores of answers to the conversations that a source holds out, or to others; as the columns
 * `valid_<score>`.
 */
export function measureAnswers<M extends Module & LanguageModel, F extends object>(
  source: ChatSource | readonly Conversation[],
  { limit = 64, ...options }: MeasureOptions,
): HostMeasure<M, F> {
  tokenizerOf("evaluation.measureAnswers", options);
  if (!(Number.isInteger(limit) && limit >= 1))
    throw new ArgumentError(`evaluation.measureAnswers: limit is ${limit}`, "give a positive integer");
  return async ({ model }) => {
    const all = "validationConversations" in source ? await source.validationConversations() : source;
    return (await answers(model, all.slice(0, limit), options)).scores;
  };
}

export interface ReplyCallbackOptions extends Writing {
  /** Texts that a user says, or whole conversations to be gone on with. */
  prompts: readonly (string | readonly ChatMessage[])[];
  /** Steps from one set of replies to the next; default at each validation. The model replies at the start and the end too. */
  every?: number;
}

/** A Trainer's callback that keeps with the run what the model replies to fixed prompts: the table `replies`, and a text each. */
export function replies<M extends Module & LanguageModel>({
  prompts,
  every,
  chat,
  ...writing
}: ReplyCallbackOptions): TrainerCallback<M> {
  const tokenizer = tokenizerOf("evaluation.replies", writing as { tokenizer?: Tokenizer });
  if (!Array.isArray(prompts) || prompts.length === 0)
    throw new ArgumentError("evaluation.replies: there are no prompts", "give texts, or conversations");
  if (every !== undefined && !(Number.isInteger(every) && every >= 1))
    throw new ArgumentError(`evaluation.replies: every is ${every}`, "give a positive integer");
  const said = prompts.map((prompt) =>
    typeof prompt === "string" ? [{ role: "user", content: prompt }] : (prompt as readonly ChatMessage[]),
  );
  const texts = said.map((messages) =>
    renderChat(tokenizer, messages, { ...chat, addGenerationPrompt: true }),
  );
  let last = -1;
  const ask = async (training: Parameters<NonNullable<TrainerCallback<M>["onStep"]>>[1]): Promise<void> => {
    if (training.step === last) return;
    last = training.step;
    const written = await complete(training.model, texts, { ...writing, tokenizer, addSpecialTokens: false });
    const rows = written.map(({ text }, i) => ({ prompt: String(said[i]!.at(-1)!.content), reply: text }));
    training.table("replies", rows);
    for (const { prompt, reply } of rows) training.sample(prompt.replace(/\s+/g, " ").slice(0, 60), reply);
  };
  return {
    onStart: (training) => ask(training),
    ...(every === undefined
      ? { onValidation: (_, training) => ask(training) }
      : {
          onStep: ({ step }, training) => (step % every === 0 ? ask(training) : undefined),
          onEnd: ({ status }, training) => (status === "finished" ? ask(training) : undefined),
        }),
  };
}

function tokenizerOf(where: string, options: { tokenizer?: Tokenizer } | undefined): HuggingFaceTokenizer {
  if (typeof options?.tokenizer?.encode !== "function")
    throw new ArgumentError(`${where}: there is no tokenizer`, "pass { tokenizer }");
  return options.tokenizer as HuggingFaceTokenizer;
}
