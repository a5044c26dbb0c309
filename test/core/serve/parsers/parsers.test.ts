// Outputs in the forms that the families' own chat templates write and their model cards show.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  collectEvents,
  createParser,
  type ParsedOutput,
  type ParserFamily,
} from "../../../../core/src/serve/parsers/index.js";

const weather = { name: "weather", arguments: '{"city": "Paris \\"}{", "days": [1, 2]}' };
const time = { name: "time", arguments: "{}" };
const none = { content: "", reasoning: "", calls: [] };

const cases: [string, ParserFamily, string, Partial<ParsedOutput>][] = [
  ["an answer", "hermes", "A < b, <tool", { content: "A < b, <tool" }],
  [
    "reasoning and two calls",
    "hermes",
    `<think>\nHm.\n</think>\n\nSee:\n<tool_call>\n{"name": "weather", "arguments": ${weather.arguments}}\n</tool_call>\n<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>`,
    { reasoning: "Hm.", content: "See:", calls: [weather, time] },
  ],
  [
    "arguments before the name",
    "hermes",
    `<tool_call>{"arguments": ${weather.arguments}, "name": "weather"}</tool_call>`,
    { calls: [weather] },
  ],
  ["what is no call", "hermes", "<tool_call>soon</tool_call>", { content: "<tool_call>soon</tool_call>" }],
  [
    "a call cut off",
    "hermes",
    '<tool_call>{"name": "weather", "arguments": {"city": "Pa',
    { calls: [{ name: "weather", arguments: '{"city": "Pa' }] },
  ],
  ["a bare call", "llama3", `{"name": "weather", "parameters": ${weather.arguments}}`, { calls: [weather] }],
  [
    "calls by semicolons",
    "llama3",
    `<|python_tag|>{"name": "weather", "parameters": ${weather.arguments}}; {"name": "time", "parameters": {}}`,
    { calls: [weather, time] },
  ],
  ["an object that is no call", "llama3", '{"a": 1}', { content: '{"a": 1}' }],
  [
    "a list of calls",
    "mistral",
    `[TOOL_CALLS][{"name": "weather", "arguments": ${weather.arguments}}, {"name": "time", "arguments": {}}]`,
    { calls: [weather, time] },
  ],
  [
    "named calls",
    "mistral",
    `Look.[TOOL_CALLS]weather[ARGS]${weather.arguments}[TOOL_CALLS]time[ARGS]{}`,
    { content: "Look.", calls: [weather, time] },
  ],
  [
    "channels",
    "gpt-oss",
    `<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>${weather.arguments}<|call|>`,
    { reasoning: "Hm.", calls: [weather] },
  ],
  [
    "the recipient in the role",
    "gpt-oss",
    "<|start|>assistant to=functions.time<|channel|>commentary json<|message|>{}<|call|>",
    { calls: [time] },
  ],
  ["the final channel", "gpt-oss", "<|channel|>final<|message|>Yes.<|return|>", { content: "Yes." }],
  [
    "blocks of JSON",
    "deepseek",
    `<think>Hm.</think>See.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n\`\`\`json\n${weather.arguments}\n\`\`\`<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n\`\`\`json\n{}\n\`\`\`<｜tool▁call▁end｜><｜tool▁calls▁end｜>`,
    { reasoning: "Hm.", content: "See.", calls: [weather, time] },
  ],
  [
    "calls whose list was not closed",
    "deepseek",
    `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>${weather.arguments}<｜tool▁call▁end｜>`,
    { calls: [weather] },
  ],
  [
    "V3.1",
    "deepseek",
    `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>${weather.arguments}<｜tool▁call▁end｜><｜tool▁call▁begin｜>time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>`,
    { calls: [weather, time] },
  ],
];

function parse(family: ParserFamily, pieces: readonly string[]): ParsedOutput {
  const parser = createParser(family);
  return collectEvents([...pieces.flatMap((piece) => parser.push(piece)), ...parser.end()]);
}

describe("parsers of outputs", () => {
  it.each(cases)("read %s (%s)", (_, family, text, expected) => {
    expect(parse(family, [text])).toEqual({ ...none, ...expected });
    // Character by character, so every mark is cut at every place.
    expect(parse(family, [...text])).toEqual({ ...none, ...expected });
  });

  it("give the same however the text is cut, also of texts that no model should write", () => {
    const marks = [
      ...'{}[],;:"\\ \n',
      '{"name": "a", "arguments": {"b": 1}}',
      '"name": "a"',
      '"parameters": ',
      ..."<think>|</think>|<tool_call>|</tool_call>|[TOOL_CALLS]|[ARGS]|[THINK]".split("|"),
      "<|python_tag|>",
      "<|channel|>",
      "<|message|>",
      "<|end|>",
      "<|start|>",
      "analysis",
      " to=functions.f",
      "<｜tool▁calls▁begin｜>",
      "<｜tool▁call▁begin｜>",
      "function",
      "<｜tool▁sep｜>",
      "\n```json\n",
      "\n```<｜tool▁call▁end｜>",
      "<｜tool▁calls▁end｜>",
      "text",
    ];
    fc.assert(
      fc.property(
        fc.constantFrom<ParserFamily>("hermes", "llama3", "mistral", "gpt-oss", "deepseek"),
        fc.array(fc.constantFrom(...marks), { maxLength: 14 }),
        fc.array(fc.nat(8), { minLength: 1, maxLength: 20 }),
        (family, parts, lengths) => {
          const text = parts.join("");
          const pieces: string[] = [];
          for (let at = 0, turn = 0; at < text.length; turn++) {
            const length = lengths[turn % lengths.length]! + (turn % 2);
            pieces.push(text.slice(at, at + length));
            at += length;
          }
          expect(parse(family, pieces)).toEqual(parse(family, [text]));
        },
      ),
      { numRuns: 5000 },
    );
  });
});
