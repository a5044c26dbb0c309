/** Shape arithmetic shared by the families of operations. */
import { type DType, dtypes, isDType } from "../graph/dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../graph/errors.js";
import type { Shape } from "../graph/node.js";
import { described, fixFor } from "./given.js";

export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const d of shape) size *= d;
  return size;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** NumPy's broadcasting of two or more shapes; throws a ShapeError that names the operation and the shapes. */
export function broadcastShapes(operation: string, ...shapes: readonly Shape[]): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  const result = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (let i = 0; i < shape.length; i++) {
      const axis = rank - shape.length + i;
      const d = shape[i]!;
      if (d === result[axis] || d === 1) continue;
      if (result[axis] !== 1) {
        throw new ShapeError(
          `${operation}: shapes ${shapes.map((s) => `[${s.join(", ")}]`).join(" and ")} do not broadcast: axis ${axis - rank} is ${result[axis]} in one and ${d} in another`,
          "axes must be equal or 1, counted from the last; reshape, or insert axes of 1 with expandDims",
        );
      }
      result[axis] = d;
    }
  }
  return result;
}

/** `axis` in [0, rank), negative ones counted from the end. */
export function normalizeAxis(operation: string, axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    checkRank(operation, rank);
    throw new ArgumentError(
      `${operation}: axis ${described(axis)} of a tensor with ${rank} dimension${rank === 1 ? "" : "s"}`,
      fixFor(
        axis,
        optionsFix(operation, axis) ??
          (rank === 0 ? "a scalar has no axes" : `use an axis from ${-rank} to ${rank - 1}`),
      ),
    );
  }
  return axis < 0 ? axis + rank : axis;
}

/** What is no Tensor has no number of dimensions. */
function checkRank(operation: string, rank: number): void {
  if (rank === undefined)
    throw new ArgumentError(
      `${operation} of what is no Tensor`,
      "make one with tensor(), and await Promises of one",
    );
}

/** Options given where the axes come first. */
function optionsFix(operation: string, axes: unknown): string | undefined {
  if (typeof axes !== "object" || axes === null || Array.isArray(axes)) return undefined;
  const options = Object.keys(axes).map(
    (name) => `${name}: ${String((axes as Record<string, unknown>)[name])}`,
  );
  return `the axes come first, undefined for all: ${operation}(undefined, { ${options.join(", ")} })`;
}

/** Sorted distinct axes; all of them where `axes` is undefined. */
export function normalizeAxes(
  operation: string,
  axes: number | readonly number[] | undefined,
  rank: number,
): number[] {
  checkRank(operation, rank);
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = (Array.isArray(axes) ? axes : [axes as number]).map((a) => normalizeAxis(operation, a, rank));
  const distinct = [...new Set(list)].sort((a, b) => a - b);
  if (distinct.length !== list.length)
    throw new ArgumentError(`${operation}: axes [${axes}] name one axis twice`);
  return distinct;
}

/** Checks that a type exists: JavaScript does not. */
export function checkDType(operation: string, dtype: DType): void {
  if (!isDType(dtype)) {
    throw new DTypeError(
      `${operation}: there is no dtype "${String(dtype)}"`,
      `use one of ${dtypes.join(", ")}`,
    );
  }
}

/** Checks that every entry is a non-negative integer. */
export function checkShape(operation: string, shape: Shape): void {
  if (!Array.isArray(shape)) {
    throw new ShapeError(
      `${operation}: the shape is ${described(shape)}`,
      fixFor(shape, `give a list of dimensions: ${typeof shape === "number" ? `[${shape}]` : "[2, 3]"}`),
    );
  }
  for (const d of shape) {
    if (!Number.isInteger(d) || d < 0) {
      throw new ShapeError(
        `${operation}: [${shape.map(described).join(", ")}] is no shape`,
        fixFor(d, "dimensions are integers of at least 0"),
      );
    }
  }
}
