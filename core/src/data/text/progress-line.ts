import type { BpeTrainingProgress } from "./bpe-trainer.js";
import type { TokenizeProgress } from "./corpus.js";

const quietSeconds = 2;
const width = 78;

/**
 * Shows progress on one line of the standard output that is written over, in a cell as in a terminal. Work of less than
 * two seconds shows nothing.
 */
function progressLine<T extends { done: boolean }>(describe: (progress: T) => string): (progress: T) => void {
  const started = performance.now();
  let shown = false;
  let last = Number.NEGATIVE_INFINITY;
  return (progress) => {
    const now = performance.now();
    const { done } = progress;
    if (done ? !shown : now - started < 1000 * quietSeconds || now - last < 500) return;
    last = now;
    shown = true;
    process.stdout.write(`\r${describe(progress).slice(0, width).padEnd(width)}${done ? "\n" : ""}`);
  };
}

export function tokenizingLine(): (progress: TokenizeProgress) => void {
  return progressLine<TokenizeProgress>(({ source, fraction, tokens, seconds, done }) => {
    const name = source.length > 30 ? `...${source.slice(-27)}` : source;
    const part = fraction === undefined ? "" : ` ${bar(fraction)} ${Math.floor(100 * fraction)}%`;
    const left = !done && fraction ? `, ${Math.ceil((seconds * (1 - fraction)) / fraction)} s left` : "";
    return `Tokenizing ${name}${part} ${tokens.toLocaleString("en")} tokens${left}`;
  });
}

export function trainingLine(): (progress: BpeTrainingProgress) => void {
  return progressLine<BpeTrainingProgress>(({ phase, characters, words, vocabSize, targetVocabSize }) => {
    if (phase === "counting")
      return `Reading ${characters.toLocaleString("en")} characters, ${words.toLocaleString("en")} words`;
    const part = vocabSize / targetVocabSize;
    return `Merging ${bar(part)} ${vocabSize.toLocaleString("en")} of ${targetVocabSize.toLocaleString("en")} tokens`;
  });
}

function bar(fraction: number): string {
  const filled = Math.round(16 * Math.min(1, fraction));
  return `[${"=".repeat(filled)}${" ".repeat(16 - filled)}]`;
}
