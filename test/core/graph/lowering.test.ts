import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { describe, expect, it } from "vitest";
import { placeholder } from "../../../core/src/array/bind.js";
import { close } from "../../../core/src/array/program.js";
import { lower } from "../../../core/src/graph/lowering.js";
import { verifyAtEnd, verifyModules } from "../../oracle/oracle.js";

verifyAtEnd();

const f32 = (...shape: number[]): Tensor => placeholder({ shape, dtype: "float32" });

/** The module of a function of placeholders, without locations. */
function print(parameters: readonly Tensor[], ...outputs: Tensor[]): string {
  return lower(close(outputs, parameters), { platform: "cpu", name: "golden" }).key;
}

describe("the printer", () => {
  it("writes operations in order, with types", () => {
    const [x, w, b] = [f32(4, 8), f32(8, 2), f32(2)];
    expect(print([x, w, b], x.matmul(w).add(b).tanh())).toMatchInlineSnapshot(`
      "module @golden {
        func.func public @main(%arg0: tensor<4x8xf32>, %arg1: tensor<8x2xf32>, %arg2: tensor<2xf32>) -> (tensor<4x2xf32>) {
          %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0], precision = [DEFAULT, DEFAULT] : (tensor<4x8xf32>, tensor<8x2xf32>) -> tensor<4x2xf32>
          %1 = stablehlo.broadcast_in_dim %arg2, dims = [1] : (tensor<2xf32>) -> tensor<4x2xf32>
          %2 = stablehlo.add %0, %1 : tensor<4x2xf32>
          %3 = stablehlo.tanh %2 : tensor<4x2xf32>
          return %3 : tensor<4x2xf32>
        }
      }
      "
    `);
  });

  it("merges common subexpressions and drops what is not needed", () => {
    const x = f32(3);
    x.exp();
    expect(print([x], x.sin().add(1).mul(x.sin().add(1)))).toMatchInlineSnapshot(`
      "module @golden {
        func.func public @main(%arg0: tensor<3xf32>) -> (tensor<3xf32>) {
          %0 = stablehlo.sine %arg0 : tensor<3xf32>
          %1 = stablehlo.constant dense<1.0> : tensor<f32>
          %2 = stablehlo.broadcast_in_dim %1, dims = [] : (tensor<f32>) -> tensor<3xf32>
          %3 = stablehlo.add %0, %2 : tensor<3xf32>
          %4 = stablehlo.multiply %3, %3 : tensor<3xf32>
          return %4 : tensor<3xf32>
        }
      }
      "
    `);
  });

  it("does not merge what differs in an attribute only", () => {
    const x = f32(2, 2);
    expect(print([x], x.sum(0).add(x.sum(1)))).toMatchInlineSnapshot(`
      "module @golden {
        func.func public @main(%arg0: tensor<2x2xf32>) -> (tensor<2xf32>) {
          %0 = stablehlo.constant dense<0.0> : tensor<f32>
          %1 = stablehlo.reduce(%arg0 init: %0) applies stablehlo.add across dimensions = [0] : (tensor<2x2xf32>, tensor<f32>) -> tensor<2xf32>
          %2 = stablehlo.reduce(%arg0 init: %0) applies stablehlo.add across dimensions = [1] : (tensor<2x2xf32>, tensor<f32>) -> tensor<2xf32>
          %3 = stablehlo.add %1, %2 : tensor<2xf32>
          return %3 : tensor<2xf32>
        }
      }
      "
    `);
  });

  it("writes scalars exactly", () => {
    const x = f32();
    const values = [
      0.1,
      -0,
      1e-30,
      3e38,
      16777217,
      Number.POSITIVE_INFINITY,
      Number.NaN,
      Number.NEGATIVE_INFINITY,
    ];
    expect(print([x], ...values.map((v) => x.mul(v)))).toMatchInlineSnapshot(`
      "module @golden {
        func.func public @main(%arg0: tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) {
          %0 = stablehlo.constant dense<0.1> : tensor<f32>
          %1 = stablehlo.multiply %arg0, %0 : tensor<f32>
          %2 = stablehlo.constant dense<-0.0> : tensor<f32>
          %3 = stablehlo.multiply %arg0, %2 : tensor<f32>
          %4 = stablehlo.constant dense<1.0e-30> : tensor<f32>
          %5 = stablehlo.multiply %arg0, %4 : tensor<f32>
          %6 = stablehlo.constant dense<3.0e+38> : tensor<f32>
          %7 = stablehlo.multiply %arg0, %6 : tensor<f32>
          %8 = stablehlo.constant dense<16777217.0> : tensor<f32>
          %9 = stablehlo.multiply %arg0, %8 : tensor<f32>
          %10 = stablehlo.constant dense<0x7F800000> : tensor<f32>
          %11 = stablehlo.multiply %arg0, %10 : tensor<f32>
          %12 = stablehlo.constant dense<0x7FC00000> : tensor<f32>
          %13 = stablehlo.multiply %arg0, %12 : tensor<f32>
          %14 = stablehlo.constant dense<0xFF800000> : tensor<f32>
          %15 = stablehlo.multiply %arg0, %14 : tensor<f32>
          return %1, %3, %5, %7, %9, %11, %13, %15 : tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>
        }
      }
      "
    `);
  });

  it("writes reductions, regions and gathers", () => {
    const x = f32(5, 3);
    const rows = placeholder({ shape: [2], dtype: "int32" });
    expect(print([x, rows], x.take(rows), x.argmax(1), x.max())).toMatchInlineSnapshot(`
      "module @golden {
        func.func public @main(%arg0: tensor<5x3xf32>, %arg1: tensor<2xi32>) -> (tensor<2x3xf32>, tensor<5xi32>, tensor<f32>) {
          %0 = stablehlo.constant dense<0> : tensor<i32>
          %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<i32>) -> tensor<2xi32>
          %2 = stablehlo.compare LT, %arg1, %1, SIGNED : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi1>
          %3 = stablehlo.constant dense<5> : tensor<i32>
          %4 = stablehlo.broadcast_in_dim %3, dims = [] : (tensor<i32>) -> tensor<2xi32>
          %5 = stablehlo.add %arg1, %4 : tensor<2xi32>
          %6 = stablehlo.select %2, %5, %arg1 : tensor<2xi1>, tensor<2xi32>
          %7 = stablehlo.reshape %6 : (tensor<2xi32>) -> tensor<2x1xi32>
          %8 = "stablehlo.gather"(%arg0, %7) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 3>}> : (tensor<5x3xf32>, tensor<2x1xi32>) -> tensor<2x3xf32>
          %9 = stablehlo.constant dense<0xFF800000> : tensor<f32>
          %10 = stablehlo.iota dim = 1 : tensor<5x3xi32>
          %11:2 = stablehlo.reduce(%arg0 init: %9), (%10 init: %0) across dimensions = [1] : (tensor<5x3xf32>, tensor<5x3xi32>, tensor<f32>, tensor<i32>) -> (tensor<5xf32>, tensor<5xi32>)
           reducer(%av: tensor<f32>, %bv: tensor<f32>) (%ai: tensor<i32>, %bi: tensor<i32>) {
            %12 = stablehlo.compare GT, %av, %bv, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>
            %13 = stablehlo.compare NE, %av, %av, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>
            %14 = stablehlo.or %12, %13 : tensor<i1>
            %15 = stablehlo.compare EQ, %av, %bv, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>
            %16 = stablehlo.compare NE, %bv, %bv, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>
            %17 = stablehlo.and %13, %16 : tensor<i1>
            %18 = stablehlo.or %15, %17 : tensor<i1>
            %19 = stablehlo.compare LT, %ai, %bi, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
            %20 = stablehlo.select %18, %19, %14 : tensor<i1>, tensor<i1>
            %21 = stablehlo.select %14, %av, %bv : tensor<i1>, tensor<f32>
            %22 = stablehlo.select %20, %ai, %bi : tensor<i1>, tensor<i32>
            stablehlo.return %21, %22 : tensor<f32>, tensor<i32>
          }
          %23 = stablehlo.reduce(%arg0 init: %9) applies stablehlo.maximum across dimensions = [0, 1] : (tensor<5x3xf32>, tensor<f32>) -> tensor<f32>
          return %8, %11#1, %23 : tensor<2x3xf32>, tensor<5xi32>, tensor<f32>
        }
      }
      "
    `);
  });

  it("writes a derivative", () => {
    const x = f32(3);
    expect(print([x], a.grad((v: Tensor) => v.tanh().sum())(x))).toMatchInlineSnapshot(`
      "module @golden {
        func.func public @main(%arg0: tensor<3xf32>) -> (tensor<3xf32>) {
          %0 = stablehlo.tanh %arg0 : tensor<3xf32>
          %1 = stablehlo.constant dense<1.0> : tensor<f32>
          %2 = stablehlo.broadcast_in_dim %1, dims = [] : (tensor<f32>) -> tensor<3xf32>
          %3 = stablehlo.multiply %0, %0 : tensor<3xf32>
          %4 = stablehlo.subtract %2, %3 : tensor<3xf32>
          %5 = stablehlo.multiply %2, %4 : tensor<3xf32>
          return %5 : tensor<3xf32>
        }
      }
      "
    `);
  });

  it("gives donated arguments the output of their type, or their memory", () => {
    const [x, y, z] = [f32(2), f32(3), f32(2)];
    const { key } = lower(close([x.add(z), y.sum()], [x, y, z]), { platform: "cpu", donated: [0, 1, 2] });
    expect(key.split("\n")[1]).toMatchInlineSnapshot(
      `"  func.func public @main(%arg0: tensor<2xf32> {tf.aliasing_output = 0 : i32}, %arg1: tensor<3xf32> {jax.buffer_donor = true}, %arg2: tensor<2xf32> {jax.buffer_donor = true}) -> (tensor<2xf32>, tensor<f32>) {"`,
    );
  });

  it("gives every operation the line it was written in", () => {
    const x = f32(3);
    const line = Number(/lowering\.test\.ts:(\d+)/.exec(new Error().stack!)![1]) + 1;
    const y = x.sin();
    const { text } = lower(close([y.cos()], [x]), { platform: "cpu" });
    expect(text).toContain(`lowering.test.ts":${line}:`);
    expect(text).toContain(`lowering.test.ts":${line + 1}:`);
  });

  it("gives a derivative the line of what it differentiates", () => {
    const x = f32(3);
    const line = Number(/lowering\.test\.ts:(\d+)/.exec(new Error().stack!)![1]) + 1;
    const gradient = a.grad((v: Tensor) => v.tanh().sum())(x);
    const { text } = lower(close([gradient], [x]), { platform: "cpu" });
    const locations = [...text.matchAll(/^#loc\d+ = loc\((.*)\)$/gm)].map((m) => m[1]!);
    expect(locations.some((at) => at.includes(`lowering.test.ts":${line}:`))).toBe(true);
    expect(locations).not.toContain("unknown");
  });

  it("prints the same text for the same program", () => {
    const program = (): string => {
      const x = f32(4, 4);
      return print([x], a.grad((v: Tensor) => v.matmul(v).softmax().mul(v).sum())(x));
    };
    expect(program()).toBe(program());
  });

  it("prints what jaxlib parses and verifies, for odd types and names", async () => {
    const modules = (["bfloat16", "float16", "float64", "int8", "uint64", "bool", "complex64"] as const).map(
      (dtype) => {
        const x = placeholder({ shape: [2, 0], dtype });
        return lower(close([x.reshape([0]), a.concatenate([x, x])], [x]), {
          platform: "cpu",
          name: "größe 1/2",
        }).text;
      },
    );
    expect(await verifyModules(modules)).toEqual(modules.map(() => null));
  });

  it("prints a program far deeper than the call stack", () => {
    const x = f32();
    let y = x;
    for (let i = 0; i < 20_000; i++) y = y.add(x);
    const { operations } = lower(close([y], [x]), { platform: "cpu" });
    expect(operations).toBe(20_000);
  });
});
