/** Weights in few bits that compute: NF4, INT8 and FP8, and models on them. */
export { type Fp8Options, Fp8Weight } from "./fp8.js";
export { Int8Weight } from "./int8.js";
export { encodeWeight, type Format, type FormatOptions, QuantizedLinear } from "./linear.js";
export { linears, type QuantizeOptions } from "./model.js";
export { dynamicCodes, type Nf4Options, Nf4Weight, nf4Codes } from "./nf4.js";
export { QuantizedWeight } from "./weight.js";
