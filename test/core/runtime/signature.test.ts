import { describe, expect, it } from "vitest";
import { donatedArguments } from "../../../core/src/runtime/signature.js";

describe("reading donations from a program's text", () => {
  it("finds both attributes, whatever stands around them", () => {
    const text = `#loc = loc("a, b) {tf.aliasing_output")
module @m attributes {mhlo.num_partitions = 2 : i32} {
  func.func private @helper(%x: tensor<f32> {tf.aliasing_output = 0 : i32}) -> tensor<f32> { return %x : tensor<f32> }
  func.func public @main(%a: tensor<4xf32> {sdy.sharding = #sdy.sharding<@mesh, [{"x"}, {}]>} loc("a, (b\\""(#loc)),
      %b: tensor<2x3xf32> {tf.aliasing_output = 1 : i32}, %c: tensor<f32, #enc<[1, 2]>>,
      %d: tensor<f32> {jax.buffer_donor = true, mhlo.layout_mode = "default"}) -> (tensor<f32> {jax.result_info = "x"}) {
    return %d : tensor<f32> } }`;
    expect(donatedArguments(text)).toEqual([1, 3]);
  });

  it("finds none where there are none", () => {
    expect(donatedArguments("func.func @main() -> tensor<f32> {")).toEqual([]);
    expect(
      donatedArguments("func.func @main(%a: tensor<f32>) -> (tensor<f32> {jax.buffer_donor = true})"),
    ).toEqual([]);
    expect(donatedArguments("garbage")).toEqual([]);
  });
});
