/** What a notebook shows of Tensors and trees. */
import * as a from "aronnax";
import { expect, it } from "vitest";

type Bundle = Record<string, string>;
const show = async (x: object): Promise<Bundle> =>
  (x as Record<symbol, () => Bundle | Promise<Bundle>>)[Symbol.for("Jupyter.display")]!();
const text = async (x: object): Promise<string | undefined> => (await show(x))["text/plain"];

it("shows a matrix in columns, with shape, type and device", async () => {
  const x = a.tensor([
    [1, -2.5],
    [0.00001234567, 1e10],
  ]);
  expect(await text(x)).toBe(
    "[[          1,        -2.5],\n [  1.2346e-5, 10000000000]]\nfloat32[2, 2] on cpu",
  );
});

it.each([
  [() => a.tensor(2.5), "2.5\nfloat32[] on cpu"],
  [() => a.tensor([true, false]), "[ true, false]\nbool[2] on cpu"],
  [() => a.tensor(BigInt64Array.of(2n ** 60n)), "[1.1529e+18]\nint64[1] on cpu"],
  [() => a.complex(a.tensor([1, 0.5]), a.tensor([-2, 0])), "[  1-2i, 0.5+0i]\ncomplex64[2] on cpu"],
  [() => a.tensor([1 / 0, 0 / 0, -0.1]), "[Infinity,      NaN,     -0.1]\nfloat32[3] on cpu"],
  [() => a.zeros([0, 3]), "[] float32[0, 3] on cpu"],
  [() => a.arange(0, 20), "[ 0,  1,  2,  3, …, 16, 17, 18, 19]\nint32[20] on cpu"],
  [() => a.arange(0, 4).reshape([2, 2, 1]), "[0]:\n[[0],\n [1]]\n[1]:\n[[2],\n [3]]\nint32[2, 2, 1] on cpu"],
])("shows what a tensor holds, %#", async (x, expected) => {
  expect(await text(x())).toBe(expected);
});

it("brings only the corners of a large tensor from the device", async () => {
  const x = a
    .iota([2000, 3000], 0)
    .mul(3000)
    .add(a.iota([2000, 3000], 1));
  const shown = (await text(x))!;
  const rows = shown.split("\n");
  expect(rows.at(-1)).toBe("int32[2000, 3000] on cpu");
  expect(rows[0]).toBe("[[      0,       1,       2,       3, …,    2996,    2997,    2998,    2999],");
  expect(rows.at(-2)!.trim()).toBe(
    "[5997000, 5997001, 5997002, 5997003, …, 5999996, 5999997, 5999998, 5999999]]",
  );
  expect(rows.length).toBe(10);
});

it("shows a table in HTML", async () => {
  const html = (await show(a.tensor([[1, 2]])))["text/html"]!;
  expect(html.replaceAll(/ style="[^"]*"/g, "")).toBe(
    "<div><table><tbody><tr><td>1</td><td>2</td></tr></tbody></table><small>float32[1, 2] on cpu</small></div>",
  );
});

it("says that a traced tensor has no numbers", async () => {
  let traced: a.Tensor | undefined;
  a.jit((x: a.Tensor) => {
    traced = x;
    return x.add(1);
  })(a.zeros([2]));
  expect(await text(traced!)).toBe("float32[2], being traced: it has no numbers yet");
});

it("sums up a tree: layers that are alike in one row", async () => {
  const layer = () => ({ weight: a.zeros([4, 4]), bias: a.zeros([4], { dtype: "bfloat16" }) });
  const tree = { embedding: a.zeros([1000, 4]), layers: [layer(), layer(), layer()], rate: 0.1 };
  const summary = a.tree.summary(tree);
  expect(`${summary}`).toBe(`path             type               elements      size
embedding        float32[1000, 4]      4,000  15.6 KiB
layers.*.weight  3 × float32[4, 4]        48     192 B
layers.*.bias    3 × bfloat16[4]          12      24 B
total            7 Tensors             4,060  15.8 KiB`);
  const bundle = await show(summary);
  expect(bundle["text/plain"]).toBe(`${summary}`);
  expect(bundle["text/html"]).toContain(">layers.*.weight</td>");
  expect(a.tree.summary([a.zeros([2])]).rows[0]!.path).toBe("0");
});

it("shows what a lowered function costs, and its text without locations", async () => {
  const lowered = a.jit((x: a.Tensor) => x.matmul(x).add(1)).lower(a.zeros([256, 256]));
  const [costs, head, ...body] = (await text(lowered))!.split("\n");
  expect(costs).toBe(
    "4 operations, 33,619,968 FLOPs, 768.0 KiB on the device " +
      "(arguments 256.0 KiB, outputs 256.0 KiB, aliased 0 B, temporaries 256.0 KiB)",
  );
  expect(head).toBe("module @jit {");
  expect(body.some((line) => line.includes("stablehlo.dot_general"))).toBe(true);
  expect(body.join("\n")).not.toMatch(/loc\(/);
});

it("shows the first lines of a long program", async () => {
  const lowered = a
    .jit((x: a.Tensor) => Array.from({ length: 100 }).reduce((y: a.Tensor) => y.sin().add(1), x))
    .lower(a.zeros([3]));
  const lines = (await text(lowered))!.split("\n");
  expect(lines).toHaveLength(62);
  expect(lines.at(-1)).toMatch(/^\.\.\. \d+ more lines: text has them all$/);
});
