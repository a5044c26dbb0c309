import type { ChatMessage } from "../text/chat-template.js";

/** A conversation as it is taught: messages in their order, and the tools that the model is offered. */
export interface Conversation {
  readonly messages: readonly TaughtMessage[];
  /** Descriptions of functions, as JSON Schema. */
  readonly tools?: readonly Record<string, unknown>[];
  /** Names it in errors: a file and its line or row, or a record's number. */
  readonly where: string;
  /** The message does not go through a template: the last message follows the first, and the end of text follows it. */
  readonly plain?: boolean;
}

export interface TaughtMessage extends ChatMessage {
  /** False: the message is context only. Default true for what the assistant says. */
  readonly trainable?: boolean;
}

/**
 * Where the parts of a conversation stand in a record: names of its fields. What is not named has the usual names (`messages` or `conversations`,
 * `role` or `from`, `content` or `value`, `tools`, `system`, `prompt`, `completion`, `instruction`, `input`, `output`, `history`).
 */
export interface ChatColumns {
  messages?: string;
  /** Of a message. */
  role?: string;
  content?: string;
  trainable?: string;
  tools?: string;
  system?: string;
  prompt?: string;
  completion?: string;
  instruction?: string;
  input?: string;
  output?: string;
  history?: string;
}

/** What a function makes of a record: messages, and what else a conversation has. */
export interface ConversationRecord {
  readonly messages: readonly TaughtMessage[];
  readonly tools?: readonly Record<string, unknown>[];
}

/** A row of tokens: a whole conversation, or what of one a template gives at a time. */
export interface ChatRow {
  readonly ids: Int32Array;
  /** Ranges of tokens that are learned, start and end, ascending. */
  readonly spans: readonly (readonly [start: number, end: number])[];
  /** Its number among the conversations that were read, from 0. */
  readonly conversation: number;
  readonly where: string;
}

/** Tokens that are learned, except the first, which nothing comes before. */
export function supervisedTokens({ spans }: Pick<ChatRow, "spans">): number {
  return spans.reduce((sum, [start, end]) => sum + end - Math.max(1, start), 0);
}
