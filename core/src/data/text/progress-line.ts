import { bar, progressLine } from "../progress-line.js";
import type { BpeTrainingProgress } from "./bpe-trainer.js";
import type { TokenizeProgress } from "./corpus.js";

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
