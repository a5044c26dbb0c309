import { Template } from "@huggingface/jinja";
import { DataError } from "../errors.js";
import type { HuggingFaceTokenizer } from "./tokenizer.js";

export interface ChatMessage {
  /** Usually `"system"`, `"user"`, `"assistant"` or `"tool"`; the template decides. */
  role: string;
  content: string | readonly Record<string, unknown>[];
  [field: string]: unknown;
}

export interface ChatOptions {
  /** Ends with the start of an assistant message, for the model to write it. Default false. */
  addGenerationPrompt?: boolean;
  /** Descriptions of functions, as JSON Schema, for templates that offer them to the model. */
  tools?: readonly Record<string, unknown>[];
  /** A template, or the name of one of the tokenizer's. Default: the tokenizer's own. */
  template?: string;
  /** Further variables of the template, for example `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/** The text of a conversation in the form that a model was trained on, by the Jinja template of its tokenizer. */
export function renderChat(
  tokenizer: HuggingFaceTokenizer,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): string {
  const source = findTemplate(tokenizer, options.template);
  const named: Record<string, unknown> = {};
  for (const key of ["bos_token", "eos_token", "pad_token", "unk_token"]) {
    const token = tokenizer.config[key];
    if (token !== null && token !== undefined)
      named[key] = typeof token === "object" ? (token as { content: string }).content : token;
  }
  try {
    return new Template(source).render({
      ...named,
      messages,
      add_generation_prompt: options.addGenerationPrompt ?? false,
      ...(options.tools && { tools: options.tools }),
      ...options.variables,
    });
  } catch (error) {
    throw new DataError(
      `The chat template refused the conversation: ${(error as Error).message}`,
      undefined,
      { cause: error },
    );
  }
}

/** The token ids of a conversation. The template writes all special tokens itself. */
export function encodeChat(
  tokenizer: HuggingFaceTokenizer,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): Int32Array {
  return tokenizer.encode(renderChat(tokenizer, messages, options));
}

function findTemplate(tokenizer: HuggingFaceTokenizer, wanted: string | undefined): string {
  if (wanted !== undefined && /[{}\n]/.test(wanted)) return wanted;
  const own = tokenizer.config.chat_template;
  // Either one template, or a list of named ones.
  const named = new Map<string, string>(
    Array.isArray(own)
      ? own.map(({ name, template }: { name: string; template: string }) => [name, template])
      : typeof own === "string"
        ? [["default", own]]
        : [],
  );
  const found = named.get(wanted ?? "default");
  if (found !== undefined) return found;
  throw new DataError(
    wanted === undefined
      ? "The tokenizer has no chat template."
      : `The tokenizer has no chat template named "${wanted}".`,
    `It has: ${[...named.keys()].join(", ") || "none"}. Pass \`template\`, or use the tokenizer of a chat model.`,
  );
}
