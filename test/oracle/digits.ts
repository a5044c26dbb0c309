/** Scikit-learn's handwritten digits: real images, small enough for the repository. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { type HostArray, hostArray } from "./arrays.js";

export interface Digits {
  /** Grey values from 0 to 1: float32[count, 64], rows from the top. */
  readonly images: HostArray;
  /** int32[count]. */
  readonly labels: HostArray;
}

/** The first `count` of the 1,797 digits. */
export function digits(count = 1797): Digits {
  const bytes = gunzipSync(readFileSync(new URL("../fixtures/digits/digits.gz", import.meta.url)));
  const [pixels, labels]: [number[], number[]] = [[], []];
  for (let row = 0; row < count; row++) {
    for (let i = 0; i < 64; i++) pixels.push(bytes[row * 65 + i]! / 16);
    labels.push(bytes[row * 65 + 64]!);
  }
  return { images: hostArray(pixels, "float32", [count, 64]), labels: hostArray(labels, "int32") };
}
