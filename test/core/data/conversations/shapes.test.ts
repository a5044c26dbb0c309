/** Conversations as users bring them, good and bad. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  byteTokenizer,
  type ChatDataOptions,
  type ChatInput,
  chat,
  HuggingFaceTokenizer,
} from "../../../../core/src/data/text/index.js";

const fixtures = fileURLToPath(new URL("../../../fixtures/conversations/", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-shapes-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string, content: string | Uint8Array) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};

const template =
  "{% if tools %}[{{ tools | length }} tools]{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}" +
  "{% if m.tool_calls %}!{{ m.tool_calls[0].function.name }}{% endif %}" +
  "{% if m.role == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
const tokenizer = new HuggingFaceTokenizer(byteTokenizer().toJSON(), {
  eos_token: "<|endoftext|>",
  chat_template: template,
});

const open = (input: ChatInput, options: Partial<ChatDataOptions> = {}) =>
  chat(input, { tokenizer, sequenceLength: 512, batchSize: 1, ...options });

/** Each row with what is learned between ⟦ and ⟧. */
async function shown(input: ChatInput, options: Partial<ChatDataOptions> = {}): Promise<string[]> {
  const data = open(input, options);
  const count = (await data.rows()).length;
  const rows = [];
  for (let i = 0; i < count; i++)
    rows.push(
      String(await data.preview(i))
        .split("\n")
        .slice(1)
        .join("\n"),
    );
  return rows;
}

const wanted = [
  "<user>Where is the whale?<assistant>⟦There she blows!<|endoftext|>⟧",
  '<system>Be brief, "very".\nVery.<user>鯨?<assistant>⟦Aye.<|endoftext|>⟧<user>And?<assistant>⟦No,\nsir.<|endoftext|>⟧',
  "<user>one, two<assistant>⟦three<|endoftext|>⟧",
];

describe("shapes", () => {
  test.each([
    "messages.jsonl",
    "messages.json",
    "messages.csv",
    "messages.parquet",
    "messages.arrow",
    "sharegpt.json",
  ])("%s", async (name) => {
    expect(await shown(join(fixtures, name))).toEqual(wanted);
  });

  test("Alpaca, with history, input and system", async () => {
    // The instruction and the input are two lines.
    expect(await shown(join(fixtures, "alpaca.tsv"))).toEqual([
      wanted[0],
      wanted[1],
      wanted[2]!.replace("one, two", "one,\ntwo"),
    ]);
  });

  test("a column map, with roles of its own", async () => {
    const columns = { messages: "turns", role: "speaker", content: "said" };
    expect(await shown(join(fixtures, "odd.parquet"), { columns })).toEqual(wanted);
    const records = [{ ask: "a", answer: "b", who: "x" }];
    expect(await shown(records, { columns: { prompt: "ask", completion: "answer" } })).toEqual([
      "<user>a<assistant>⟦b<|endoftext|>⟧",
    ]);
    const turns = [
      {
        messages: [
          { role: "kid", content: "a" },
          { role: "sage", content: "b" },
        ],
      },
    ];
    expect(await shown(turns, { roles: { kid: "user", sage: "assistant" } })).toEqual([
      "<user>a<assistant>⟦b<|endoftext|>⟧",
    ]);
    const made = (record: Readonly<Record<string, unknown>>) => ({
      messages: [
        { role: "user", content: String(record.ask) },
        { role: "assistant", content: String(record.answer) },
      ],
    });
    expect(await shown(records, { columns: made })).toEqual(["<user>a<assistant>⟦b<|endoftext|>⟧"]);
    await expect(open(records, { columns: { messages: "talk" } }).prepare()).rejects.toThrow(
      'record 0: there is no field "talk" (the record has: ask, answer, who)',
    );
    expect(() => open(records, { columns: { promt: "ask" } as never })).toThrow(/columns has no field promt/);
  });

  test("several files, also compressed, and JSON lines with blank ones", async () => {
    const line = (q: string) => `${JSON.stringify({ prompt: q, completion: "b" })}\n\n`;
    const files = [file("a.jsonl", line("1") + line("2")), file("b.jsonl.gz", gzipSync(line("3")))];
    expect(await shown(files)).toEqual(["1", "2", "3"].map((q) => `<user>${q}<assistant>⟦b<|endoftext|>⟧`));
  });

  test("tools of a conversation, or for all; calls, answers of tools, and messages that are not learned", async () => {
    const tools = [{ type: "function", function: { name: "look" } }];
    const messages = [
      { role: "user", content: "?" },
      { role: "assistant", content: "", tool_calls: [{ function: { name: "look", arguments: {} } }] },
      { role: "tool", content: "spout" },
      { role: "assistant", content: "There.", trainable: false },
      { role: "user", content: "!" },
      { role: "assistant", content: "Aye." },
    ];
    const text =
      "<user>?<assistant>⟦!look<|endoftext|>⟧<tool>spout<assistant>There.<|endoftext|><user>!<assistant>⟦Aye.<|endoftext|>⟧";
    expect(await shown([{ messages, tools }, { messages }])).toEqual([`[1 tools]${text}`, text]);
    expect(await shown([{ messages }], { tools })).toEqual([`[1 tools]${text}`]);
    expect(await shown([{ messages, tools: JSON.stringify(tools) }])).toEqual([`[1 tools]${text}`]);
  });

  test("prompts and completions without a template", async () => {
    const bare = byteTokenizer();
    expect(await shown([{ prompt: "ab", completion: " cd" }], { plain: true, tokenizer: bare })).toEqual([
      "ab⟦ cd<|endoftext|>⟧",
    ]);
  });

  test("the end of what is learned is where messages go on that are not", async () => {
    const messages = [
      { role: "user", content: "a" },
      { role: "assistant", content: "b" },
      { role: "user", content: "c" },
    ];
    expect(await shown([{ messages }])).toEqual(["<user>a<assistant>⟦b<|endoftext|>⟧"]);
  });
});

