import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { tokenizingLine, trainingLine } from "../../../../core/src/data/text/progress-line.js";

let written: string[];
beforeEach(() => {
  written = [];
  vi.useFakeTimers({ toFake: ["performance"], now: 0 });
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    written.push(String(text));
    return true;
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const progress = { source: "corpus.txt", documents: 1, characters: 9, tokens: 1234, seconds: 3 };

describe("the line that shows progress", () => {
  test("stays away from quick work", () => {
    const show = tokenizingLine();
    vi.advanceTimersByTime(1900);
    show({ ...progress, fraction: 0.5, done: false });
    show({ ...progress, fraction: 1, done: true });
    expect(written).toEqual([]);
  });

  test("is written over at most twice a second, and ended at the end", () => {
    const show = tokenizingLine();
    for (let i = 0; i < 40; i++) {
      vi.advanceTimersByTime(100);
      show({ ...progress, fraction: i / 80, done: false });
    }
    show({ ...progress, fraction: 1, done: true });
    expect(written).toHaveLength(6);
    expect(written[0]).toBe(
      `\r${"Tokenizing corpus.txt [====            ] 23% 1,234 tokens, 10 s left".padEnd(78)}`,
    );
    expect(written[5]).toBe(`\r${"Tokenizing corpus.txt [================] 100% 1,234 tokens".padEnd(78)}\n`);
  });

  test("shows what is known of a source without a size, and of training", () => {
    const show = tokenizingLine();
    const train = trainingLine();
    vi.advanceTimersByTime(2500);
    show({ ...progress, source: "x".repeat(60), fraction: undefined, done: false });
    const training = { characters: 12_000, words: 345, vocabSize: 512, targetVocabSize: 1024, done: false };
    train({ ...training, phase: "counting" });
    vi.advanceTimersByTime(500);
    train({ ...training, phase: "merging" });
    expect(written.map((line) => line.trim())).toEqual([
      `Tokenizing ...${"x".repeat(27)} 1,234 tokens`,
      "Reading 12,000 characters, 345 words",
      "Merging [========        ] 512 of 1,024 tokens",
    ]);
  });
});
