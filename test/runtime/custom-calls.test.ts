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

  /** A program of four numbers around a body that makes `%0`. */
  const around = (body: string, before = "", attributes = "") =>
    `module ${attributes} { ${before} func.func public @main(%a: tensor<4xf32>) -> tensor<4xf32> { ${body} return %0 : tensor<4xf32> } }`;

  it("finds what is refused however it is written, and only that", async () => {
    const token = "%t = stablehlo.create_token : !stablehlo.token";
    const refused = [
      String.raw`${token} %0:2 = "stablehlo.inf\65ed"(%t) {infeed_config = ""} : (!stablehlo.token) -> (tensor<4xf32>, !stablehlo.token)`,
      String.raw`${token} %1 = "stablehlo.outf\65ed"(%a, %t) {outfeed_config = ""} : (tensor<4xf32>, !stablehlo.token) -> (!stablehlo.token) %0 = stablehlo.sine %a : tensor<4xf32>`,
      String.raw`%0 = stablehlo.custom_call @"xla_ffi_python_cpu_c\61llback"(%a) {api_version = 4 : i32, backend_config = {index = 0 : ui64}} : (tensor<4xf32>) -> tensor<4xf32>`,
    ];
    for (const body of refused) {
      const text = around(body.replace("%0:2", "%r:2")).replace(
        "return %0",
        body.includes("%0:2") ? "return %r#0" : "return %0",
      );
      await expect(runtime.compile({ text, outputs: [f32([4])] }).info).rejects.toThrow(/nobody to answer/);
    }
    const text = `// stablehlo.send and stablehlo.infeed, in words\n${around('%0 = stablehlo.sine %a : tensor<4xf32> loc("stablehlo.recv")')}`;
    expect((await runtime.compile({ text, outputs: [f32([4])] }).info).outputs).toHaveLength(1);
  });

  it("refuses calls that would read or write beyond their arrays", async () => {
    const call = (name: string, api = 4, config = "{}") =>
      around(
        `%0 = stablehlo.custom_call @"${name}"(%a) {api_version = ${api} : i32, backend_config = ${config}} : (tensor<4xf32>) -> tensor<4xf32>`,
      );
    const names = [
      "TopK",
      "SliceToDynamic",
      "PadToStatic",
      "__onednn$matmul",
      "__onednn$softmax",
      "mhlo.topk",
    ];
    names.push(
      "lapack_spotrf_ffi",
      "lapack_sgesdd_ffi",
      "lapack_strsm_ffi",
      "lapack_sgees_ffi",
      "AllocateBuffer",
    );
    for (const name of names) {
      for (const [api, config] of [
        [4, "{k = 4 : i64}"],
        [2, '""'],
      ] as const) {
        const error = await runtime
          .compile({ text: call(name, api, config), outputs: [f32([4])] })
          .info.catch((reason: unknown) => reason);
        expect(error, name).toBeInstanceOf(CompileError);
        expect((error as CompileError).message).toContain(name);
      }
    }
    // A routine that is allowed, with results that are too small, of another type, or too few; a letter that it does not know.
    const right = eigenvalues(4);
    const wrong = [
      right.replaceAll("tensor<4xf32>", "tensor<1xf32>"),
      right.replaceAll("tensor<i32>", "tensor<i64>"),
      right.replace("uplo = 76", "uplo = 7"),
      right.replaceAll("tensor<4x4xf32>", "tensor<4x5xf32>"),
    ];
    for (const text of wrong) {
      const error = await runtime
        .compile({ text, outputs: [f32([4])] })
        .info.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(CompileError);
      expect((error as CompileError).message).toContain("lapack_ssyevd_ffi");
    }
    await runtime.compile({ text: right, outputs: [f32([4])] }).info;
    expect(isAlive(pid)).toBe(true);
  });

  it("outlives programs that end their compiler, with all buffers", async () => {
    const kept = runtime.put(Float32Array.of(1, 2), f32([2]));
    const deep = 100_000;
    const hostile = [
      around("%0 = func.call @main(%a) : (tensor<4xf32>) -> tensor<4xf32>"),
      around(
        "%0 = func.call @f(%a) : (tensor<4xf32>) -> tensor<4xf32>",
        `func.func private @f(%x: tensor<4xf32>) -> tensor<4xf32> { %0 = func.call @g(%x) : (tensor<4xf32>) -> tensor<4xf32> return %0 : tensor<4xf32> }
         func.func private @g(%x: tensor<4xf32>) -> tensor<4xf32> { %0 = func.call @f(%x) : (tensor<4xf32>) -> tensor<4xf32> return %0 : tensor<4xf32> }`,
      ),
      around(
        "%0 = stablehlo.sine %a : tensor<4xf32>",
        "",
        `attributes {x.y = ${"[".repeat(deep)}${"]".repeat(deep)}}`,
      ),
      around(
        "%0 = stablehlo.sine %a : tensor<4xf32>",
        "",
        `attributes {x.y = ${"tuple<".repeat(deep)}i1${">".repeat(deep)}}`,
      ),
      "module { ".repeat(20_000) + "}".repeat(20_000),
    ];
    for (const text of hostile) {
      await expect(runtime.compile({ text, outputs: [f32([4])] }).info).rejects.toThrow(CompileError);
    }
    expect(isAlive(pid)).toBe(true);
    expect(await floats(runtime, kept)).toEqual([1, 2]);
    await checkEigenvalues(runtime, "memory");
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