describe("a template that changes what came before", () => {
  // Drops what stands before a "|" of all messages but the last, as Qwen 3 drops thinking.
  const forgetful = template.replace(
    "{{ m.content }}",
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('|')[-1] }}{% else %}{{ m.content }}{% endif %}",
  );
  const messages = [
    { role: "user", content: "q" },
    { role: "assistant", content: "hm|a" },
    { role: "user", content: "r" },
    { role: "assistant", content: "ho|b" },
  ];

  test("gives a row for each answer, or is refused by choice", async () => {
    const options = { template: forgetful };
    expect(await shown([{ messages }], options)).toEqual([
      "<user>q<assistant>⟦hm|a<|endoftext|>⟧",
      "<user>q<assistant>a<|endoftext|><user>r<assistant>⟦ho|b<|endoftext|>⟧",
    ]);
    expect(String(await open([{ messages }], options).report())).toContain("1 conversations in 2 rows");
    await expect(open([{ messages }], { ...options, history: "refuse" }).prepare()).rejects.toThrow(
      /record 0: the template gives message 1 another form/,
    );
    // One answer has no history of answers.
    expect(await shown([{ messages: messages.slice(0, 2) }], { ...options, history: "refuse" })).toHaveLength(
      1,
    );
  });
});

describe("bad input", () => {
  const good = { prompt: "a", completion: "b" };
  const q = { role: "user", content: "q" };
  const a = { role: "assistant", content: "a" };

  test.each([
    ["a missing role", { messages: [q, { content: "a" }] }, "message 1 has no role (it has: content)"],
    [
      "an empty turn",
      { messages: [q, { role: "assistant", content: " \n" }] },
      "message 1 (assistant) is empty",
    ],
    ["an empty question", { messages: [{ role: "user", content: "" }, a] }, "message 0 (user) is empty"],
    [
      "two system turns",
      { messages: [{ role: "system", content: "x" }, q, { role: "system", content: "y" }, a] },
      "messages 0 and 2 are both of the system; there is one at most",
    ],
    ["no answer", { messages: [q] }, "it has no message of the assistant, and so no token to learn"],
    [
      "nothing to learn",
      { messages: [q, { ...a, trainable: false }] },
      "all messages of the assistant have trainable: false",
    ],
    [
      "a question to learn",
      { messages: [{ ...q, trainable: true }, a] },
      "message 0 (user) has trainable: true",
    ],
    ["trainable of no sense", { messages: [q, { ...a, trainable: "no" }] }, 'trainable: "no"'],
    ["no messages", { messages: [] }, "it has no messages"],
    ["messages that are no list", { messages: "hello" }, "messages is a text that is no list in JSON"],
    ["a message that is a text", { messages: ["hello"] }, "message 0 is string, not an object"],
    [
      "numbers as content",
      { messages: [{ role: "user", content: 4 }, a] },
      "content that is number, not text",
    ],
    ["another shape", { question: "a", answer: "b" }, "it has neither messages, conversations, prompt"],
    ["a record that is none", [1], "the record is an array, not an object"],
  ])("%s is refused with its number, or left out and counted", async (_, record, message) => {
    const data = [good, record as object, good];
    await expect(open(data).prepare()).rejects.toThrow(`record 1: `);
    await expect(open(data).prepare()).rejects.toThrow(message);
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    const skipping = open(data, { broken: "skip" });
    const { conversations, skipped } = await skipping.report();
    expect(conversations).toBe(2);
    expect(skipped).toHaveLength(1);
    expect(skipped[0]!.where).toBe("record 1");
    expect(skipped[0]!.reason).toContain(message);
    expect(warned.mock.calls.flat().join()).toContain("1 left out as broken (record 1: ");
    warned.mockRestore();
  });

  test("broken lines and files are named", async () => {
    const lines = `${JSON.stringify(good)}\n{"prompt": \n${JSON.stringify(good)}\n`;
    const broken = file("broken.jsonl", lines);
    await expect(open(broken).prepare()).rejects.toThrow(`${broken}, line 2: not valid JSON`);
    await expect(open(broken).prepare()).rejects.toMatchObject({
      fix: expect.stringContaining('broken: "skip"'),
    });
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    expect((await open(broken, { broken: "skip" }).report()).conversations).toBe(2);
    warned.mockRestore();
    await expect(open(file("broken.json", "[{")).prepare()).rejects.toThrow(/broken.json is not valid JSON/);
    await expect(open(file("none.json", '{"a": 1}')).prepare()).rejects.toThrow(/holds no list of records/);
    await expect(open(file("torn.csv", 'prompt,completion\n"a,b\n')).prepare()).rejects.toThrow(
      /cannot be read as CSV/,
    );
    await expect(open(file("latin.jsonl", Buffer.from([0x22, 0xe9, 0x22]))).prepare()).rejects.toThrow(
      /line 1: the line is not UTF-8/,
    );
    await expect(open(file("talk.txt", "hello")).prepare()).rejects.toThrow(
      /of no kind that conversations are read/,
    );
    await expect(open(join(folder, "missing.jsonl")).prepare()).rejects.toThrow(
      /missing.jsonl cannot be read/,
    );
    await expect(open(file("torn.parquet", "PAR1")).prepare()).rejects.toThrow(/cannot be read as Parquet/);
    await expect(open([]).prepare()).rejects.toThrow(/no conversation to train on/);
    await expect(open(7 as never).prepare()).rejects.toThrow(/A source of conversations is number/);
  });

  test("a template that refuses, and a tokenizer without one", async () => {
    const strict =
      "{% if messages[0].role == 'system' %}{{ raise_exception('No system here.') }}{% endif %}{{ messages[-1].content }}";
    const data = [{ messages: [{ role: "system", content: "x" }, q, a] }];
    await expect(open(data, { template: strict }).prepare()).rejects.toThrow(
      "record 0: the chat template refused the conversation: No system here.",
    );
    await expect(open([good], { tokenizer: byteTokenizer() }).prepare()).rejects.toThrow(
      "The tokenizer has no chat template.",
    );
    await expect(
      open([good], {
        template: "{{ messages[0].content }}{% if add_generation_prompt %}?{% endif %}",
      }).prepare(),
    ).rejects.toThrow(/does not begin message 1 with the prompt for it/);
    await expect(
      open([good], { template: "{{ messages[0].content }}{% generation %}{% endgeneration %}" }).prepare(),
    ).rejects.toThrow(/marks nothing of message 1/);
    const hostile = { prompt: "\uFDD0", completion: "b" };
    await expect(
      open([hostile], { template: `{% generation %}x{% endgeneration %}` }).prepare(),
    ).rejects.toThrow(/noncharacter/);
  });

  test("conversations that are too long are refused, left out or cut, by choice", async () => {
    const long = { prompt: "a", completion: "b".repeat(40) };
    const asked = { prompt: "c".repeat(60), completion: "d" };
    const data = [good, long, asked];
    await expect(open(data, { sequenceLength: 40 }).prepare()).rejects.toThrow(
      /record 1: 59 tokens, where at most 41 fit \(2 of 3 rows are too long, the longest has 79\)/,
    );
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    const dropping = await open(data, { sequenceLength: 40, tooLong: "drop" }).report();
    expect([dropping.conversations, dropping.dropped.map(({ where }) => where)]).toEqual([
      1,
      ["record 1", "record 2"],
    ]);
    const cutting = open(data, { sequenceLength: 40, tooLong: "cut" });
    const report = await cutting.report();
    expect([report.conversations, report.cut, report.dropped]).toEqual([
      2,
      [{ where: "record 1", reason: "59 tokens" }],
      [{ where: "record 2", reason: "79 tokens, none of the first 41 to learn" }],
    ]);
    expect(warned.mock.calls.flat().join("\n")).toContain("1 cut (record 1: 59 tokens)");
    warned.mockRestore();
    expect(String(await cutting.preview(1))).toContain(`<assistant>⟦${"b".repeat(23)}⟧`);
  });

  test("options of no sense", () => {
    expect(() => open([good], { sequenceLength: 0 })).toThrow("sequenceLength is 0.");
    expect(() => open([good], { packing: "tight" as never })).toThrow('packing is "tight".');
    expect(() => open([good], { batchsize: 1 } as never)).toThrow(/no option batchsize/);
    expect(() => open([good], { buckets: { count: 3 } })).toThrow(
      /buckets are of sequences that are not packed/,
    );
    expect(() => open([good], { packing: "none", buckets: { bounds: [600] } })).toThrow(
      "A bucket's bound is 600.",
    );
    expect(() => open([good], { shard: { rank: 2, count: 2 } })).toThrow(/rank below a count/);
    expect(() => chat([good], {} as never)).toThrow("there is no tokenizer");
  });
});

