/** How well classes and pairs are found: accuracy, calibration, confusion, retrieval; and pictures of them for a run. */
import { ArgumentError } from "../graph/errors.js";

/** Rows of numbers: nested, or flat with their width. */
export type Rows =
  | readonly (readonly number[])[]
  | { readonly data: ArrayLike<number>; readonly width: number };

function rowsOf(
  name: string,
  scores: Rows,
): { count: number; width: number; at: (i: number, k: number) => number } {
  if ("data" in scores) {
    const { data, width } = scores;
    if (!(Number.isInteger(width) && width >= 1 && data.length % width === 0))
      throw new ArgumentError(`${name}: ${data.length} numbers in rows of ${width}`, "give whole rows");
    return { count: data.length / width, width, at: (i, k) => Number(data[i * width + k]) };
  }
  const width = scores[0]?.length ?? 0;
  return { count: scores.length, width, at: (i, k) => scores[i]![k]! };
}

function checkLabels(name: string, labels: ArrayLike<number>, count: number, classes: number): void {
  if (labels.length !== count || count === 0)
    throw new ArgumentError(
      `${name}: ${labels.length} labels for ${count} rows`,
      "give one for each row, and rows",
    );
  for (let i = 0; i < count; i++) {
    const label = Number(labels[i]);
    if (!(Number.isInteger(label) && label >= 0 && label < classes))
      throw new ArgumentError(
        `${name}: label ${i} is ${label}`,
        `there are ${classes} classes: give 0 to ${classes - 1}`,
      );
  }
}

/**
 * Share of the rows whose own class is among the k of the greatest scores; of equal scores those before it count as greater.
 *
 * @param scores - [rows, classes]: logits or probabilities
 */
export function topK(scores: Rows, labels: ArrayLike<number>, k = 1): number {
  const { count, width, at } = rowsOf("topK", scores);
  checkLabels("topK", labels, count, width);
  let right = 0;
  for (let i = 0; i < count; i++) right += Number(rankOf(at, i, Number(labels[i]), width) < k);
  return right / count;
}

function rankOf(at: (i: number, k: number) => number, i: number, own: number, width: number): number {
  const score = at(i, own);
  let rank = 0;
  for (let k = 0; k < width; k++) rank += Number(at(i, k) > score || (at(i, k) === score && k < own));
  return rank;
}

/** Counts: rows are the true classes, columns those that were found. */
export function confusionMatrix(
  found: ArrayLike<number>,
  labels: ArrayLike<number>,
  classes: number,
): number[][] {
  checkLabels("confusionMatrix", labels, found.length, classes);
  checkLabels("confusionMatrix", found, labels.length, classes);
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let i = 0; i < labels.length; i++) counts[Number(labels[i])]![Number(found[i])]!++;
  return counts;
}

export interface Calibration {
  /** Mean distance of confidence and accuracy over the bins, by their rows (Guo et al. 2017, equation 3). */
  readonly error: number;
  /** Of each bin of confidence, of equal widths: rows, mean confidence, share that is right. */
  readonly bins: readonly {
    readonly count: number;
    readonly confidence: number;
    readonly accuracy: number;
  }[];
}

/**
 * Whether the greatest probability is the share of rows that are right.
 *
 * @param probabilities - [rows, classes]
 */
export function calibration(probabilities: Rows, labels: ArrayLike<number>, { bins = 15 } = {}): Calibration {
  const { count, width, at } = rowsOf("calibration", probabilities);
  checkLabels("calibration", labels, count, width);
  const sums = Array.from({ length: bins }, () => ({ count: 0, confidence: 0, right: 0 }));
  for (let i = 0; i < count; i++) {
    let best = 0;
    for (let k = 1; k < width; k++) if (at(i, k) > at(i, best)) best = k;
    const confidence = at(i, best);
    if (!(confidence >= 0 && confidence <= 1 + 1e-6))
      throw new ArgumentError(
        `calibration: row ${i} has ${confidence}`,
        "give probabilities: softmax of the logits",
      );
    // A confidence on a border belongs to the bin below it.
    const bin = sums[Math.min(bins - 1, Math.max(0, Math.ceil(confidence * bins) - 1))]!;
    bin.count++;
    bin.confidence += confidence;
    bin.right += Number(best === Number(labels[i]));
  }
  const error = sums.reduce(
    (total, { confidence, right }) => total + Math.abs(confidence - right) / count,
    0,
  );
  return {
    error,
    bins: sums.map(({ count: n, confidence, right }) => ({
      count: n,
      confidence: n === 0 ? 0 : confidence / n,
      accuracy: n === 0 ? 0 : right / n,
    })),
  };
}

/**
 * Share of the queries that find a right one among their k best.
 *
 * @param similarity - [queries, candidates]
 * @param right - the right candidate of each query. Default that of its own number
 */
export function recallAtK(similarity: Rows, k: number, right?: ArrayLike<number>): number {
  const { count } = rowsOf("recallAtK", similarity);
  return topK(similarity, right ?? Array.from({ length: count }, (_, i) => i), k);
}

/** A picture, [height, width, 3] of bytes, for `media.image` and `training.image`. */
export interface Drawn {
  readonly data: Uint8Array;
  readonly shape: readonly [number, number, 3];
}

function canvas(
  height: number,
  width: number,
): Drawn & { fill(x: number, y: number, w: number, h: number, rgb: readonly number[]): void } {
  const data = new Uint8Array(height * width * 3).fill(255);
  return {
    data,
    shape: [height, width, 3],
    fill(x, y, w, h, rgb) {
      for (let v = Math.max(0, y); v < Math.min(height, y + h); v++)
        for (let u = Math.max(0, x); u < Math.min(width, x + w); u++) data.set(rgb, 3 * (v * width + u));
    },
  };
}

/** A confusion matrix as squares: each row by its share, the diagonal blue, errors red. */
export function drawConfusion(counts: readonly (readonly number[])[], { cell = 24 } = {}): Drawn {
  const n = counts.length;
  const drawn = canvas(n * cell + 1, n * cell + 1);
  for (const [i, row] of counts.entries()) {
    const total = row.reduce((a, b) => a + b, 0) || 1;
    for (const [k, count] of row.entries()) {
      // So that few errors are seen too.
      const share = Math.sqrt(count / total);
      const fade = Math.round(245 * (1 - share));
      drawn.fill(
        k * cell + 1,
        i * cell + 1,
        cell - 1,
        cell - 1,
        i === k ? [fade, fade, 245] : [245, fade, fade],
      );
    }
  }
  return { data: drawn.data, shape: drawn.shape };
}

/** A reliability diagram: of each bin the share that is right as a bar, and the confidence as a line. */
export function drawCalibration({ bins }: Calibration, { side = 240 } = {}): Drawn {
  const drawn = canvas(side, side);
  const width = Math.floor(side / bins.length);
  for (const [i, { count, confidence, accuracy }] of bins.entries()) {
    if (count === 0) continue;
    const height = Math.round(accuracy * (side - 1));
    drawn.fill(i * width + 1, side - height, width - 2, height, [90, 130, 230]);
    drawn.fill(i * width, side - 1 - Math.round(confidence * (side - 1)), width, 2, [220, 60, 60]);
  }
  return { data: drawn.data, shape: drawn.shape };
}
