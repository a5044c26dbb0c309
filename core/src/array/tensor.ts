/** Tensors: immutable array expressions whose shape and type are known at once and whose data are computed when asked for. */
import { type DType, isComplex } from "../graph/dtype.js";
import { ArgumentError, DTypeError } from "../graph/errors.js";
import { type Shape, Value } from "../graph/node.js";
import { fetch, materialize } from "./evaluate.js";
import { decode, type Nested, nest, type TypedArray } from "./hostdata.js";

/**
 * An array expression. Operations (see methods.ts; display.ts for notebooks) return new Tensors and run nothing; `data()`, `item()`, `array()` compute.
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
    if (isComplex(this.dtype)) {
      throw new DTypeError(`item() of ${this.dtype}`, "take real() or imag() first, or use data()");
    }
    return Number((await this.data())[0]);
  }

  /** The elements as nested arrays of numbers (booleans for bool, [real, imaginary] for complex64). */
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

  /** JSON.stringify() cannot wait for the data. @throws ArgumentError */
  toJSON(): never {
    throw new ArgumentError(`JSON of ${this}`, "its numbers come with await x.array()");
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

export type { DType, Nested, Shape, TypedArray };
