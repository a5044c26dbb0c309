/** Scikit-learn's 1,797 handwritten digits, 8 x 8 pixels from 0 to 1 (Alpaydin & Kaynak 1998). */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const bytes = gunzipSync(readFileSync(new URL("../test/fixtures/digits/digits.gz", import.meta.url)));
const rows = Array.from({ length: bytes.length / 65 }, (_, i) => bytes.subarray(65 * i, 65 * (i + 1)));

/** For `data.arrays`: the images are [rows, channels, height, width]. */
export const digits = {
  image: {
    data: Float32Array.from(
      rows.flatMap((row) => [...row.subarray(0, 64)]),
      (grey) => grey / 16,
    ),
    shape: [rows.length, 1, 8, 8],
  },
  label: Int32Array.from(rows, (row) => row[64]!),
};
