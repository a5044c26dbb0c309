export type { ChatFields, SequenceSize } from "./layout.js";
export { type PairFields, type PairsOptions, pairs } from "./pairs.js";
export { ChatPreview } from "./preview.js";
export type { ChatInput } from "./records.js";
export { ChatReport, type LeftOut } from "./report.js";
export { type ChatDataOptions, ChatSource, chat } from "./source.js";
export type { ChatColumns, ChatRow, Conversation, ConversationRecord, TaughtMessage } from "./types.js";
