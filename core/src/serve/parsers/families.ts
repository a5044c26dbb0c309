import { ArgumentError } from "../../graph/errors.js";
import type { OutputParser } from "./events.js";
import { HarmonyParser } from "./harmony.js";
import { type TaggedFormat, TaggedParser } from "./tagged.js";

const think = { open: "<think>", close: "</think>" };

const formats = {
  /** Qwen 2.5 and 3, Hermes 2 and 3. */
  hermes: {
    reasoning: think,
    open: ["<tool_call>"],
    close: ["</tool_call>"],
    call: [{ form: "object" }],
  },
  /** Llama 3.1 to 3.3: a bare object, or one after `<|python_tag|>`; several by semicolons. */
  llama3: {
    open: ["<|python_tag|>"],
    close: ["<|eom_id|>", "<|eot_id|>"],
    call: [{ form: "object" }],
    bare: true,
  },
  /** A list after `[TOOL_CALLS]`; since the 11th tokenizer `[TOOL_CALLS]name[ARGS]{...}`. */
  mistral: {
    reasoning: { open: "[THINK]", close: "[/THINK]" },
    open: ["[TOOL_CALLS]"],
    close: [],
    call: [{ form: "object" }, { form: "named", upTo: ["[ARGS]"] }],
  },
  /** V3 and R1 (`function`, the name, a block of JSON) and V3.1 (the name, JSON). */
  deepseek: {
    reasoning: think,
    open: ["<｜tool▁call▁begin｜>function<｜tool▁sep｜>", "<｜tool▁call▁begin｜>"],
    close: ["<｜tool▁calls▁end｜>"],
    call: [{ form: "named", upTo: ["\n```json\n", "<｜tool▁sep｜>"] }],
    ignored: ["<｜tool▁calls▁begin｜>", "\n```<｜tool▁call▁end｜>", "<｜tool▁call▁end｜>"],
  },
} satisfies Record<string, TaggedFormat>;

/** How a family of models writes calls of tools and reasoning. */
export type ParserFamily = keyof typeof formats | "gpt-oss" | "none";

export const parserFamilies: readonly ParserFamily[] = [
  ...(Object.keys(formats) as (keyof typeof formats)[]),
  "gpt-oss",
  "none",
];

export interface ParserOptions {
  /** The prompt ended within the reasoning, as templates of DeepSeek R1 and QwQ do. Default false. */
  readonly reasoning?: boolean;
}

/** A parser for one text. `none` gives all of it as content. */
export function createParser(family: ParserFamily, options: ParserOptions = {}): OutputParser {
  if (family === "gpt-oss") return new HarmonyParser();
  if (family === "none")
    return {
      push: (text) => (text === "" ? [] : [{ type: "content", text }]),
      end: () => [],
    };
  const format: TaggedFormat | undefined = formats[family];
  if (format === undefined)
    throw new ArgumentError(`There is no parser ${family}`, `give one of ${parserFamilies.join(", ")}`);
  return new TaggedParser(
    options.reasoning && format.reasoning
      ? { ...format, reasoning: { ...format.reasoning, begins: true } }
      : format,
  );
}

/** The family whose marks a chat template writes. */
export function familyOfTemplate(template: string): ParserFamily {
  if (template.includes("<|channel|>")) return "gpt-oss";
  if (template.includes("<｜tool▁call")) return "deepseek";
  if (template.includes("[TOOL_CALLS]")) return "mistral";
  if (template.includes("<tool_call>")) return "hermes";
  if (template.includes("<|python_tag|>") || template.includes("<|eom_id|>")) return "llama3";
  return template.includes("<think>") ? "hermes" : "none";
}
