/** Programs of the runtime's benchmark, over a mesh of `n` devices with the one axis `x`. */
import type { Sharding } from "../../core/dist/runtime/types.js";

export type Element = "f32" | "bf16";

/** The first dimension split over `n` devices. */
export function ring(n: number): Sharding {
  return { mesh: [["x", n]], spec: [["x"]] };
}

const meshOf = (n: number) => `sdy.mesh @mesh = <["x"=${n}]>`;
const rows = `{sdy.sharding = #sdy.sharding<@mesh, [{"x"}, {}]>}`;
const inPlace = `{sdy.sharding = #sdy.sharding<@mesh, [{"x"}, {}]>, tf.aliasing_output = 0 : i32}`;
const whole = `{sdy.sharding = #sdy.sharding<@mesh, []>}`;

/** `@main(a, b) -> a + b` on float32[8], the first taken by donation. */
export function step(n: number): string {
  const t = "tensor<8xf32>";
  const split = `sdy.sharding = #sdy.sharding<@mesh, [{"x"}]>`;
  return `module @step { ${meshOf(n)}
    func.func public @main(%a: ${t} {${split}, tf.aliasing_output = 0 : i32}, %b: ${t} {${split}}) -> (${t} {${split}}) {
      %0 = stablehlo.add %a, %b : ${t}
      return %0 : ${t} } }`;
}

/** `@main(a) -> (a aT) a` on float32[size, 16], in place, by way of a matrix of size x size. */
export function throughGram(size: number): string {
  const [t, square] = [`tensor<${size}x16xf32>`, `tensor<${size}x${size}xf32>`];
  return `func.func @main(%a: ${t} {tf.aliasing_output = 0 : i32}) -> ${t} {
    %0 = stablehlo.dot_general %a, %a, contracting_dims = [1] x [1] : (${t}, ${t}) -> ${square}
    %1 = stablehlo.dot_general %0, %a, contracting_dims = [1] x [0] : (${square}, ${t}) -> ${t}
    return %1 : ${t} }`;
}

/** `@main(a, b) -> a b` on square bfloat16 matrices of one device. */
export function product(size: number): string {
  const t = `tensor<${size}x${size}xbf16>`;
  return `func.func @main(%a: ${t}, %b: ${t}) -> ${t} {
    %0 = stablehlo.dot_general %a, %b, contracting_dims = [1] x [0] : (${t}, ${t}) -> ${t}
    return %0 : ${t} }`;
}

/** `@main(a) -> (a + sum(a), sum(a))` on float32[n, 4], a row a device, the first in place. */
export function reduction(n: number): string {
  const t = `tensor<${n}x4xf32>`;
  return `module @reduction { ${meshOf(n)}
    func.func public @main(%a: ${t} ${inPlace})
      -> (${t} ${rows}, tensor<f32> ${whole}) {
      %z = stablehlo.constant dense<0.0> : tensor<f32>
      %1 = stablehlo.reduce(%a init: %z) applies stablehlo.add across dimensions = [0, 1] : (${t}, tensor<f32>) -> tensor<f32>
      %b = stablehlo.broadcast_in_dim %1, dims = [] : (tensor<f32>) -> ${t}
      %0 = stablehlo.add %a, %b : ${t}
      return %0, %1 : ${t}, tensor<f32> } }`;
}

/**
 * `@main(a, b)` on float32[n, width], a row a device: `a`, in place, becomes (a + b) mod `modulus`, so many rounds; with an exchange the
 * sum of `a` over the rows is added too.
 */
export function mix(n: number, width: number, rounds: number, exchange: boolean, modulus: number): string {
  const [t, row] = [`tensor<${n}x${width}xf32>`, `tensor<${width}xf32>`];
  const lines = Array.from({ length: rounds }, (_, r) => {
    const a = r === 0 ? "%a" : `%a${r}`;
    const sum = `
      %s${r} = stablehlo.reduce(${a} init: %z) applies stablehlo.add across dimensions = [0] : (${t}, tensor<f32>) -> ${row}
      %e${r} = stablehlo.broadcast_in_dim %s${r}, dims = [1] : (${row}) -> ${t}
      %u${r} = stablehlo.add %t${r}, %e${r} : ${t}`;
    return `
      %t${r} = stablehlo.add ${a}, %b : ${t}${exchange ? sum : ""}
      %a${r + 1} = stablehlo.remainder ${exchange ? "%u" : "%t"}${r}, %m : ${t}`;
  });
  return `module @mix { ${meshOf(n)}
    func.func public @main(%a: ${t} ${inPlace}, %b: ${t} ${rows})
      -> (${t} ${rows}) {
      %z = stablehlo.constant dense<0.0> : tensor<f32>
      %m = stablehlo.constant dense<${modulus}.0> : ${t} ${lines.join("")}
      return %a${rounds} : ${t} } }`;
}

