import "../../support/runtime.js";
import { readFileSync } from "node:fs";
import { llm, tensor } from "aronnax";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nextTokens, samplingOf } from "../../../core/src/models/llm/sampling.js";
import { StopStrings } from "../../../core/src/models/llm/stop-strings.js";

interface Reference {
  logits: number[][];
  texts: number[][];
  cases: { options: llm.SamplingOptions; filtered: (number | null)[][] }[];
}

const reference = (
  JSON.parse(readFileSync(new URL("../../fixtures/generation/reference.json", import.meta.url), "utf8")) as {
    filters: Reference;
  }
).filters;

const logits = tensor(reference.logits);
const seen = tensor(reference.texts.map((text) => seenIn(text, logits.shape[1]!)));

function seenIn(text: readonly number[], vocabSize: number): boolean[] {
  return Array.from({ length: vocabSize }, (_, id) => text.includes(id));
}

describe("filters", () => {
  it.each(reference.cases)("leave what transformers leaves: $options", async ({ options, filtered }) => {
    const ours = (await llm.filteredLogits(logits, samplingOf(options), seen).array()) as number[][];
    for (const [i, row] of ours.entries()) {
      for (const [id, x] of row.entries()) {
        const expected = filtered[i]![id]!;
        if (expected === null) expect(x).toBe(Number.NEGATIVE_INFINITY);
        else expect(Math.abs(x - expected)).toBeLessThan(2e-5);
      }
    }
  });
});

describe("topP among tokens that are as likely", () => {
  const ties = JSON.parse(
    readFileSync(new URL("../../fixtures/generation/ties.json", import.meta.url), "utf8"),
  ) as { logits: number[]; topP: number; left: boolean[] }[];

  it("leaves the fewest, those that transformers leaves", async () => {
    for (const { logits: row, topP, left } of ties) {
      const [ours] = (await llm
        .filteredLogits(tensor([row], { dtype: "float32" }), samplingOf({ topP }))
        .array()) as number[][];
      expect(
        ours!.map((x) => x > Number.NEGATIVE_INFINITY),
        JSON.stringify({ row, topP }),
      ).toEqual(left);
    }
  });
});

describe("drawing", () => {
  it("follows the probabilities of what is left", async () => {
    const options = { temperature: 0.8, topK: 4 };
    const sampling = samplingOf(options);
    const draws = 4000;
    const row = tensor(Array.from({ length: draws }, () => reference.logits[0]!));
    const rows = tensor(Int32Array.from({ length: draws }, (_, i) => i));
    const key = tensor(Uint32Array.of(0, 7));
    const ids = Array.from(
      await nextTokens(row, sampling, { key, rows, step: tensor(3, { dtype: "int32" }) }).data(),
      Number,
    );
    const [expected] = (await llm
      .filteredLogits(row.slice([0, 1]), sampling)
      .softmax()
      .array()) as [number[]];
    for (const [id, p] of expected.entries()) {
      const share = ids.filter((drawn) => drawn === id).length / draws;
      expect(Math.abs(share - p)).toBeLessThanOrEqual(4 * Math.sqrt((p * (1 - p)) / draws));
    }
  });

  it("depends on key, row number and step, not on the rows beside it", async () => {
    const key = tensor(Uint32Array.of(0, 7));
    const draw = async (rows: number[], step: number): Promise<number[]> => {
      const x = tensor(rows.map(() => reference.logits[1]!));
      const drawn = nextTokens(x, samplingOf({ temperature: 3 }), {
        key,
        rows: tensor(Int32Array.from(rows)),
        step: tensor(step, { dtype: "int32" }),
      });
      return Array.from(await drawn.data(), Number);
    };
    const many = Array.from({ length: 12 }, (_, i) => i);
    const together = await draw(many, 5);
    expect(await draw([4, 9], 5)).toEqual([together[4], together[9]]);
    expect(new Set(together).size).toBeGreaterThan(1);
    expect(await draw(many, 6)).not.toEqual(together);
  });

  it("leaves out the end of a padded vocabulary", async () => {
    const x = tensor([[1, 2, 3, 4]]);
    const draw = {
      key: tensor(Uint32Array.of(0, 0)),
      rows: tensor([0], { dtype: "int32" }),
      step: tensor(0, { dtype: "int32" }),
    };
    expect(await nextTokens(x, {}, draw, { vocabulary: 3 }).array()).toEqual([2]);
    expect(await nextTokens(x, {}, draw).array()).toEqual([3]);
  });
});

describe("options", () => {
  it.each([
    [{ temperature: -1 }, /temperature is -1/],
    [{ topK: 0 }, /topK is 0/],
    [{ topP: 0 }, /topP is 0/],
    [{ minP: 2 }, /minP is 2/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty is 0/],
    [{ temperature: Number.NaN }, /temperature is NaN/],
  ])("%o are refused", (options, message) => {
    expect(() => samplingOf(options)).toThrow(message);
  });
});

describe("stop strings", () => {
  // A small alphabet, so that stops are met, overlap and share beginnings.
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 });

  it("let through exactly what comes before the first one, as early as it is certain", () => {
    fc.assert(
      fc.property(
        fc.array(word, { maxLength: 12 }),
        fc.array(word, { minLength: 1, maxLength: 3 }),
        (pieces, stops) => {
          const filter = new StopStrings(stops);
          const text = pieces.join("");
          // Letter by letter: the first beginning of the text that ends in a stop string.
          const starts = Array.from({ length: text.length + 1 }, (_, end) => text.slice(0, end));
          const met = starts.find((start) => stops.some((stop) => start.endsWith(stop)));
          const longest = Math.max(...stops.filter((stop) => met?.endsWith(stop)).map((stop) => stop.length));
          let shown = "";
          let read = "";
          for (const piece of pieces) {
            read += piece;
            shown += filter.push(piece);
            if (filter.stopped) break;
            // Held back is at most what could begin a stop string.
            const held = read.slice(shown.length);
            expect(held === "" || stops.some((stop) => stop.startsWith(held) && stop !== held)).toBe(true);
          }
          expect(filter.stopped).toBe(met !== undefined);
          expect(shown + filter.end()).toBe(met === undefined ? text : met.slice(0, -longest));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("must not be empty", () => {
    expect(() => new StopStrings([""])).toThrow(/stop holds ""/);
  });
});
