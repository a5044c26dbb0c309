import type { DType, Tensor } from "aronnax";
import * as a from "aronnax";
import fc from "fast-check";
import { broadcastPairs, type Palette, randomArray, seeds, shapes } from "../../oracle/arrays.js";
import { checkProperties, type Property } from "../../oracle/properties.js";

const floats: readonly DType[] = ["float32", "bfloat16", "float16", "float64"];
const integers: readonly DType[] = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"];
const numbers = [...floats, ...integers];
const logical: readonly DType[] = [...integers, "bool"];
const needs64 = (...dtypes: DType[]): boolean => dtypes.some((d) => d.endsWith("64") && d !== "complex64");

type Unary = (x: Tensor) => Tensor;

function unary(
  name: string,
  ours: Unary,
  theirs: string,
  dtypes: readonly DType[],
  palette: Palette,
  tolerance?: number,
): Property {
  return {
    name: `${name} of ${dtypes.length === 1 ? dtypes[0] : `${dtypes.length} dtypes`}`,
    runs: dtypes.length > 8 ? 4 : 3,
    trials: fc.tuple(fc.constantFrom(...dtypes), shapes(), seeds).map(([dtype, shape, seed]) => ({
      inputs: { x: randomArray(dtype, shape, seed, palette) },
      ours: ({ x }) => ours(x!),
      theirs: `${theirs}(x)`,
      x64: needs64(dtype),
      tolerance,
    })),
  };
}

checkProperties("functions of one float", [
  unary("exp", a.exp, "jnp.exp", floats, "special"),
  unary("expm1", a.expm1, "jnp.expm1", floats, "special"),
  unary("log", a.log, "jnp.log", floats, "special"),
  unary("log1p", a.log1p, "jnp.log1p", floats, "special"),
  unary("sqrt", a.sqrt, "jnp.sqrt", floats, "special"),
  unary("rsqrt", a.rsqrt, "lax.rsqrt", floats, "special"),
  unary("cbrt", a.cbrt, "jnp.cbrt", floats, "special"),
  unary("sin", a.sin, "jnp.sin", floats, "special"),
  unary("cos", a.cos, "jnp.cos", floats, "special"),
  unary("tan", a.tan, "jnp.tan", floats, "special"),
  unary("asin", a.asin, "jnp.asin", floats, "unit"),
  unary("acos", a.acos, "jnp.acos", floats, "unit"),
  unary("atan", a.atan, "jnp.atan", floats, "special"),
  unary("sinh", a.sinh, "jnp.sinh", floats, "special"),
  unary("cosh", a.cosh, "jnp.cosh", floats, "special"),
  unary("tanh", a.tanh, "jnp.tanh", floats, "special"),
  unary("asinh", a.asinh, "jnp.asinh", floats, "special"),
  unary("acosh", a.acosh, "jnp.acosh", floats, "aboveOne"),
  unary("atanh", a.atanh, "jnp.atanh", floats, "unit"),
  unary("sigmoid", a.sigmoid, "nn.sigmoid", floats, "special"),
  unary("erf", a.erf, "lax.erf", floats, "special"),
  unary("erfc", a.erfc, "lax.erfc", floats, "special"),
  unary("erfinv", a.erfinv, "lax.erf_inv", ["float32", "float64"], "unit"),
  unary("lgamma", a.lgamma, "lax.lgamma", ["float32", "float64"], "positive"),
  unary("digamma", a.digamma, "lax.digamma", ["float32", "float64"], "positive"),
  unary("floor", a.floor, "jnp.floor", floats, "special"),
  unary("ceil", a.ceil, "jnp.ceil", floats, "special"),
  unary("round", a.round, "jnp.round", floats, "special"),
  unary("truncate", a.truncate, "jnp.trunc", floats, "special"),
  unary("isfinite", a.isfinite, "jnp.isfinite", floats, "special"),
  unary("relu", a.relu, "nn.relu", floats, "special"),
  unary("silu", a.silu, "nn.silu", floats, "moderate"),
  unary("gelu", a.gelu, "(lambda x: nn.gelu(x, approximate=False))", floats, "moderate"),
  unary("gelu by tanh", (x) => a.gelu(x, { approximate: true }), "nn.gelu", floats, "moderate"),
  unary("softplus", a.softplus, "nn.softplus", floats, "special"),
]);

checkProperties("functions of one number", [
  unary("neg", a.neg, "jnp.negative", numbers, "special"),
  unary("abs", a.abs, "jnp.abs", numbers, "special"),
  unary("sign", a.sign, "jnp.sign", numbers, "special"),
  unary("square", a.square, "jnp.square", numbers, "special"),
  unary("isnan", a.isnan, "jnp.isnan", numbers, "special"),
  unary("not", a.not, "jnp.invert", logical, "special"),
  unary("popcount", a.popcount, "lax.population_count", integers, "special"),
  unary("clz", a.clz, "lax.clz", integers, "special"),
  unary("exp of an integer", a.exp, "jnp.exp", ["int32", "int8", "bool"], "small"),
  unary("reciprocal", a.reciprocal, "jnp.reciprocal", floats, "special"),
  ...[-2, -1, 0, 1, 2, 3, 5, 8, 0.5, -0.5, 2.5].map((n) =>
    unary(
      `power ${n}`,
      (x) => a.pow(x, n),
      `(lambda x: jnp.power(x, ${n}))`,
      ["float32", "float64"],
      "special",
    ),
  ),
  ...[0, 1, 2, 3, 5].map((n) =>
    unary(
      `integer power ${n}`,
      (x) => a.pow(x, n),
      `(lambda x: jnp.power(x, ${n}))`,
      ["int32", "int64"],
      "moderate",
    ),
  ),
]);

