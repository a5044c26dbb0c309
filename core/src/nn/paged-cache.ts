/** Keys and values in pages that texts of any lengths share (Kwon et al. 2023, "PagedAttention"). */
import { iota } from "../array/creation.js";
import { add, minimum } from "../array/elementwise.js";
import { scatter, take } from "../array/indexing.js";
import { expandDims, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { TokenCache } from "./cache.js";
import { Module } from "./module.js";

/** The pages of all layers, which stay on the device from step to step. */
export interface Pages {
  /** For each layer [pages, pageSize, heads, headDim]. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
}

/** Where the tokens of one step go, and what they see. */
export interface PageTable {
  /** int32 [batch]: tokens that each row holds already. */
  readonly position: Tensor;
  /** int32 [batch]: the place among its tokens of each row's last one; what follows fills the row up, and counts to no length. */
  readonly last: Tensor;
  /** int32 [batch, time]: the place `page * pageSize + offset` of each token; one beyond all pages for a token that is not kept. */
  readonly places: Tensor;
  /** int32 [batch, n]: the pages of each row in order. What is not yet filled is seen by no query. */
  readonly pages: Tensor;
}

/**
 * A cache over shared pages for one step: each row's tokens are written where its table says, and its queries see the pages of its own. Rows have
 * positions of their own, so nothing is padded on the left.
 */
export class PagedCache extends Module implements TokenCache {
  keys: Tensor[];
  values: Tensor[];
  position: Tensor;
  last: Tensor;
  places: Tensor;
  pages: Tensor;
  readonly keyStart = null;
  readonly lead = 0;

  constructor({ keys, values }: Pages, { position, last, places, pages }: PageTable) {
    super();
    this.keys = [...keys];
    this.values = [...values];
    this.position = position;
    this.last = last;
    this.places = places;
    this.pages = pages;
  }

  positions(time: number): Tensor {
    const own = minimum(expandDims(iota([time], 0), 0), expandDims(this.last, 1));
    return add(own, expandDims(this.position, 1));
  }

  append(layer: number, key: Tensor, value: Tensor): [keys: Tensor, values: Tensor] {
    this.keys[layer] = this.write(this.keys[layer]!, key);
    this.values[layer] = this.write(this.values[layer]!, value);
    return [this.read(this.keys[layer]!), this.read(this.values[layer]!)];
  }

  private write(pages: Tensor, given: Tensor): Tensor {
    const [count, size, heads, headDim] = pages.shape as [number, number, number, number];
    const flat = reshape(pages, [count * size, heads, headDim]);
    const rows = reshape(given, [-1, heads, headDim]);
    const written = scatter(flat, reshape(this.places, [-1, 1]), rows, {
      kind: "set",
      updateWindowDims: [1, 2],
      insertedWindowDims: [0],
      inputBatchingDims: [],
      scatterIndicesBatchingDims: [],
      scatterDimsToOperandDims: [0],
    });
    return reshape(written, pages.shape);
  }

  /** [batch, n * pageSize, heads, headDim]. */
  private read(pages: Tensor): Tensor {
    const [, size, heads, headDim] = pages.shape as [number, number, number, number];
    const [batch, count] = this.pages.shape as [number, number];
    return reshape(take(pages, this.pages, 0), [batch, count * size, heads, headDim]);
  }
}