/** `@main(a)` on float32[n, width], a row a device: the least and the greatest element of each row. */
export function extremes(n: number, width: number): string {
  const [t, out] = [`tensor<${n}x${width}xf32>`, `tensor<${n}xf32>`];
  const split = `{sdy.sharding = #sdy.sharding<@mesh, [{"x"}]>}`;
  return `module @extremes { ${meshOf(n)}
    func.func public @main(%a: ${t} ${rows}) -> (${out} ${split}, ${out} ${split}) {
      %low = stablehlo.constant dense<0xFF800000> : tensor<f32>
      %high = stablehlo.constant dense<0x7F800000> : tensor<f32>
      %0 = stablehlo.reduce(%a init: %high) applies stablehlo.minimum across dimensions = [1] : (${t}, tensor<f32>) -> ${out}
      %1 = stablehlo.reduce(%a init: %low) applies stablehlo.maximum across dimensions = [1] : (${t}, tensor<f32>) -> ${out}
      return %0, %1 : ${out}, ${out} } }`;
}

/** `@main(a)` on [n, elements], a row a device: every row becomes the sum of all, in place. */
export function allReduce(n: number, elements: number, element: Element): string {
  const [t, part] = [`tensor<${n}x${elements}x${element}>`, `tensor<1x${elements}x${element}>`];
  const split = `[<@mesh, [{"x"}, {}]>]`;
  const group = Array.from({ length: n }, (_, i) => i).join(", ");
  return `module @all_reduce { ${meshOf(n)}
    func.func public @main(%a: ${t} ${inPlace}) -> (${t} ${rows}) {
      %0 = sdy.manual_computation(%a) in_shardings=${split} out_shardings=${split} manual_axes={"x"} (%b: ${part}) {
        %1 = "stablehlo.all_reduce"(%b) <{replica_groups = dense<[[${group}]]> : tensor<1x${n}xi64>, channel_handle = #stablehlo.channel_handle<handle = 1, type = 1>, use_global_device_ids}> ({
        ^bb0(%x: tensor<${element}>, %y: tensor<${element}>):
          %s = stablehlo.add %x, %y : tensor<${element}>
          stablehlo.return %s : tensor<${element}>
        }) : (${part}) -> ${part}
        sdy.return %1 : ${part}
      } : (${t}) -> ${t}
      return %0 : ${t} } }`;
}

/**
 * Arrays for `allReduce`: `ones`; a `ramp`, j mod 16 + i at row i and column j, whose sum bfloat16 holds exactly; and `wrong`, which
 * counts where an array is not the sum of that ramp's rows, and gives the least and the greatest element.
 */
