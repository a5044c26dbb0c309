/** Positions of patches in grids of other sizes than the table's. */

import { sum } from "../../array/broadcast.js";
import { constantArray, iota } from "../../array/creation.js";
import { einsum } from "../../array/einsum.js";
import {
  abs,
  add,
  cast,
  div,
  floorDiv,
  less,
  maximum,
  mod,
  mul,
  relu,
  sub,
  where,
} from "../../array/elementwise.js";
import { slice } from "../../array/indexing.js";
import { expandDims, reshape } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";

/** [out, size]: cubic convolution with a = -0.75 between pixels' middles, edges repeated, as torch's `interpolate` without antialias. */
function bicubic(size: number, out: number): number[] {
  const a = -0.75;
  const weights = new Array<number>(out * size).fill(0);
  const near = (x: number) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x: number) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  for (let i = 0; i < out; i++) {
    const at = ((i + 0.5) * size) / out - 0.5;
    const low = Math.floor(at);
    const t = at - low;
    for (const [k, weight] of [far(t + 1), near(t), near(1 - t), far(2 - t)].entries())
      weights[i * size + Math.min(size - 1, Math.max(0, low - 1 + k))]! += weight;
  }
  return weights;
}

/** [out, size]: cubic with a = -0.5, widened by the factor of reduction, as torch's `interpolate` with antialias, and Pillow. */
function smoothBicubic(size: number, out: number): number[] {
  const scale = size / out;
  const widened = Math.max(1, scale);
  const weight = (x: number) =>
    x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
  return Array.from({ length: out }, (_, i) => {
    const middle = (i + 0.5) * scale;
    const row = Array.from({ length: size }, (_, j) => weight(Math.abs((j + 0.5 - middle) / widened)));
    const total = row.reduce((a, b) => a + b);
    return row.map((w) => w / total);
  }).flat();
}

/**
 * A table of the positions of a square grid for a grid of another size, bicubic in float32.
 *
 * @param table - [side · side, features]
 * @param antialias - as DINOv2 with registers does it. Default false
 * @returns [rows · columns, features]
 */
export function resizePositions(table: Tensor, rows: number, columns: number, antialias = false): Tensor {
  const [count, features] = table.shape as [number, number];
  const side = Math.round(Math.sqrt(count));
  if (rows === side && columns === side) return table;
  const grid = reshape(cast(table, "float32"), [side, side, features]);
  const along = (out: number): Tensor =>
    reshape(constantArray((antialias ? smoothBicubic : bicubic)(side, out)), [out, side]);
  const resized = einsum("yi,xj,ijd->yxd", along(rows), along(columns), grid);
  return cast(reshape(resized, [rows * columns, features]), table.dtype);
}

/** [batch, places, side]: a triangle as wide as a step of the finer grid, around each place of a grid of `sizes` [batch]. */
function triangles(places: Tensor, sizes: Tensor, side: number): Tensor {
  const scale = div(side, expandDims(cast(sizes, "float32"), -1));
  const middle = mul(add(cast(places, "float32"), 0.5), scale);
  const away = sub(add(iota([side], 0, { dtype: "float32" }), 0.5), expandDims(middle, -1));
  const raw = relu(sub(1, div(abs(away), expandDims(maximum(scale, 1), -1))));
  return div(raw, sum(raw, -1, { keepDims: true }));
}

/**
 * Positions for pictures of different grids in one batch (Tschannen et al. 2025, "SigLIP 2", NaFlex): bilinear with antialias. Places behind a
 * picture's last patch get its first position.
 *
 * @param table - [side · side, features]
 * @param shapes - integer [batch, 2]: rows and columns of each picture's patches
 * @param length - places of each picture
 * @returns [batch, length, features]
 */
export function flexiblePositions(table: Tensor, shapes: Tensor, length: number): Tensor {
  const [count, features] = table.shape as [number, number];
  const side = Math.round(Math.sqrt(count));
  const [rows, columns] = [slice(shapes, null, 0), slice(shapes, null, 1)];
  const order = iota([shapes.shape[0]!, length], 1, { dtype: shapes.dtype });
  const used = less(order, expandDims(mul(rows, columns), -1));
  const place = where(used, order, 0);
  const width = expandDims(columns, -1);
  const y = triangles(floorDiv(place, width), rows, side);
  const x = triangles(mod(place, width), columns, side);
  return einsum("bpi,bpj,ijd->bpd", y, x, reshape(table, [side, side, features]));
}
