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
  return render(findTemplate(tokenizer, options.template), tokenizer, messages, options);
}

/** A rendered conversation, and what of it the template marks as the model's own. */
export interface MarkedChat {
  readonly text: string;
  /** Parts of the text, start and end, that stood in `{% generation %}` blocks. */
  readonly spans: readonly (readonly [start: number, end: number])[];
}

/** Noncharacters: text that is meant to be exchanged has none (Unicode 16, section 23.7). */
const [opening, closing] = ["\uFDD0", "\uFDD1"];

/** Whether a template says by `{% generation %}` what the model writes. */
export function marksGeneration(tokenizer: HuggingFaceTokenizer, template?: string): boolean {
  return /\{%[-+]?\s*generation\s*[-+]?%\}/.test(findTemplate(tokenizer, template));
}

/** `renderChat` with the spans of the template's `{% generation %}` blocks; none where it has no such blocks. */
export function renderMarked(
  tokenizer: HuggingFaceTokenizer,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): MarkedChat {
  const source = findTemplate(tokenizer, options.template);
  if (JSON.stringify(messages).match(/[\uFDD0\uFDD1]/) !== null)
    throw new DataError(
      "A message has the noncharacter U+FDD0 or U+FDD1, by which spans are marked.",
      "Leave it out: it is no character of any script.",
    );
  const marked = render(withMarks(source), tokenizer, messages, options);
  const spans: [number, number][] = [];
  let text = "";
  let start: number | undefined;
  for (const piece of marked.split(/([\uFDD0\uFDD1])/)) {
    if (piece === opening) start = text.length;
    else if (piece === closing) {
      if (start !== undefined && text.length > start) spans.push([start, text.length]);
      start = undefined;
    } else text += piece;
  }
  return { text, spans };
}

/**
 * The template with an expression in the place of each `generation` tag. The tag is a block for the rules of white space (transformers renders with
 * `trim_blocks` and `lstrip_blocks`), and an expression is none, so those are carried out here.
 */
function withMarks(source: string): string {
  const tag = /(^[ \t]*)?\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}(\n)?/gm;
  return source.replace(tag, (_, indent = "", before, end, after, newline = "") => {
    const mark = `{{${before === "-" ? "-" : ""} "${end === undefined ? opening : closing}" ${after === "-" ? "-" : ""}}}`;
    return `${before === "+" ? indent : ""}${mark}${after === "+" ? newline : ""}`;
  });
}

/** Parsed templates, the newest last: a data set renders one thousands of times. */
const parsed = new Map<string, Template>();

function templateOf(source: string): Template {
  let template = parsed.get(source);
  if (template === undefined) {
    template = new Template(source);
    if (parsed.size >= 16) parsed.delete(parsed.keys().next().value!);
    parsed.set(source, template);
  }
  return template;
}

function render(
  source: string,
  tokenizer: HuggingFaceTokenizer,
  messages: readonly ChatMessage[],
  options: ChatOptions,
): string {
  const named: Record<string, unknown> = {};
  for (const key of ["bos_token", "eos_token", "pad_token", "unk_token"]) {
    const token = tokenizer.config[key];
    if (token !== null && token !== undefined)
      named[key] = typeof token === "object" ? (token as { content: string }).content : token;
  }
  try {
    return templateOf(source).render({
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
  if (typeof tokenizer?.config !== "object")
    throw new DataError(
      "The tokenizer is none that has a chat template.",
      "Open one with text.loadTokenizer(folder), or make it with text.trainBpe.",
    );
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
