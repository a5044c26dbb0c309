import "../../support/runtime.js";
import { readFileSync } from "node:fs";
import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { describe, expect, it } from "vitest";

const matrix = (rows: number, columns: number): Tensor => a.zeros([rows, columns]);

interface Expected {
  error: new (...args: never[]) => a.AronnaxError;
  message: string;
  fix?: string;
}

/** Each entry ends where the next begins: the reported line must lie within. */
const mistakes: Record<string, [() => unknown, Expected]> = {
  "shapes that do not broadcast": [
    () => a.add(matrix(2, 3), matrix(2, 4)),
    {
      error: a.ShapeError,
      message: "add: shapes [2, 3] and [2, 4] do not broadcast: axis -1 is 3 in one and 4 in another",
      fix: "axes must be equal or 1",
    },
  ],
  "a mismatched matrix product": [
    () => matrix(2, 3).matmul(matrix(4, 5)),
    {
      error: a.ShapeError,
      message: "matmul of [2, 3] and [4, 5]: the last axis of the first is 3 and axis 0 of the second is 4",
      fix: "transpose or reshape",
    },
  ],
  "a matrix product with a scalar": [
    () => matrix(2, 3).matmul(a.scalar(1, "float32")),
    { error: a.ShapeError, message: "matmul of [2, 3] and []", fix: "mul()" },
  ],
  "a product with what is no tensor": [
    () => matrix(2, 3).matmul([[1]] as never),
    { error: a.ArgumentError, message: "matmul of the Tensor float32[2, 3] and an array", fix: "tensor()" },
  ],
  "a shape that is a number": [
    () => matrix(2, 3).reshape(6 as never),
    { error: a.ShapeError, message: "reshape: the shape is 6", fix: "[6]" },
  ],
  "an equation with two arrows": [
    () => a.einsum("ij->->", matrix(2, 3)),
    { error: a.ArgumentError, message: 'einsum "ij->->"', fix: "one arrow" },
  ],
  "a negative number of parts": [
    () => a.split(matrix(2, 3), -1),
    { error: a.ArgumentError, message: "split: the number of parts is -1" },
  ],
  "a negative size": [
    () => a.dynamicSlice(matrix(2, 3), [0, 0], [-1, 1]),
    { error: a.ShapeError, message: "dynamicSlice: [-1, 1] is no shape" },
  ],
  "a fraction of points": [
    () => a.linspace(0, 1, 2.5),
    { error: a.ShapeError, message: "linspace: [2.5] is no shape" },
  ],
  "a range beyond its type": [
    () => a.arange(0, 300, 1, { dtype: "int8" }),
    { error: a.DTypeError, message: "299 is outside int8" },
  ],
  "a fraction of padding": [
    () => a.conv(a.ones([1, 5, 1]), a.ones([2, 1, 1]), { padding: 0.5 }),
    { error: a.ArgumentError, message: "padding of 0.5 for 1 spatial axes" },
  ],
  "an axis out of range": [
    () => matrix(2, 3).sum(2),
    {
      error: a.ArgumentError,
      message: "sum: axis 2 of a tensor with 2 dimensions",
      fix: "use an axis from -2 to 1",
    },
  ],
  "an axis named twice": [
    () => matrix(2, 3).sum([0, -2]),
    { error: a.ArgumentError, message: "name one axis twice" },
  ],
  "a permutation that misses an axis": [
    () => matrix(2, 3).transpose([0]),
    { error: a.ArgumentError, message: "transpose: [0] for 2 dimensions" },
  ],
  "a reshape to another size": [
    () => matrix(2, 3).reshape([4, 2]),
    { error: a.ShapeError, message: "reshape: [2, 3] has 6 elements and [4, 2] 8" },
  ],
  "two free dimensions": [
    () => matrix(2, 3).reshape([-1, -1]),
    { error: a.ArgumentError, message: "reshape: [-1, -1] has more than one -1" },
  ],
  "a shape that is none": [() => a.zeros([2, -1]), { error: a.ShapeError, message: "[2, -1] is no shape" }],
  "an unknown einsum label": [
    () => a.einsum("ij,jk->iz", matrix(2, 3), matrix(3, 4)),
    { error: a.ArgumentError, message: 'einsum "ij,jk->iz": output label "z" is in no operand' },
  ],
  "an einsum of other sizes": [
    () => a.einsum("ij,jk->ik", matrix(2, 3), matrix(4, 5)),
    { error: a.ShapeError, message: 'einsum "ij,jk->ik": label "j" is 3' },
  ],
  "an einsum with a missing operand": [
    () => a.einsum("ij,jk->ik", matrix(2, 3)),
    { error: a.ArgumentError, message: "2 terms for 1 operands" },
  ],
  "an integer operation on floats": [
    () => a.and(matrix(2, 2), matrix(2, 2)),
    { error: a.DTypeError, message: "and of float32", fix: ".astype()" },
  ],
  "float8 mixed with float32": [
    () => a.add(matrix(2, 2).astype("float8_e5m2"), matrix(2, 2)),
    { error: a.DTypeError, message: "float8_e5m2 and float32 have no common type", fix: ".astype(" },
  ],
  "float indices": [
    () => a.take(matrix(2, 2), matrix(1, 1)),
    { error: a.DTypeError, message: "take: indices are Tensor float32[1, 1]", fix: 'astype("int32")' },
  ],
  "an index out of range": [
    () => matrix(2, 3).slice(2),
    { error: a.ArgumentError, message: "slice: index 2 of axis 0, which has length 2" },
  ],
  "too many indices": [
    () => matrix(2, 3).slice(0, 0, 0),
    { error: a.ArgumentError, message: "slice: 3 indices for shape [2, 3]" },
  ],
  "a fraction as an integer": [
    () => a.scalar(1.5, "int32"),
    { error: a.DTypeError, message: "1.5 is no int32" },
  ],
  "an integer out of range": [
    () => a.zeros([2], { dtype: "int8" }).add(300),
    { error: a.DTypeError, message: "300 is outside int8, -128 to 127" },
  ],
  "a ragged array": [() => a.tensor([[1, 2], [3]]), { error: a.ShapeError, message: "ragged nested array" }],
  "a typed array of another length": [
    () => a.tensor(new Float32Array(5), { shape: [2, 3] }),
    { error: a.ShapeError, message: "5 elements do not fill shape [2, 3]" },
  ],
  "a condition that is not bool": [
    () => a.where(matrix(2, 2), 1, 2),
    { error: a.DTypeError, message: "where: the condition is float32" },
  ],
  "an extremum of nothing": [
    () => a.zeros([0, 2]).max(0),
    { error: a.ShapeError, message: "max over an axis of length 0 of [0, 2]" },
  ],
  "tensors of other shapes joined": [
    () => a.concatenate([matrix(2, 3), matrix(2, 4)]),
    { error: a.ShapeError, message: "concatenate along axis 0: float32[2, 3], float32[2, 4]" },
  ],
  "an uneven split": [
    () => a.split(matrix(2, 3), 2, 1),
    { error: a.ArgumentError, message: "split: axis 1 of length 3 into 2 equal parts" },
  ],
  "a key that is none": [
    () => a.random.normal(a.zeros([3]), [2]),
    {
      error: a.ArgumentError,
      message: "a random key is a uint32[2], not the Tensor float32[3]",
      fix: "random.key(seed)",
    },
  ],
  "a loss that is no scalar": [
    () => a.grad((x: Tensor) => x.mul(2))(matrix(2, 2)),
    {
      error: a.ShapeError,
      message: "grad: the function returned Tensor float32[2, 2]",
      fix: ".sum() or .mean()",
    },
  ],
  "a loss that is an integer": [
    () => a.grad((x: Tensor) => x.astype("int32").sum())(matrix(2, 2)),
    { error: a.DTypeError, message: "grad: the function returned Tensor int32[]" },
  ],
  "a gradient with respect to integers": [
    () => a.grad((x: Tensor) => x.sum())(a.tensor([1, 2], { dtype: "int32" })),
    { error: a.DTypeError, message: "argument 0 is Tensor int32[2]", fix: "floating-point" },
  ],
  "a gradient with respect to an integer in a tree": [
    () =>
      a.grad((t: { w: Tensor; n: Tensor }) => t.w.sum())({
        w: matrix(1, 1),
        n: a.tensor([1], { dtype: "int32" }),
      }),
    { error: a.DTypeError, message: '"n" of argument 0 is Tensor int32[1]' },
  ],
  "a gradient with respect to nothing": [
    () => a.grad((x: number) => a.scalar(x, "float32"))(2),
    { error: a.ArgumentError, message: "grad: argument 0 holds no Tensors" },
  ],
  "a loss that is a number": [
    () => a.grad((() => 3) as unknown as (x: Tensor) => Tensor)(matrix(1, 1)),
    { error: a.ArgumentError, message: "grad: the function returned number 3", fix: "return a Tensor" },
  ],
  "an asynchronous function": [
    () => a.grad((async () => a.zeros([])) as unknown as (x: Tensor) => Tensor)(matrix(1, 1)),
    { error: a.ArgumentError, message: "grad: the function is asynchronous", fix: "await before or after" },
  ],
  "an asynchronous jitted function": [
    () => a.jit(async (x: Tensor) => x)(matrix(1, 1)),
    { error: a.ArgumentError, message: "jit: the function is asynchronous" },
  ],
  "a cotangent of another shape": [
    () => a.vjp((x: Tensor) => x.sum(), matrix(2, 2))[1](matrix(1, 1)),
    {
      error: a.ShapeError,
      message: "vjp: a cotangent of Tensor float32[1, 1] for an output of Tensor float32[]",
    },
  ],
  "a gradient through integers": [
    () => a.grad((x: Tensor) => x.astype("int32").astype("float32").sum())(matrix(2, 2)),
    {
      error: a.DTypeError,
      message: "through integers only: convert makes Tensor int32[2, 2] of Tensor float32[2, 2]",
      fix: "customVjp",
    },
  ],
  "a gradient through the place of the largest": [
    () => a.grad((x: Tensor) => x.argmax().astype("float32").sum())(matrix(2, 2)),
    { error: a.DTypeError, message: "argreduce makes Tensor int32[2]" },
  ],
  "a gradient through a loop without bound": [
    () =>
      a.grad((x: Tensor) =>
        a.whileLoop(
          (s: Tensor) => s.less(3),
          (s: Tensor) => s.add(1),
          x,
        ),
      )(a.scalar(0, "float32")),
    { error: a.ArgumentError, message: "while (", fix: "jvp()" },
  ],
  "a state that changes its type": [
    () =>
      a.scan(
        (s: Tensor, x: Tensor): [Tensor, null] => [s.add(x).astype("bfloat16"), null],
        matrix(1, 2),
        matrix(3, 2),
      ),
    {
      error: a.ShapeError,
      message: "scan: the state went in as Tensor float32[1, 2] and came back as Tensor bfloat16[1, 2]",
      fix: ".astype()",
    },
  ],
  "a state of another structure": [
    () =>
      a.scan(((s: { a: Tensor }, x: Tensor) => [{ b: s.a }, x]) as never, { a: matrix(1, 1) }, matrix(3, 2)),
    { error: a.ArgumentError, message: "scan: the state went in with a and came back with b" },
  ],
  "sequences of other lengths": [
    () =>
      a.scan((s: Tensor, x: Tensor[]): [Tensor, Tensor] => [s, x[0]!], matrix(1, 1), [
        matrix(3, 1),
        matrix(4, 1),
      ]),
    { error: a.ShapeError, message: 'scan: the sequence "1" Tensor float32[4, 1] has 4 steps where 3' },
  ],
  "branches of other shapes": [
    () =>
      a.cond(
        a.scalar(true, "bool"),
        (x: Tensor) => x,
        (x: Tensor) => x.sum(),
        matrix(1, 2),
      ),
    {
      error: a.ShapeError,
      message: "cond: the result is Tensor float32[] in branch 0 and Tensor float32[1, 2]",
    },
  ],
  "a mapped axis out of range": [
    () => a.vmap((x: Tensor) => x, { in: 3 })(matrix(2, 2)),
    {
      error: a.ArgumentError,
      message: "vmap: argument 0, Tensor float32[2, 2]: axis 3",
      fix: "from -2 to 1",
    },
  ],
  "a result's axis out of range": [
    () => a.vmap((x: Tensor) => x, { out: 5 })(matrix(2, 2)),
    { error: a.ArgumentError, message: "vmap: out: axis 5", fix: "from -2 to 1" },
  ],
  "mapped axes of other lengths": [
    () => a.vmap((x: Tensor, y: Tensor) => x.add(y))(matrix(2, 2), matrix(3, 2)),
    { error: a.ShapeError, message: "vmap: axis 0 of argument 1, Tensor float32[3, 2], has length 3" },
  ],
  "a promise as an argument": [
    () => a.jit((x: Tensor) => x)(Promise.resolve(matrix(1, 1)) as never),
    { error: a.ArgumentError, message: 'a tree holds a Promise at "0"', fix: "await" },
  ],
  "a dtype that there is not": [
    () => matrix(1, 1).astype("half" as never),
    { error: a.DTypeError, message: 'astype: there is no dtype "half"', fix: "float16" },
  ],
  "a number as a shape": [
    () => a.zeros(3 as never),
    { error: a.ShapeError, message: "the shape is 3", fix: "[3]" },
  ],
  "a text as an axis": [
    () => matrix(1, 1).sum("0" as never),
    { error: a.ArgumentError, message: 'sum: axis "0"' },
  ],
  "bits read as a type of another size": [
    () => a.bitcast(matrix(1, 1), "int8"),
    { error: a.DTypeError, message: "bitcast of float32 to int8", fix: "astype()" },
  ],
  "padding that removes more than there is": [
    () =>
      a.pad(matrix(2, 2), [
        [-3, 0],
        [0, 0],
      ]),
    { error: a.ShapeError, message: "pad of [2, 2] by [-3, 0] before and [0, 0] after" },
  ],
  "more paired axes than there are": [
    () => a.tensordot(matrix(2, 3), matrix(3, 2), 3),
    { error: a.ArgumentError, message: "tensordot of [2, 3] and [3, 2] over 3" },
  ],
  "the remainder of complex numbers": [
    () => a.rem(a.complex(matrix(1, 1)), 2),
    { error: a.DTypeError, message: "rem of complex64", fix: "real()" },
  ],
  "an order of complex numbers": [
    () => a.less(a.complex(matrix(1, 1)), 2),
    { error: a.DTypeError, message: "less of complex64", fix: "abs()" },
  ],
  "complex numbers sorted": [
    () => a.sort(a.complex(matrix(1, 1))),
    { error: a.DTypeError, message: "sort of complex64", fix: "abs()" },
  ],
  "a donated argument that is not there": [
    () => a.jit((x: Tensor) => x, { donate: [1] })(matrix(1, 1)),
    { error: a.ArgumentError, message: "jit: donated argument 1 of a call with 1" },
  ],
};

