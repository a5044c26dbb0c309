/** What JavaScript, or a habit from elsewhere, would take silently: each throws, and its fix names what was meant. */
import { inspect } from "node:util";
import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { expect, it } from "vitest";

const x = a.tensor([1.5, -2.5]);
const any = x as unknown as number & number[] & Record<string, number>;
const f = a as unknown as Record<string, (...args: unknown[]) => unknown>;
const random = a.random as unknown as Record<string, (...args: unknown[]) => unknown>;
const methods = x as unknown as Record<string, (...args: unknown[]) => unknown>;
const promise = Promise.resolve(2);

const traps: Record<string, [() => unknown, fix: RegExp]> = {
  "x * 2": [() => any * 2, /x\.mul\(y\) for \*/],
  "2 - x": [() => 2 - any, /x\.sub\(y\)/],
  "x + x": [() => any + any, /x\.add\(y\)/],
  // biome-ignore lint/style/useTemplate: the trap.
  "text + x": [() => "loss " + any, /\$\{x\}/],
  "-x": [() => -any, /x\.neg\(\)/],
  "x ** 2": [() => any ** 2, /x\.pow\(y\)/],
  "x < 0": [() => (any < 0 ? 1 : 2), /x\.less\(y\).*where\(\)/],
  "x >= 0": [() => any >= 0, /x\.greater\(y\)/],
  // biome-ignore lint/suspicious/noDoubleEquals: the trap.
  "x == 0": [() => (any as unknown) == 0, /x\.equal\(y\)/],
  "Math.exp(x)": [() => Math.exp(any), /x\.exp\(\) for Math\.exp/],
  "x[0]": [() => any[0], /x\.slice\(0\).*x\.array\(\)/],
  "x[-1]": [() => any[-1], /x\.slice\(-1\)/],
  "x[0] = 1": [() => Object.assign(any, { 0: 1 }), /x\.at\(0\)\.set\(v\)/],
  "[...x]": [() => [...any], /x\.split\(n\).*x\.array\(\)/],
  "Array.from(x)": [() => Array.from(any), /vmap\(\)/],
  "a condition in jit": [() => a.jit((q: Tensor) => ((q.sum() as never) < 0 ? q.neg() : q))(x), /cond\(\)/],
  "a Promise beside a Tensor": [() => methods.mul!(x.sum().item()), /await it first/],
  "a Promise in an array": [() => methods.add!([promise, 2]), /await it first/],
  "tensor of a Promise": [() => f.tensor!(promise), /await it first/],
  "full of a Promise": [() => f.full!([2], promise), /await it first/],
  "a shape that is a Promise": [() => f.zeros!(promise), /await it first/],
  "a dimension that is a Promise": [() => f.zeros!([2, promise]), /await it first/],
  "an axis that is a Promise": [() => methods.sum!(promise), /await it first/],
  "arange of a Promise": [() => f.arange!(promise), /await it first/],
  "a key that is a Promise": [() => random.normal!(promise, [2]), /await it first/],
  "a missing operand": [() => methods.mul!(), /give all operands/],
  "a missing argument of grad": [
    () => (a.grad((p: Tensor, q: Tensor) => p.mul(q).sum()) as (...args: unknown[]) => unknown)(x),
    /give all operands/,
  ],
  "a missing value": [() => f.full!([2]), /give a number/],
  "a missing shape": [() => random.normal!(0), /give a list of dimensions/],
  "a shape before the key": [() => random.normal!([2, 3]), /the key comes first.*random\.key\(0\), \[2, 3\]/],
  "an array where a Tensor is meant": [() => f.sum!([1, 2]), /make one with tensor\(\)/],
  "concatenate(x, x)": [() => f.concatenate!(x, x), /concatenate\(\[x, y\], axis\)/],
  "stack(x, x)": [() => f.stack!(x, x), /stack\(\[x, y\], axis\)/],
  "concatenate of numbers": [() => f.concatenate!([x, 1]), /make one with tensor\(\)/],
  "tile(x, 2)": [() => f.tile!(x, 2), /tile\(x, \[2\]\)/],
  "tile(x, [1.5])": [() => f.tile!(x, [1.5]), /integers of at least 0/],
  "roll(x, 1.5)": [() => a.roll(x, 1.5), /give an integer/],
  "repeat(x, 0.5)": [() => a.repeat(x, 0.5), /give an integer/],
  "split(x)": [() => f.split!(x), /a list of sizes/],
  "transpose(1, 0)": [() => methods.transpose!(1, 0), /\[1, 0\]/],
  "reshape(2, 1)": [() => methods.reshape!(2, 1), /give a list of dimensions/],
  "pad(1)": [() => methods.pad!(1), /\[before, after\] for each axis: \[\[1, 1\]\]/],
  "slice at a fraction": [() => x.slice([0, 1.5]), /give an integer/],
  "slice at a Tensor": [() => methods.slice!(a.scalar(0, "int32")), /take\(\) and at\(\)/],
  "sum({ keepDims })": [() => methods.sum!({ keepDims: true }), /sum\(undefined, \{ keepDims: true \}\)/],
  "argmax({ axis })": [() => methods.argmax!({ axis: 0 }), /argmax/],
};

it.each(Object.entries(traps))("%s", (_, [wrong, fix]) => {
  let error: unknown;
  try {
    wrong();
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(a.AronnaxError);
  expect((error as a.AronnaxError).fix).toMatch(fix);
  expect((error as a.AronnaxError).message).not.toMatch(/\[object|undefined/);
});

it("text of a Tensor stays as it was", async () => {
  expect(`${x}`).toBe("Tensor float32[2]");
  expect(String(x)).toBe("Tensor float32[2]");
  expect(inspect({ x })).toBe("{ x: Tensor float32[2] }");
  expect(await x).toBe(x);
  expect((x as unknown as Record<string, unknown>).missing).toBeUndefined();
  expect("0" in x).toBe(false);
});
