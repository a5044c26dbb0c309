/** How well a text that was written fits the one that was wanted. Each score is from 0 to 1. */

/** 1 where the texts are the same, but for white space around them. */
export function exactMatch(answer: string, reference: string): number {
  return answer.trim() === reference.trim() ? 1 : 0;
}

/** 1 where the texts have the same words, whatever their case, punctuation and English articles (Rajpurkar et al. 2016, "SQuAD", section 6.1). */
export function wordMatch(answer: string, reference: string): number {
  return wordsOf(answer).join(" ") === wordsOf(reference).join(" ") ? 1 : 0;
}

/** Harmonic mean of the shares of words that answer and reference have in common, under the same rules. */
export function wordF1(answer: string, reference: string): number {
  const [given, wanted] = [wordsOf(answer), wordsOf(reference)];
  if (given.length === 0 || wanted.length === 0) return given.length === wanted.length ? 1 : 0;
  const left = new Map<string, number>();
  for (const word of wanted) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of given) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    common++;
    left.set(word, count - 1);
  }
  return (2 * common) / (given.length + wanted.length);
}

function wordsOf(text: string): string[] {
  return text
    .toLowerCase()
    .replace(/\p{P}/gu, "")
    .split(/\s+/)
    .filter((word) => word !== "" && !["a", "an", "the"].includes(word));
}
