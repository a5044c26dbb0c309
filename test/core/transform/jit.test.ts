import "../../support/runtime.js";
import { jit, type Tensor, tensor } from "aronnax";
import { expect, it, vi } from "vitest";
import { Runtime } from "../../../core/src/runtime/runtime.js";

it("hands the compiler what it is told for one function alone", async () => {
  const compile = vi.spyOn(Runtime.prototype, "compile");
  const f = (x: Tensor): Tensor => x.mul(3).add(1);
  const plain = jit(f, { name: "plain" });
  const told = jit(f, {
    name: "told",
    compiler: { optimizationLevel: 2, flags: { xla_gpu_deterministic_ops: true } },
  });
  for (const each of [plain, told]) expect(await each(tensor([1, 2])).data()).toEqual(Float32Array.of(4, 7));
  const options = new Map(compile.mock.calls.map(([request]) => [request.name, request.options]));
  expect(options.get("plain")).toBeUndefined();
  expect(options.get("told")).toEqual({ optimizationLevel: 2, flags: { xla_gpu_deterministic_ops: true } });
  compile.mockRestore();
  const wrong = jit(f, { name: "wrong", compiler: { flags: { xla_no_such_flag: true } } });
  await expect(wrong(tensor([1, 2])).data()).rejects.toThrow(/xla_no_such_flag/);
});
