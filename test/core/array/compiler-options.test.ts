import { expect, it } from "vitest";
import { compilerOptions } from "../../../core/src/array/program.js";

const product = (dtype: string) =>
  `%0 = stablehlo.convert %w : (tensor<4x4x${dtype}>) -> tensor<4x4xbf16>\n%1 = stablehlo.dot_general %x, %0`;

it("leaves products of FP8 on GPUs to cuBLASLt, unless the user says otherwise", () => {
  const without = { flags: { xla_gpu_enable_triton_gemm: false } };
  expect(compilerOptions(product("f8E4M3FN"), "cuda", undefined)).toEqual(without);
  expect(compilerOptions(product("f8E5M2"), "cuda", { optimizationLevel: 1 })).toEqual({
    optimizationLevel: 1,
    ...without,
  });
  const own = { flags: { xla_gpu_enable_triton_gemm: true } };
  expect(compilerOptions(product("f8E4M3FN"), "cuda", own)).toEqual(own);
});

it("changes nothing else", () => {
  expect(compilerOptions(product("bf16"), "cuda", undefined)).toBeUndefined();
  expect(compilerOptions(product("f8E4M3FN"), "cpu", undefined)).toBeUndefined();
  expect(
    compilerOptions("%0 = stablehlo.convert %w : tensor<4xf8E4M3FN>", "cuda", undefined),
  ).toBeUndefined();
});
