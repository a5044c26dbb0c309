export type {
  Batch,
  DataPosition,
  PrepareOptions,
  SourceProgress,
  TokenSource as BatchSource,
} from "../batch.js";
export {
  type ChatColumns,
  type ChatDataOptions,
  type ChatFields,
  type ChatInput,
  ChatPreview,
  ChatReport,
  type ChatRow,
  ChatSource,
  type Conversation,
  type ConversationRecord,
  chat,
  type LeftOut,
  type PairFields,
  type PairsOptions,
  pairs,
  type SequenceSize,
  type TaughtMessage,
} from "../conversations/index.js";
export { DataError } from "../errors.js";
export { permutation, Sfc32 } from "../random.js";
export { type AddTokensOptions, addTokens } from "./added-tokens.js";
export { type BpeTrainingOptions, type BpeTrainingProgress, trainBpe } from "./bpe-trainer.js";
export type { PreTokenization } from "./byte-level.js";
export { byteTokenizer, endOfText } from "./byte-tokenizer.js";
export { characterTokenizer } from "./character-tokenizer.js";
export { type ChatMessage, type ChatOptions, encodeChat, renderChat } from "./chat-template.js";
export {
  type Corpus,
  type TokenArray,
  type TokenizeOptions,
  type TokenizeProgress,
  tokenize,
} from "./corpus.js";
export { DecodeStream } from "./decode-stream.js";
export { bigramCrossEntropy, type NgramOptions, unigramCrossEntropy } from "./ngram.js";
export { type MixturePart, type PackedOptions, PackedText, packed, type Shard } from "./packed.js";
export { loadSentencePiece } from "./sentencepiece.js";
export {
  type BrokenLine,
  type BrokenLines,
  documents,
  type JsonLinesOptions,
  type JsonLinesSource,
  jsonLines,
  type TextDocument,
  type TextFileOptions,
  type TextSource,
  textFiles,
} from "./sources.js";
export { type StreamedOptions, StreamedText, streamed } from "./streamed.js";
export { arrowFiles, parquetFiles, type TableOptions } from "./table-files.js";
export type { TextInput } from "./text-input.js";
export { defaultTokenCache } from "./token-cache.js";
export {
  type DecodeOptions,
  type EncodeOptions,
  HuggingFaceTokenizer,
  loadTokenizer,
  type SpecialTokenPolicy,
  type Tokenizer,
  type TokenizerConfig,
  type TokenizerJson,
} from "./tokenizer.js";
