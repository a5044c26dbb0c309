import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { expect, it } from "vitest";
import { verifyAtEnd, verifyModules } from "../../oracle/oracle.js";

verifyAtEnd();

it("prints its settings and layouts as XLA's FFI wants them", async () => {
  const x = a.ones([2, 3]);
  const call = (y: Tensor): readonly Tensor[] =>
    a.customCall(
      (platform) => ({
        name: `solve_on_${platform}`,
        config: { uplo: [76, "ui8"], lower: true, mode: 'a "b"' },
      }),
      [y],
      [
        { shape: [2, 3], dtype: "float32" },
        { shape: [], dtype: "int32" },
      ],
      { inputs: [[0, 1]], outputs: [[0, 1], []] },
    );
  const { text } = a.jit(call).lower(x);
  expect(text).toContain(
    'stablehlo.custom_call @solve_on_cpu(%arg0) {api_version = 4 : i32, backend_config = {uplo = 76 : ui8, lower = true, mode = "a \\"b\\""}, operand_layouts = [dense<[0, 1]> : tensor<2xindex>], result_layouts = [dense<[0, 1]> : tensor<2xindex>, dense<> : tensor<0xindex>]} : (tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<i32>)',
  );
  expect(await verifyModules([text])).toEqual([null]);
});

it("has no derivative, and says so with its line", () => {
  expect(() =>
    a.grad((x: Tensor) => a.customCall({ name: "anything" }, [x], [x])[0]!.sum())(a.eye(4)),
  ).toThrow(/custom_call \(.*custom-call\.test\.ts:\d+:\d+\) has no derivative/);
});

it("of a name that nobody registered fails at the await, and the process goes on", async () => {
  const [y] = a.customCall(
    { name: "nobody_registered_this" },
    [a.ones([2])],
    [{ shape: [2], dtype: "float32" }],
  );
  await expect(y!.data()).rejects.toThrow(/nobody_registered_this/);
  expect(await a.ones([1]).array()).toEqual([1]);
});
