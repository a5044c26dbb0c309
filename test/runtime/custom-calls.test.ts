import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CompileError, ExecutionError } from "../../core/src/runtime/errors.js";
import type { Runtime } from "../../core/src/runtime/runtime.js";
import { floats, isAlive, privateFolder, startRuntime, stopAll, until } from "./support.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });
const columns = "dense<[0, 1]> : tensor<2xindex>";
const inPlace =
  "output_operand_aliases = [#stablehlo.output_operand_alias<output_tuple_indices = [0], operand_index = 0, operand_tuple_indices = []>]";

/** Eigenvalues of a symmetric matrix of `n` rows. */
function eigenvalues(n: number, config = "mode = 86 : ui8, uplo = 76 : ui8"): string {
  const [m, v, i] = [`tensor<${n}x${n}xf32>`, `tensor<${n}xf32>`, "tensor<i32>"];
  return `func.func @main(%a: ${m}) -> ${v} {
    %0:3 = stablehlo.custom_call @lapack_ssyevd_ffi(%a) {api_version = 4 : i32, backend_config = {${config}},
      operand_layouts = [${columns}], ${inPlace},
      result_layouts = [${columns}, dense<0> : tensor<1xindex>, dense<> : tensor<0xindex>]} : (${m}) -> (${m}, ${v}, ${i})
    return %0#1 : ${v} }`;
}

describe("custom calls on the CPU", () => {
  const before = process.env.ARONNAX_CACHE_DIR;
  let runtime: Runtime;
  let pid: number;

  beforeAll(async () => {
    process.env.ARONNAX_CACHE_DIR = privateFolder();
    ({ runtime, pid } = await startRuntime());
  });
  afterAll(async () => {
    if (before === undefined) delete process.env.ARONNAX_CACHE_DIR;
    else process.env.ARONNAX_CACHE_DIR = before;
    await stopAll();
  });

  /** The second difference of `n` points, whose eigenvalues are 2 - 2 cos(k pi / (n + 1)). */
  async function checkEigenvalues(from: Runtime, cached: string | false) {
    const n = 5;
    const matrix = Float32Array.from({ length: n * n }, (_, at) => {
      const distance = Math.abs(Math.floor(at / n) - (at % n));
      return distance === 0 ? 2 : distance === 1 ? -1 : 0;
    });
    const program = from.compile({ text: eigenvalues(n), outputs: [f32([n])], name: "eigh" });
    expect((await program.info).cached).toBe(cached);
    const found = await floats(from, from.execute(program, [from.put(matrix, f32([n, n]))])[0]!);
    for (const [k, value] of found.entries()) {
      expect(value).toBeCloseTo(2 - 2 * Math.cos(((k + 1) * Math.PI) / (n + 1)), 5);
    }
  }

  it("finds the eigenvalues of a symmetric matrix by LAPACK", () => checkEigenvalues(runtime, false));

  it("finds them in a new process too, which has the program from the disk", async () => {
    await runtime.shutdown();
    await until(() => !isAlive(pid));
    ({ runtime, pid } = await startRuntime());
    await checkEigenvalues(runtime, "disk");
  });

  it("finds singular values and a QR factor by LAPACK", async () => {
    const m = "tensor<2x2xf32>";
    const text = `func.func @main(%a: ${m}) -> (tensor<2xf32>, ${m}) {
      %0:5 = stablehlo.custom_call @lapack_sgesdd_ffi(%a) {api_version = 4 : i32, backend_config = {mode = 83 : ui8},
        operand_layouts = [${columns}], ${inPlace},
        result_layouts = [${columns}, dense<0> : tensor<1xindex>, ${columns}, ${columns}, dense<> : tensor<0xindex>]}
        : (${m}) -> (${m}, tensor<2xf32>, ${m}, ${m}, tensor<i32>)
      %1:2 = stablehlo.custom_call @lapack_sgeqrf_ffi(%a) {api_version = 4 : i32, backend_config = {},
        operand_layouts = [${columns}], ${inPlace}, result_layouts = [${columns}, dense<0> : tensor<1xindex>]}
        : (${m}) -> (${m}, tensor<2xf32>)
      return %0#1, %1#0 : tensor<2xf32>, ${m} }`;
    const program = runtime.compile({ text, outputs: [f32([2]), f32([2, 2])], name: "svd and qr" });
    const matrix = runtime.put(Float32Array.of(3, 0, 4, 5), f32([2, 2]));
    const [values, factor] = runtime.execute(program, [matrix]);
    const singular = await floats(runtime, values!);
    expect(singular[0]).toBeCloseTo(Math.sqrt(45), 5);
    expect(singular[1]).toBeCloseTo(Math.sqrt(5), 5);
    const [corner, , , last] = await floats(runtime, factor!);
    // R of ((3, 0), (4, 5)): its diagonal is the first column's length, and the determinant over that.
    expect(Math.abs(corner!)).toBeCloseTo(5, 5);
    expect(Math.abs(last!)).toBeCloseTo(3, 5);
  });

  it("refuses to compile a call of what is not registered", async () => {
    for (const version of [1, 2, 3, 4]) {
      const config = version === 4 ? "{}" : '""';
      const text = `func.func @main(%a: tensor<4xf32>) -> tensor<4xf32> {
        %0 = stablehlo.custom_call @no_such_target(%a) {api_version = ${version} : i32, backend_config = ${config}} : (tensor<4xf32>) -> tensor<4xf32>
        return %0 : tensor<4xf32> }`;
      const program = runtime.compile({ text, outputs: [f32([4])], name: "unknown" });
      const error = await program.info.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(CompileError);
      expect((error as CompileError).message).toContain("no_such_target");
      expect((error as CompileError).fix).toContain("does not exist on this platform");
    }
    expect(isAlive(pid)).toBe(true);
  });

  it("refuses what nobody would answer, and would hang or end it", async () => {
    const bodies = [
      `%0 = stablehlo.custom_call @xla_ffi_python_cpu_callback(%a) {api_version = 4 : i32, backend_config = {index = 0 : ui64}}
        : (tensor<f32>) -> tensor<f32>`,
      `%t = stablehlo.create_token : !stablehlo.token
       %1 = "stablehlo.outfeed"(%a, %t) : (tensor<f32>, !stablehlo.token) -> !stablehlo.token
       %0 = stablehlo.add %a, %a : tensor<f32>`,
    ];
    for (const body of bodies) {
      const text = `func.func @main(%a: tensor<f32>) -> tensor<f32> { ${body} return %0 : tensor<f32> }`;
      const program = runtime.compile({ text, outputs: [f32([])] });
      const [output] = runtime.execute(program, [runtime.put(new Float32Array(1), f32([]))]);
      await expect(runtime.get(output!)).rejects.toThrow(CompileError);
      await expect(program.info).rejects.toThrow(/nobody to answer/);
    }
    expect(isAlive(pid)).toBe(true);
  });

  it("fails a run whose call lacks an attribute, and lives on", async () => {
    const text = eigenvalues(4, "mode = 86 : ui8");
    const program = runtime.compile({ text, outputs: [f32([4])], name: "wrong" });
    const input = runtime.put(new Float32Array(16), f32([4, 4]));
    const [output] = runtime.execute(program, [input]);
    await expect(runtime.get(output!)).rejects.toThrow(ExecutionError);
    await runtime.ping();
    expect(isAlive(pid)).toBe(true);
  });
});