const lines = readFileSync(new URL(import.meta.url), "utf8").split("\n");

describe("a mistake is refused while tracing, with the line of the call", () => {
  it.each(Object.keys(mistakes))("%s", (name) => {
    const [make, { error, message, fix }] = mistakes[name]!;
    let thrown: unknown;
    try {
      make();
    } catch (e) {
      thrown = e;
    }
    expect(thrown).toBeInstanceOf(error);
    const raised = thrown as a.AronnaxError;
    expect(raised.message).toContain(message);
    if (fix !== undefined) expect(raised.fix).toContain(fix);
    const at = /errors\.test\.ts:(\d+):\d+$/.exec(raised.at ?? "");
    expect(at, `at is ${raised.at}`).not.toBeNull();
    const entry = lines.slice(0, Number(at![1])).findLast((line) => /^ {2}"[^"]*": \[/.test(line));
    expect(entry).toContain(`"${name}": [`);
  });
});

describe("a value outside its trace", () => {
  it("asked for its data says where it was traced", async () => {
    let leaked: Tensor | undefined;
    a.jit((x: Tensor) => {
      leaked = x.mul(2);
      return x;
    })(a.ones([3]));
    await expect(leaked!.data()).rejects.toThrow(
      /the data of a traced value of float32\[3\] were asked for, or it was kept after its trace ended/,
    );
    await expect(leaked!.data()).rejects.toBeInstanceOf(a.TraceError);
  });

  it("used in another trace is refused", () => {
    let leaked: Tensor | undefined;
    a.jit((x: Tensor) => {
      leaked = x;
      return x;
    })(a.ones([3]));
    expect(() => a.jit((y: Tensor) => y.add(leaked!))(a.ones([3]))).toThrow(a.TraceError);
  });

  it("asked for its data inside the trace is refused, and the process goes on", async () => {
    let inside: Promise<unknown> | undefined;
    a.jit((x: Tensor) => {
      inside = x.data();
      inside.catch(() => {});
      return x;
    })(a.ones([2]));
    await expect(inside).rejects.toThrow(a.TraceError);
    expect(await a.ones([2]).array()).toEqual([1, 1]);
  });

  it("of a gradient can be read, since nothing but values led to it", async () => {
    const kept: Tensor[] = [];
    await a
      .grad((x: Tensor) => {
        kept.push(x.mul(3));
        return x.sum();
      })(a.ones([2]))
      .data();
    expect(await kept[0]!.array()).toEqual([3, 3]);
  });
});

describe("a tensor that is gone", () => {
  it("says that it was freed", async () => {
    const x = await a.ones([2]).wait();
    x.dispose();
    await expect(x.data()).rejects.toThrow(/was freed/);
    expect(() => a.jit((y: Tensor) => y.mul(2))(x)).toThrow(/was freed/);
  });

  it("says who took it by donation", async () => {
    const step = a.jit((x: Tensor) => x.add(1), { donate: [0], name: "step" });
    const x = await a.ones([2]).wait();
    expect(await step(x).array()).toEqual([2, 2]);
    await expect(x.data()).rejects.toThrow(/was donated to step/);
  });
});
