/** Classification and retrieval measured, against scikit-learn's and numpy's values. */
import { evaluation } from "aronnax";
import { describe, expect, it } from "vitest";

const scores = [
  [0.7, 0.2, 0.1],
  [0.4, 0.5, 0.1],
  [0.3, 0.3, 0.4],
  [0.1, 0.1, 0.8],
  [0.2, 0.5, 0.3],
];
const labels = [0, 0, 1, 2, 2];

describe("classification", () => {
  it("counts the rows whose class is among the best", () => {
    // sklearn.metrics.top_k_accuracy_score, of scores without equal ones
    expect(evaluation.topK(scores, labels, 1)).toBeCloseTo(0.4);
    expect(evaluation.topK(scores, labels, 2)).toBeCloseTo(0.8);
    expect(evaluation.topK(scores, labels, 3)).toBe(1);
    const flat = { data: Float32Array.from(scores.flat()), width: 3 };
    expect(evaluation.topK(flat, labels, 2)).toBeCloseTo(0.8);
  });

  it("gives no credit for equal scores of all", () => {
    expect(evaluation.topK([[1, 1, 1]], [2], 1)).toBe(0);
    expect(evaluation.topK([[Number.NaN, 1, 1]], [0], 1)).toBe(1);
  });

  it("counts confusions", () => {
    // sklearn.metrics.confusion_matrix([0, 0, 1, 2, 2], [0, 1, 2, 2, 1])
    expect(evaluation.confusionMatrix([0, 1, 2, 2, 1], labels, 3)).toEqual([
      [1, 1, 0],
      [0, 0, 1],
      [0, 1, 1],
    ]);
  });

  it("measures calibration", () => {
    // By hand with 5 bins: (0.6, 0.8] holds 0.7 and 0.8, both right; (0.2, 0.4] 0.4, wrong; (0.4, 0.6] 0.5 twice, wrong.
    const { error, bins } = evaluation.calibration(scores, labels, { bins: 5 });
    expect(error).toBeCloseTo((2 * Math.abs(0.75 - 1) + 0.4 + 2 * 0.5) / 5);
    expect(bins.map(({ count }) => count)).toEqual([0, 1, 2, 2, 0]);
    expect(bins[3]).toEqual({ count: 2, confidence: 0.75, accuracy: 1 });
  });

  it("finds pairs by their similarity", () => {
    const similarity = [
      [0.9, 0.1, 0.2],
      [0.8, 0.7, 0.1],
      [0.1, 0.9, 0.3],
    ];
    expect(evaluation.recallAtK(similarity, 1)).toBeCloseTo(1 / 3);
    expect(evaluation.recallAtK(similarity, 2)).toBe(1);
    expect(evaluation.recallAtK(similarity, 1, [0, 0, 1])).toBe(1);
  });

  it("draws what it measured", () => {
    const { data, shape } = evaluation.drawConfusion([
      [4, 0],
      [1, 3],
    ]);
    expect(shape).toEqual([49, 49, 3]);
    const pixel = (x: number, y: number) => [...data.subarray(3 * (49 * y + x), 3 * (49 * y + x) + 3)];
    expect(pixel(12, 12)).toEqual([0, 0, 245]);
    expect(pixel(36, 12)).toEqual([245, 245, 245]);
    expect(pixel(12, 36)[0]).toBe(245);
    expect(pixel(12, 36)[1]).toBeLessThan(130);
    expect(evaluation.drawCalibration(evaluation.calibration(scores, labels)).shape).toEqual([240, 240, 3]);
  });

  it("names labels outside of the classes, rows without labels, and what is no probability", () => {
    expect(() => evaluation.topK(scores, [0, 0, 1, 2, 3])).toThrow(/label 4 is 3/);
    expect(() => evaluation.topK(scores, [0])).toThrow(/1 labels for 5 rows/);
    expect(() => evaluation.calibration([[3, -2]], [0])).toThrow(/row 0 has 3/);
    expect(() => evaluation.confusionMatrix([0, 3], [0, 1], 3)).toThrow(/label 1 is 3/);
  });
});
