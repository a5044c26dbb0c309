/** Keys and values of tokens that a decoder has seen, so that the next token costs one position. */
import { zeros } from "../array/broadcast.js";
import { iota, scalar } from "../array/creation.js";
import { add, less, maximum, sub, where } from "../array/elementwise.js";
import { dynamicUpdateSlice } from "../array/indexing.js";
import { expandDims } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import { ShapeError } from "../graph/errors.js";
import { Module } from "./module.js";

/** Where a decoder keeps keys and values: what its layers see of any cache. */
export interface TokenCache {
  /** Tokens held: an int32 scalar, or [batch] where each row has its own number. */
  readonly position: Tensor;
  /** int32 [batch], the padding before each text; null for none. */
  readonly keyStart: Tensor | null;
  /** Positions before the padding. */
  readonly lead: number;
  /** Positions within their texts of `time` further tokens: int32 [time] or [batch, time]. */
  positions(time: number): Tensor;
  /** Keeps a layer's keys and values [batch, time, heads, headDim]; returns all that the layer's queries may see. */
  append(layer: number, key: Tensor, value: Tensor): [keys: Tensor, values: Tensor];
}

export interface CacheShape {
  readonly layers: number;
  readonly batch: number;
  /** Tokens it has room for. */
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
  readonly dtype?: DType;
  /** Integer [batch]: the number of padding tokens that each row begins with; none by default. */
  readonly keyStart?: Tensor;
  /** Positions before all texts and their padding, which every query sees. Default 0. */
  readonly lead?: number;
}

/**
 * A cache of fixed length. It is a tree, so that compiled functions take and return it; `append` and `advance` put new Tensors into its
 * fields, within one traced call.
 */
export class KeyValueCache extends Module implements TokenCache {
  /** For each layer [batch, length, heads, headDim]. */
  keys: Tensor[];
  values: Tensor[];
  /** Tokens held, int32 scalar. */
  position: Tensor;
  /** Texts of different lengths end together: int32 [batch], the padding before each, which no query sees and no position counts. */
  keyStart: Tensor | null;
  /** Positions before the padding. */
  readonly lead: number;

  constructor({ layers, batch, length, heads, headDim, dtype = "float32", keyStart, lead = 0 }: CacheShape) {
    super();
    if (keyStart !== undefined && keyStart.shape.join() !== `${batch}`)
      throw new ShapeError(`cache: keyStart [${keyStart.shape.join(", ")}] for ${batch} rows`);
    const empty = (): Tensor => zeros([batch, length, heads, headDim], { dtype });
    this.keys = Array.from({ length: layers }, empty);
    this.values = Array.from({ length: layers }, empty);
    this.position = scalar(0, "int32");
    this.keyStart = keyStart ?? null;
    this.lead = lead;
  }

  /** Positions within their texts of `time` further tokens: int32 [time], or [batch, time] where there is padding (counted as 0). */
  positions(time: number): Tensor {
    const counted = add(iota([time], 0), this.position);
    if (this.keyStart === null) return counted;
    const ofTexts = maximum(sub(counted, expandDims(this.keyStart, 1)), this.lead);
    return this.lead === 0 ? ofTexts : where(less(counted, this.lead), counted, ofTexts);
  }

  /** Writes a layer's keys and values [batch, time, heads, headDim] at `position`; returns all that the layer holds. */
  append(layer: number, key: Tensor, value: Tensor): [keys: Tensor, values: Tensor] {
    const [, time] = key.shape;
    const [, length] = this.keys[layer]!.shape;
    if (time! > length!)
      throw new ShapeError(
        `cache: ${time} tokens, and room for ${length}`,
        "make a longer cache: newCache(batch, length)",
      );
    const at = [0, this.position, 0, 0];
    const keys = dynamicUpdateSlice(this.keys[layer]!, key.astype(this.keys[layer]!.dtype), at);
    const values = dynamicUpdateSlice(this.values[layer]!, value.astype(this.values[layer]!.dtype), at);
    this.keys[layer] = keys;
    this.values[layer] = values;
    return [keys, values];
  }

  /** Counts `count` more tokens as held. What was written beyond them is overwritten by the next ones. */
  advance(count: Tensor | number): void {
    this.position = add(this.position, count);
  }
}