describe("layouts", () => {
  const talks = Array.from({ length: 40 }, (_, i) => ({
    prompt: `${i}`.padStart(1 + ((i * 7) % 23), "?"),
    completion: `${i}`.padStart(1 + ((i * 5) % 11), "!"),
  }));

  beforeAll(() => {
    expect(talks).toHaveLength(40);
  });

  /** The rows of a batch, from its arrays alone: each as ids with what is learned after it. */
  function rowsIn(batch: Awaited<ReturnType<ReturnType<typeof open>["next"]>>): string[] {
    const { inputs, targets, segments, positions, sequenceLength: length } = batch;
    const found: string[] = [];
    for (let row = 0; row < batch.batchSize; row++) {
      let text: number[] = [];
      for (let i = 0; i < length; i++) {
        const at = row * length + i;
        const segment = segments?.[at];
        text.push(inputs[at]!);
        if (targets[at] !== -100)
          expect(targets[at]).toBe(
            inputs[at + 1] !== 0 && i + 1 < length && segments?.[at + 1] === segment && inputs[at + 1]! > 0
              ? inputs[at + 1]
              : 256,
          );
        if (positions !== undefined && segment !== 0) expect(positions[at]).toBe(text.length - 1);
        const ends = i + 1 === length || (segments !== undefined && segments[at + 1] !== segment);
        if (!ends) continue;
        const decoded = tokenizer.decode(text.filter((id) => id > 0));
        if (decoded !== "") found.push(decoded);
        text = [];
      }
    }
    return found;
  }

  test.each(["best-fit", "none"] as const)(
    "%s: every conversation once an epoch, whole, and no target across a border",
    async (packing) => {
      const data = open(talks, { packing, sequenceLength: 100, batchSize: 3 });
      const { sequences } = await data.report();
      const shapes = JSON.stringify(await data.shapes());
      const wantedRows = talks
        .map(({ prompt, completion }) => `<user>${prompt}<assistant>${completion}`)
        .sort();
      const seen: string[] = [];
      let learned = 0;
      // Whole epochs of both layouts: of packed sequences those of three batches that end together.
      const batches = packing === "none" ? undefined : sequences;
      for (let i = 0; i < (batches ?? 200); i++) {
        if (batches === undefined && data.progress()[0]!.epochs >= 3) break;
        const batch = await data.next();
        expect(shapes).toContain(`[3,${batch.sequenceLength}]`);
        seen.push(...rowsIn(batch));
        const counted = batch.targets.filter((id) => id !== -100).length;
        expect(batch.counts!.supervised).toBe(counted);
        learned += counted;
        if (batch.supervised !== undefined) {
          const capacity = batch.supervised.length / 3;
          const places = [...batch.supervised].map(
            (at, k) => Math.floor(k / capacity) * batch.sequenceLength + at,
          );
          // Ascending in each row and so each once, with all that count.
          expect(places).toEqual([...new Set(places)].sort((x, y) => x - y));
          expect(places.filter((k) => batch.targets[k] !== -100)).toEqual(
            [...batch.targets.keys()].filter((k) => batch.targets[k] !== -100),
          );
        }
      }
      expect(seen.sort()).toEqual([...wantedRows, ...wantedRows, ...wantedRows].sort());
      expect(learned).toBe(3 * (await data.report()).supervised);
    },
  );

  test("buckets leave few places empty, and packing fewer", async () => {
    const filled = async (options: Partial<ChatDataOptions>) => {
      const { tokens, rows, places } = await open(talks, {
        sequenceLength: 100,
        batchSize: 2,
        ...options,
      }).report();
      return (tokens - rows) / places;
    };
    const one = await filled({ packing: "none", buckets: { bounds: [100] } });
    expect(await filled({ packing: "none" })).toBeGreaterThan(0.85);
    expect(await filled({})).toBeGreaterThan(0.9);
    expect(one).toBeLessThan(0.5);
  });

  test("shares of ranks are rows of the common batch, and a position is found again", async () => {
    for (const packing of ["best-fit", "none"] as const) {
      const common = { packing, sequenceLength: 100, seed: 3 };
      const whole = open(talks, { ...common, batchSize: 2 });
      const first = await whole.next();
      const position = whole.position();
      const next = await whole.next();
      const again = open(talks, { ...common, batchSize: 2 });
      await again.restore(position);
      expect((await again.next()).inputs).toEqual(next.inputs);
      const ranks = [0, 1].map((rank) => open(talks, { ...common, batchSize: 1, shard: { rank, count: 2 } }));
      const parts = await Promise.all(ranks.map((each) => each.next()));
      expect(parts.flatMap(({ inputs }) => [...inputs])).toEqual([...first.inputs]);
      await expect(open(talks, { ...common, batchSize: 2, seed: 4 }).restore(position)).rejects.toThrow(
        /belongs to other data/,
      );
    }
  });

  test("a share of the conversations is held out, or others are given", async () => {
    const data = open(talks, { validation: 0.2, batchSize: 2, sequenceLength: 100 });
    const held = await data.validationConversations();
    expect(held).toHaveLength(8);
    expect((await data.conversations()).length).toBe(32);
    const seen: string[] = [];
    for await (const batch of data.validation()) seen.push(...rowsIn(batch as never));
    expect(seen.sort()).toEqual(
      held.map(({ messages: [x, y] }) => `<user>${x!.content}<assistant>${y!.content}`).sort(),
    );
    const given = open(talks.slice(0, 30), { validation: talks.slice(30), batchSize: 2, packing: "none" });
    expect((await given.validationConversations()).map(({ where }) => where)).toHaveLength(10);
    expect((await given.report()).conversations).toBe(30);
  });
});

describe("preview", () => {
  test("shows in a cell what is learned in colour, escaped, and in text between brackets", async () => {
    const data = open([{ prompt: "<b>&\n", completion: "é" }]);
    const shownRow = (await data.preview(0)) as unknown as Record<symbol, () => Record<string, string>>;
    const bundle = shownRow[Symbol.for("Jupyter.display")]!();
    expect(bundle["text/plain"]).toBe(
      "record 0: 25 tokens, 3 learned\n<user><b>&\n<assistant>⟦é<|endoftext|>⟧",
    );
    expect(bundle["text/html"]).not.toContain("<b>");
    const green = [...bundle["text/html"]!.matchAll(/<span style="background: rgba\(46[^>]*>([^<]*)</g)].map(
      ([, text]) => text,
    );
    expect(green).toEqual(["é", "&lt;|endoftext|&gt;"]);
    expect(String(await data.preview({ prompt: "x", completion: "y" }))).toContain(
      "<user>x<assistant>⟦y<|endoftext|>⟧",
    );
    await expect(data.preview(4)).rejects.toThrow("There is no row 4.");
    await expect(data.preview({ a: 1 })).rejects.toThrow(/the record: it has neither/);
  });
});
