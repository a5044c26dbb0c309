/** Element types, named as XLA names them, with what each part of the framework must know of them. */
import { DTypeError } from "./errors.js";

interface DTypeInfo {
  /** Bytes an element takes in a buffer. */
  readonly size: number;
  /** The element type in MLIR text. */
  readonly mlir: string;
  readonly kind: "float" | "signed" | "unsigned" | "bool" | "complex";
}

const table = {
  float32: { size: 4, mlir: "f32", kind: "float" },
  bfloat16: { size: 2, mlir: "bf16", kind: "float" },
  float16: { size: 2, mlir: "f16", kind: "float" },
  float64: { size: 8, mlir: "f64", kind: "float" },
  float8_e4m3fn: { size: 1, mlir: "f8E4M3FN", kind: "float" },
  float8_e5m2: { size: 1, mlir: "f8E5M2", kind: "float" },
  int8: { size: 1, mlir: "i8", kind: "signed" },
  int16: { size: 2, mlir: "i16", kind: "signed" },
  int32: { size: 4, mlir: "i32", kind: "signed" },
  int64: { size: 8, mlir: "i64", kind: "signed" },
  uint8: { size: 1, mlir: "ui8", kind: "unsigned" },
  uint16: { size: 2, mlir: "ui16", kind: "unsigned" },
  uint32: { size: 4, mlir: "ui32", kind: "unsigned" },
  uint64: { size: 8, mlir: "ui64", kind: "unsigned" },
  bool: { size: 1, mlir: "i1", kind: "bool" },
  complex64: { size: 8, mlir: "complex<f32>", kind: "complex" },
} as const satisfies Record<string, DTypeInfo>;

export type DType = keyof typeof table;

export const dtypes = Object.keys(table) as readonly DType[];

export function isDType(name: string): name is DType {
  return Object.hasOwn(table, name);
}

/** Bytes an element takes. */
export function itemSize(dtype: DType): number {
  return table[dtype].size;
}

/** The element type in MLIR text, e.g. `bf16`. */
export function mlirType(dtype: DType): string {
  return table[dtype].mlir;
}

export function isFloat(dtype: DType): boolean {
  return table[dtype].kind === "float";
}

export function isInteger(dtype: DType): boolean {
  return table[dtype].kind === "signed" || table[dtype].kind === "unsigned";
}

export function isUnsigned(dtype: DType): boolean {
  return table[dtype].kind === "unsigned";
}

export function isComplex(dtype: DType): boolean {
  return table[dtype].kind === "complex";
}

/** Whether gradients flow through values of this type. */
export function isDifferentiable(dtype: DType): boolean {
  return isFloat(dtype) || isComplex(dtype);
}

/**
 * The type of the result of an operation on `a` and `b`: the least upper bound in JAX's promotion lattice
 * (https://docs.jax.dev/en/latest/type_promotion.html) for strongly typed operands. JavaScript numbers are weak: they take the other
 * operand's type (`promote` in array/elementwise.ts).
 */
export function promoteTypes(a: DType, b: DType): DType {
  if (a === b) return a;
  const key = a < b ? `${a},${b}` : `${b},${a}`;
  let found = promotions.get(key);
  if (found === undefined) {
    found = join(a, b);
    promotions.set(key, found);
  }
  return found;
}

const promotions = new Map<string, DType>();

/** Edges of the lattice, each type to its direct successors; `int*` and `float*` are the lattice's weak points. */
const lattice: Record<DType | "float*", readonly (DType | "float*")[]> = {
  bool: ["uint8", "int8"],
  uint8: ["uint16", "int16"],
  uint16: ["uint32", "int32"],
  uint32: ["uint64", "int64"],
  uint64: ["float*"],
  int8: ["int16"],
  int16: ["int32"],
  int32: ["int64"],
  int64: ["float*"],
  "float*": ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16"],
  float8_e4m3fn: [],
  float8_e5m2: [],
  bfloat16: ["float32"],
  float16: ["float32"],
  float32: ["float64", "complex64"],
  float64: [],
  complex64: [],
};

function successors(type: DType | "float*"): Set<string> {
  const seen = new Set<string>([type]);
  for (const t of seen) for (const next of lattice[t as DType]) seen.add(next);
  return seen;
}

function join(a: DType, b: DType): DType {
  const above = successors(b);
  const common = [...successors(a)].filter((t) => above.has(t)) as (DType | "float*")[];
  const least = common.filter((t) => {
    const up = successors(t);
    return common.every((other) => up.has(other));
  });
  const found = least[0];
  if (found === undefined) {
    throw new DTypeError(
      `${a} and ${b} have no common type`,
      `convert one of them with .astype("${a}") or .astype("${b}")`,
    );
  }
  return found === "float*" ? "float32" : found;
}