export function spread(
  n: number,
  elements: number,
  element: Element,
  what: "ones" | "ramp" | "wrong",
): string {
  const t = `tensor<${n}x${elements}x${element}>`;
  const i32 = `tensor<${n}x${elements}xi32>`;
  const f32 = `tensor<${n}x${elements}xf32>`;
  if (what === "ones") {
    return `module @ones { ${meshOf(n)}
      func.func public @main() -> (${t} ${rows}) {
        %0 = stablehlo.constant dense<1.0> : ${t}
        return %0 : ${t} } }`;
  }
  const columns = `
        %j = stablehlo.iota dim = 1 : ${i32}
        %p = stablehlo.constant dense<16> : ${i32}
        %m = stablehlo.remainder %j, %p : ${i32}`;
  if (what === "ramp") {
    return `module @ramp { ${meshOf(n)}
      func.func public @main() -> (${t} ${rows}) { ${columns}
        %i = stablehlo.iota dim = 0 : ${i32}
        %s = stablehlo.add %m, %i : ${i32}
        %0 = stablehlo.convert %s : (${i32}) -> ${t}
        return %0 : ${t} } }`;
  }
  const [b, scalar] = [`tensor<${n}x${elements}xi1>`, "tensor<f32>"];
  return `module @wrong { ${meshOf(n)}
    func.func public @main(%x: ${t} ${rows}) -> (tensor<i32> ${whole}, ${scalar} ${whole}, ${scalar} ${whole}) { ${columns}
      %n = stablehlo.constant dense<${n}> : ${i32}
      %c = stablehlo.constant dense<${(n * (n - 1)) / 2}> : ${i32}
      %e = stablehlo.multiply %m, %n : ${i32}
      %s = stablehlo.add %e, %c : ${i32}
      %f = stablehlo.convert %s : (${i32}) -> ${f32}
      %g = stablehlo.convert %x : (${t}) -> ${f32}
      %d = stablehlo.compare NE, %f, %g : (${f32}, ${f32}) -> ${b}
      %k = stablehlo.convert %d : (${b}) -> ${i32}
      %zero = stablehlo.constant dense<0> : tensor<i32>
      %low = stablehlo.constant dense<0xFF800000> : ${scalar}
      %high = stablehlo.constant dense<0x7F800000> : ${scalar}
      %0 = stablehlo.reduce(%k init: %zero) applies stablehlo.add across dimensions = [0, 1] : (${i32}, tensor<i32>) -> tensor<i32>
      %1 = stablehlo.reduce(%g init: %high) applies stablehlo.minimum across dimensions = [0, 1] : (${f32}, ${scalar}) -> ${scalar}
      %2 = stablehlo.reduce(%g init: %low) applies stablehlo.maximum across dimensions = [0, 1] : (${f32}, ${scalar}) -> ${scalar}
      return %0, %1, %2 : tensor<i32>, ${scalar}, ${scalar} } }`;
}

/** What `fill` puts at row i and column j of float32[rows, columns]: (i columns + j) mod 1021 + t. */
function pattern(height: number, width: number): string {
  const [f32, i32] = [`tensor<${height}x${width}xf32>`, `tensor<${height}x${width}xi32>`];
  return `
      %i = stablehlo.iota dim = 0 : ${i32}
      %j = stablehlo.iota dim = 1 : ${i32}
      %w = stablehlo.constant dense<${width}> : ${i32}
      %q = stablehlo.constant dense<1021> : ${i32}
      %r = stablehlo.multiply %i, %w : ${i32}
      %s = stablehlo.add %r, %j : ${i32}
      %m = stablehlo.remainder %s, %q : ${i32}
      %f = stablehlo.convert %m : (${i32}) -> ${f32}
      %u = stablehlo.broadcast_in_dim %t, dims = [] : (tensor<f32>) -> ${f32}
      %v = stablehlo.add %f, %u : ${f32}`;
}

/** `@main(t) -> float32[height, width]` by rows over the devices: values that tell every element's place. */
export function fill(n: number, height: number, width: number): string {
  const f32 = `tensor<${height}x${width}xf32>`;
  return `module @fill { ${meshOf(n)}
    func.func public @main(%t: tensor<f32> ${whole}) -> (${f32} ${rows}) { ${pattern(height, width)}
      return %v : ${f32} } }`;
}

/** `@main(x, t)`: how many elements of `x`, which lies as `sharding` says, are not what `fill` gave. */
export function filled(n: number, height: number, width: number, sharding: Sharding): string {
  const [f32, i32] = [`tensor<${height}x${width}xf32>`, `tensor<${height}x${width}xi32>`];
  const b = `tensor<${height}x${width}xi1>`;
  const spec = [0, 1].map((d) => `{${(sharding.spec[d] ?? []).map((axis) => `"${axis}"`).join(", ")}}`);
  return `module @filled { ${meshOf(n)}
    func.func public @main(%x: ${f32} {sdy.sharding = #sdy.sharding<@mesh, [${spec.join(", ")}]>}, %t: tensor<f32> ${whole})
      -> (tensor<i32> ${whole}) { ${pattern(height, width)}
      %d = stablehlo.compare NE, %v, %x : (${f32}, ${f32}) -> ${b}
      %k = stablehlo.convert %d : (${b}) -> ${i32}
      %zero = stablehlo.constant dense<0> : tensor<i32>
      %0 = stablehlo.reduce(%k init: %zero) applies stablehlo.add across dimensions = [0, 1] : (${i32}, tensor<i32>) -> tensor<i32>
      return %0 : tensor<i32> } }`;
}