type Binary = (x: Tensor, y: Tensor) => Tensor;

function binary(
  name: string,
  ours: Binary,
  theirs: string,
  dtypes: readonly DType[],
  palettes: readonly [Palette, Palette],
  tolerance?: number,
): Property {
  return {
    name,
    runs: dtypes.length > 8 ? 5 : 3,
    trials: fc
      .tuple(fc.constantFrom(...dtypes), broadcastPairs, seeds)
      .map(([dtype, [first, second], seed]) => ({
        inputs: {
          x: randomArray(dtype, first, seed, palettes[0]),
          y: randomArray(dtype, second, seed + 1, palettes[1]),
        },
        ours: ({ x, y }) => ours(x!, y!),
        theirs: `${theirs}(x, y)`,
        x64: needs64(dtype),
        tolerance,
      })),
  };
}

checkProperties("functions of two tensors", [
  binary("add", a.add, "jnp.add", [...numbers, "bool"], ["special", "special"]),
  binary("sub", a.sub, "jnp.subtract", numbers, ["special", "special"]),
  binary("mul", a.mul, "jnp.multiply", [...numbers, "bool"], ["special", "special"]),
  binary("div", a.div, "jnp.divide", floats, ["special", "special"]),
  binary("div of integers", a.div, "jnp.divide", ["int32", "int8", "uint8", "bool"], ["special", "special"]),
  binary("floorDiv of floats", a.floorDiv, "jnp.floor_divide", ["float32", "float64"], ["moderate", "rough"]),
  binary("floorDiv of integers", a.floorDiv, "jnp.floor_divide", integers, ["moderate", "positive"]),
  binary("mod of floats", a.mod, "jnp.mod", ["float32", "float64"], ["moderate", "rough"]),
  binary("mod of integers", a.mod, "jnp.mod", integers, ["moderate", "positive"]),
  binary("rem", a.rem, "jnp.fmod", ["float32", "float64"], ["moderate", "rough"]),
  binary("pow", a.pow, "jnp.power", floats, ["positive", "moderate"]),
  binary("pow of integers", a.pow, "jnp.power", ["int32", "int64", "uint8"], ["small", "small"]),
  binary("pow, everywhere", a.pow, "jnp.power", ["float32"], ["special", "special"]),
  binary("atan2", a.atan2, "jnp.atan2", floats, ["special", "special"]),
  binary("maximum", a.maximum, "jnp.maximum", [...numbers, "bool"], ["special", "special"]),
  binary("minimum", a.minimum, "jnp.minimum", [...numbers, "bool"], ["special", "special"]),
  binary(
    "polygamma",
    a.polygamma,
    "(lambda n, x: lax.polygamma(*jnp.broadcast_arrays(n, x)))",
    ["float32"],
    ["small", "positive"],
    1e-4,
  ),
  binary("and", a.and, "jnp.bitwise_and", logical, ["special", "special"]),
  binary("or", a.or, "jnp.bitwise_or", logical, ["special", "special"]),
  binary("xor", a.xor, "jnp.bitwise_xor", logical, ["special", "special"]),
  binary("shiftLeft", a.shiftLeft, "(lambda x, y: lax.shift_left(*jnp.broadcast_arrays(x, y)))", integers, [
    "special",
    "small",
  ]),
  binary(
    "shiftRightLogical",
    a.shiftRightLogical,
    "(lambda x, y: lax.shift_right_logical(*jnp.broadcast_arrays(x, y)))",
    integers,
    ["special", "small"],
  ),
  binary(
    "shiftRightArithmetic",
    a.shiftRightArithmetic,
    "(lambda x, y: lax.shift_right_arithmetic(*jnp.broadcast_arrays(x, y)))",
    integers,
    ["special", "small"],
  ),
  binary("equal", a.equal, "jnp.equal", [...numbers, "bool"], ["special", "special"]),
  binary("notEqual", a.notEqual, "jnp.not_equal", [...numbers, "bool"], ["special", "special"]),
  binary("less", a.less, "jnp.less", [...numbers, "bool"], ["special", "special"]),
  binary("lessEqual", a.lessEqual, "jnp.less_equal", [...numbers, "bool"], ["special", "special"]),
  binary("greater", a.greater, "jnp.greater", [...numbers, "bool"], ["special", "special"]),
  binary("greaterEqual", a.greaterEqual, "jnp.greater_equal", [...numbers, "bool"], ["special", "special"]),
  binary("where", (x, y) => a.where(a.less(x, y), x, y), "(lambda x, y: jnp.where(x < y, x, y))", numbers, [
    "special",
    "special",
  ]),
  binary(
    "clip",
    (x, y) => a.clip(x, y, 2),
    "(lambda x, y: jnp.clip(x, y, 2))",
    ["float32", "int32"],
    ["moderate", "moderate"],
  ),
]);
