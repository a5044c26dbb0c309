/** What element-wise operations have in common: which types they take, what they cost. */
import { type DType, isComplex, isFloat, isInteger } from "../graph/dtype.js";
import { DTypeError } from "../graph/errors.js";
import type { Op } from "./bind.js";

/** Which types an operation takes; "real" and "float" functions take integers converted to float32. */
export type Kind = "real" | "float" | "number" | "ordered" | "integer" | "logical" | "any";

const kinds: Record<Kind, { readonly takes: (dtype: DType) => boolean; readonly wanted: string }> = {
  real: { takes: isFloat, wanted: "a real floating-point" },
  float: { takes: (dtype) => isFloat(dtype) || isComplex(dtype), wanted: "a floating-point" },
  number: { takes: (dtype) => dtype !== "bool", wanted: "a numeric" },
  ordered: { takes: (dtype) => dtype !== "bool" && !isComplex(dtype), wanted: "a real numeric" },
  integer: { takes: isInteger, wanted: "an integer" },
  logical: { takes: (dtype) => isInteger(dtype) || dtype === "bool", wanted: "an integer or bool" },
  any: { takes: (dtype) => !isComplex(dtype), wanted: "a real" },
};

/** Throws where an operation does not take a type. */
export function check(operation: string, dtype: DType, kind: Kind): void {
  const { takes, wanted } = kinds[kind];
  if (takes(dtype)) return;
  throw new DTypeError(
    `${operation} of ${dtype}`,
    isComplex(dtype)
      ? "complex numbers have none: take real(), imag() or abs() first"
      : `it takes ${wanted} tensor: convert with .astype()`,
  );
}

/** Counts as one operation for each element, whatever the function. */
export const oncePerElement: Pick<Op, "fusion" | "flops"> = {
  fusion: "element",
  flops: ({ outputs: [y] }) => y!.size,
};
