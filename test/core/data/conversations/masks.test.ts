/** What is learned of conversations under the stock templates of published models, as transformers has it (test/fixtures/chat/make_masks.py). */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  type ChatMessage,
  chat,
  HuggingFaceTokenizer,
  type TokenizerJson,
} from "../../../../core/src/data/text/index.js";

interface Row {
  ids: number[];
  /** A digit a token. */
  mask: string;
}

const { tokenizers, templates, cases } = JSON.parse(
  readFileSync(new URL("../../../fixtures/chat/masks.json", import.meta.url), "utf8"),
) as {
  tokenizers: Record<string, TokenizerJson>;
  templates: Record<string, { stock: string; tagged: string | null }>;
  cases: {
    family: string;
    tokenizer: string;
    bos: string;
    eos: string;
    name: string;
    messages: ChatMessage[];
    tools: Record<string, unknown>[] | null;
    tagged?: Row;
    stock: Row[];
  }[];
};

const variables = { date_string: "26 Jul 2024" };

async function rowsOf(each: (typeof cases)[number], template: string): Promise<Row[]> {
  const config = { bos_token: each.bos, eos_token: each.eos, chat_template: template };
  const tokenizer = new HuggingFaceTokenizer(tokenizers[each.tokenizer]!, config);
  const record = { messages: each.messages, ...(each.tools !== null && { tools: each.tools }) };
  const data = chat([record], { tokenizer, sequenceLength: 2048, batchSize: 1, variables });
  return (await data.rows()).map(({ ids, spans }) => {
    const mask = Array.from(ids, () => "0");
    for (const [start, end] of spans) mask.fill("1", start, end);
    return { ids: [...ids], mask: mask.join("") };
  });
}

const named = cases.map((each) => [`${each.family}, ${each.name}`, each] as const);

describe("by the template's own marks", () => {
  test.each(named.filter(([, { tagged }]) => tagged !== undefined))("%s", async (_, each) => {
    const found = await rowsOf(each, templates[each.family]!.tagged!);
    expect(found).toEqual([each.tagged]);
  });
});

describe("by what a message adds to the prompt for it", () => {
  test.each(named)("%s", async (_, each) => {
    const found = await rowsOf(each, templates[each.family]!.stock);
    const last = each.stock.at(-1)!;
    // Qwen 3 gives earlier answers without their thinking, and only the last one a place for it.
    if (each.family === "qwen3" && each.stock.length > 1) {
      expect(found).toEqual(each.stock);
      return;
    }
    expect(found).toHaveLength(1);
    expect(found[0]!.ids).toEqual(last.ids);
    // Each answer where it stands in the whole.
    const learned = each.stock.map(({ mask }) => [mask.indexOf("1"), mask.lastIndexOf("1") + 1] as const);
    const wanted = Array.from(last.mask, (_, i) =>
      learned.some(([from, to]) => i >= from && i < to) ? "1" : "0",
    );
    expect(found[0]!.mask).toBe(wanted.join(""));
  });

  test("learns the token that ends an answer, and neither its header nor what a template puts between answers", async () => {
    for (const each of cases.filter(({ name, family }) => name === "two" && family !== "qwen3")) {
      const config = {
        bos_token: each.bos,
        eos_token: each.eos,
        chat_template: templates[each.family]!.stock,
      };
      const tokenizer = new HuggingFaceTokenizer(tokenizers[each.tokenizer]!, config);
      const [row] = await chat([{ messages: each.messages }], {
        tokenizer,
        sequenceLength: 2048,
        batchSize: 1,
        variables,
      }).rows();
      const ends = new Set(tokenizer.specialTokens.values());
      expect(row!.spans, each.family).toHaveLength(2);
      for (const [start, end] of row!.spans) {
        const specials = [...row!.ids.subarray(start, end)].filter((id) => ends.has(id));
        expect(specials, each.family).toEqual([row!.ids[end - 1]]);
      }
    }
  });
});
