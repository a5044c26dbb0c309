/** Dropout (Srivastava et al. 2014). */
import { div, where } from "../array/elementwise.js";
import { bernoulli, foldIn, type Key, key as makeKey } from "../array/random.js";
import { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { flatten, treeNode } from "../transform/tree.js";
import { hashName, Module } from "./module.js";

/** `x` with elements replaced by zeros with probability `rate`, the others divided by 1 - rate; which ones follows from the key. */
export function dropout(x: Tensor, rate: number, key: Key | number): Tensor {
  checkRate(rate);
  return rate === 0 ? x : where(bernoulli(key, 1 - rate, x.shape), div(x, 1 - rate), 0);
}

function checkRate(rate: number): void {
  if (!(rate >= 0 && rate < 1))
    throw new ArgumentError(`dropout: the rate is ${rate}`, "give a number from 0 to below 1");
}

/**
 * Dropout as a layer, with the key that `withKeys` gave it: the Trainer gives one to each in every update, and none in a validation. Without a
 * key nothing is dropped.
 */
export class Dropout extends Module {
  readonly rate: number;
  key: Key | null = null;

  constructor(rate: number) {
    super();
    checkRate(rate);
    this.rate = rate;
  }

  forward(x: Tensor): Tensor {
    return this.key === null ? x : dropout(x, this.rate, this.key);
  }
}

/** The model with a key in each of its `Dropout` layers, which follows from `key` and the layer's path; the model itself if it has none. */
export function withKeys<M>(model: M, key: Key | number): M {
  let found = false;
  const visit = (value: unknown, path: string, change: boolean): void => {
    if (typeof value !== "object" || value === null || value instanceof Tensor || ArrayBuffer.isView(value))
      return;
    if (value instanceof Dropout) {
      found ||= value.rate > 0;
      if (change && value.rate > 0)
        value.key = foldIn(typeof key === "number" ? makeKey(key) : key, hashName(path));
      return;
    }
    const prototype: unknown = Object.getPrototypeOf(value);
    if (!(treeNode in value) && !Array.isArray(value) && prototype !== Object.prototype) return;
    for (const [name, field] of Object.entries(value))
      visit(field, path === "" ? name : `${path}.${name}`, change);
  };
  visit(model, "", false);
  if (!found) return model;
  const flat = flatten(model);
  const copy = flat.rebuild(flat.leaves) as M;
  visit(copy, "", true);
  return copy;
}

/** Stochastic depth (Huang et al. 2016): leaves out whole examples of a residual branch, along the first axis; with a key as `Dropout`. */
export class StochasticDepth extends Dropout {
  override forward(x: Tensor): Tensor {
    if (this.key === null || this.rate === 0) return x;
    const kept = bernoulli(this.key, 1 - this.rate, [x.shape[0]!, ...x.shape.slice(1).map(() => 1)]);
    return where(kept, div(x, 1 - this.rate), 0);
  }
}
