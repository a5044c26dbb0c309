import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  byteTokenizer,
  type ChatMessage,
  encodeChat,
  HuggingFaceTokenizer,
  loadTokenizer,
  renderChat,
} from "../../../../core/src/data/text/index.js";

interface Reference {
  templates: Record<string, string>;
  cases: {
    template: string;
    messages: ChatMessage[];
    addGenerationPrompt: boolean;
    tools: Record<string, unknown>[] | null;
    variables: Record<string, unknown>;
    text?: string;
    error?: string;
  }[];
}

// Made by test/fixtures/chat/make.py with Jinja2.
const { templates, cases } = JSON.parse(
  readFileSync(new URL("../../../fixtures/chat/reference.json", import.meta.url), "utf8"),
) as Reference;

const named = Object.entries(templates).map(([name, template]) => ({ name, template }));
const tokenizer = new HuggingFaceTokenizer(byteTokenizer().toJSON(), {
  bos_token: { content: "<s>", special: true },
  eos_token: "</s>",
  chat_template: named,
});

describe("chat templates", () => {
  test.each(cases.map((each, i) => [`${each.template} ${i}`, each] as const))(
    "render as Jinja2 does: %s",
    (_, each) => {
      const render = () => renderChat(tokenizer, each.messages, { ...each, tools: each.tools ?? undefined });
      if (each.error === undefined) expect(render()).toBe(each.text);
      else expect(render).toThrow(`The chat template refused the conversation: ${each.error}`);
    },
  );

  test("give ids in which special tokens are themselves", () => {
    const template = "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}";
    const ids = encodeChat(tokenizer, [{ role: "user", content: "ab" }], { template });
    expect(Array.from(ids)).toEqual([97, 98, 256]);
  });

  test("come from tokenizer_config.json or chat_template.jinja, and are kept when saving", async () => {
    const folder = await mkdtemp(join(tmpdir(), "aronnax-chat-"));
    try {
      const messages = [{ role: "user", content: "hi" }];
      await new HuggingFaceTokenizer(tokenizer.toJSON(), { chat_template: templates.marks }).save(folder);
      expect(renderChat(await loadTokenizer(folder), messages)).toBe("<|user|>\nhi<|end|>\n");
      await writeFile(join(folder, "chat_template.jinja"), "{{ messages[0].content }}!");
      expect(renderChat(await loadTokenizer(folder), messages)).toBe("hi!");
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("that are missing or broken are named", () => {
    const messages = [{ role: "user", content: "hi" }];
    expect(() => renderChat(byteTokenizer(), messages)).toThrow("The tokenizer has no chat template.");
    expect(() => renderChat(tokenizer, messages, { template: "rag" })).toThrow(
      /no chat template named "rag"/,
    );
    expect(() => renderChat(tokenizer, messages, { template: "{% if %}" })).toThrow(/chat template/);
  });
});
