/** Tensors: immutable array expressions whose shape and type are known at once and whose data are computed when asked for. */
import type { DType } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { type Shape, Value } from "../graph/node.js";
import { fetch, materialize } from "./evaluate.js";
import { decode, type Nested, nest, type TypedArray } from "./hostdata.js";

/**
 * An array expression. Operations (see methods.ts) return new Tensors and run nothing; `data()`, `item()`, `array()` compute.
 *
 * A Tensor is not thenable: `await x` gives `x`.
 */
export class Tensor extends Value {
  /**
   * The elements in row-major order. float16, bfloat16 and float8 come as Float32Array, bool as Uint8Array, complex64 as interleaved
   * Float32Array, 64-bit integers as BigInt arrays.
   */
  async data(): Promise<TypedArray> {
    materialize([this]);
    return decode(await fetch(this), this.dtype);
  }

  /** The one element as a number. Throws for Tensors of another size than 1. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ArgumentError(
        `item() of a tensor of shape [${this.shape}]`,
        "reduce it to one element, or use data()",
      );
    }
    return Number((await this.data())[0]);
  }

  /** The elements as nested arrays of numbers (booleans for bool). */
  async array(): Promise<Nested> {
    return nest(await this.data(), this.shape, this.dtype);
  }

  /** Queues the computation; resolves when it is done, rejects if it failed. */
  async wait(): Promise<this> {
    materialize([this]);
    await this.buffer?.runtime.sync([this.buffer]);
    return this;
  }

  /** Frees the device memory now; any later use is an error. */
  dispose(): void {
    this.buffer?.free();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  override toString(): string {
    return `Tensor ${this.dtype}[${this.shape.join(", ")}]`;
  }

  /** A table with shape, type and device, for notebooks. */
  async [Symbol.for("Jupyter.display")](): Promise<Record<string, unknown>> {
    return { "text/plain": await format(this) };
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

export type { DType, Nested, Shape, TypedArray };

/** The numbers of a tensor as people read them: rows of columns, long axes abbreviated. */
async function format(tensor: Tensor): Promise<string> {
  const limit = 100_000;
  if (tensor.size > limit) return `${tensor} (${tensor.size.toLocaleString("en")} elements)`;
  const data = await tensor.data();
  const device = tensor.buffer?.runtime.platform ?? "cpu";
  const text = (i: number): string => {
    const value = data[i];
    if (tensor.dtype === "bool") return value ? "true" : "false";
    if (typeof value === "bigint" || Number.isInteger(value)) return String(value);
    return Number(value)
      .toPrecision(5)
      .replace(/\.?0+$/, "");
  };
  const edge = 4;
  const render = (offset: number, axis: number): string => {
    if (axis === tensor.shape.length) return text(offset);
    const length = tensor.shape[axis]!;
    const stride = tensor.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const parts: string[] = [];
    for (let i = 0; i < length; i++) {
      if (length > 3 * edge && i === edge) {
        parts.push("…");
        i = length - edge;
      }
      parts.push(render(offset + i * stride, axis + 1));
    }
    const last = axis === tensor.shape.length - 1;
    return `[${parts.join(last ? ", " : `,\n${" ".repeat(axis + 1)}`)}]`;
  };
  return `${render(0, 0)}\n${tensor.dtype}[${tensor.shape.join(", ")}] on ${device}`;
}
