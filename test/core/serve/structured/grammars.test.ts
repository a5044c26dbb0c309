import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { byteTokenizer } from "../../../../core/src/data/text/byte-tokenizer.js";
import { type Constraint, Grammars } from "../../../../core/src/serve/structured/index.js";

const tokenizer = byteTokenizer();
const end = 256;
let grammars: Grammars;

beforeAll(async () => {
  grammars = await Grammars.create(tokenizer, 288);
});

/** A text drawn at random among what is allowed, the shorter the longer it grows. */
async function draw(constraint: Constraint, choose: (allowed: number[]) => number): Promise<string> {
  const grammar = await grammars.grammar(constraint);
  const mask = new Int32Array(9);
  const ids: number[] = [];
  try {
    while (!grammar.ended) {
      await grammar.fill(mask);
      const allowed = Array.from({ length: 288 }, (_, id) => id).filter(
        (id) => (mask[id >> 5]! >>> (id % 32)) & 1,
      );
      expect(allowed.length).toBeGreaterThan(0);
      expect(allowed.every((id) => id <= end)).toBe(true);
      const closing = [end, 34, 125, 93, 44].find((id) => allowed.includes(id));
      const id = ids.length > 60 && closing !== undefined ? closing : choose(allowed);
      grammar.accept(id);
      if (id !== end) ids.push(id);
      expect(ids.length).toBeLessThan(2000);
    }
  } finally {
    grammar.dispose();
  }
  return tokenizer.decode(ids);
}

const walk = (constraint: Constraint, check: (text: string) => void) =>
  fc.assert(
    fc.asyncProperty(fc.infiniteStream(fc.nat()), async (numbers) => {
      check(await draw(constraint, (allowed) => allowed[numbers.next().value! % allowed.length]!));
    }),
    { numRuns: 40 },
  );

describe("grammars over tokens", () => {
  it("allow only what a schema describes", async () => {
    const schema = {
      type: "object",
      properties: {
        kind: { enum: ["a", "b"] },
        count: { type: "integer" },
        tags: { type: "array", items: { type: "string" } },
      },
      required: ["kind", "count", "tags"],
      additionalProperties: false,
    };
    await walk({ type: "schema", schema }, (text) => {
      const value = JSON.parse(text);
      expect(Object.keys(value)).toEqual(["kind", "count", "tags"]);
      expect(["a", "b"]).toContain(value.kind);
      expect(Number.isInteger(value.count)).toBe(true);
      for (const tag of value.tags) expect(typeof tag).toBe("string");
    });
  });

  it("allow only what a regular expression matches, and one of the choices", async () => {
    await walk({ type: "regex", pattern: "[a-c]{2,4}-(x|yz)+[0-9]?" }, (text) =>
      expect(text).toMatch(/^[a-c]{2,4}-(x|yz)+[0-9]?$/),
    );
    const choices = ["yes", "no", 'maybe "so"'];
    await walk({ type: "choice", choices }, (text) => expect(choices).toContain(text));
  });

  it("refuse what is no constraint, and go on", async () => {
    const bad: Constraint[] = [
      { type: "schema", schema: { type: "nothing" } },
      { type: "schema", schema: { $ref: "#/nowhere" } },
      { type: "schema", schema: "text" },
      { type: "regex", pattern: "(" },
      { type: "choice", choices: [] },
      { type: "grammar", grammar: "root ::=" },
      { type: "schema", schema: { enum: Array.from({ length: 20_000 }, (_, at) => `choice ${at}`) } },
    ];
    for (const constraint of bad)
      await expect(grammars.grammar(constraint), JSON.stringify(constraint).slice(0, 80)).rejects.toThrow(
        /cannot be followed|choice|characters/,
      );
    let nested: object = {};
    for (let at = 0; at < 5000; at++) nested = { items: nested };
    await expect(grammars.grammar({ type: "schema", schema: nested })).rejects.toThrow(/nested/);
    expect(await draw({ type: "choice", choices: ["still"] }, (allowed) => allowed[0]!)).toBe("still");
  });

  it("refuse a token that was not allowed", async () => {
    const grammar = await grammars.grammar({ type: "choice", choices: ["a"] });
    expect(() => grammar.accept(98)).toThrow(/does not allow token 98/);
    grammar.dispose();
  });
});
