/** LSTM and GRU: masks, states, dropout and what is compiled; torch.test.ts has their values and gradients against PyTorch. */
import "../../support/runtime.js";
import { grad, jit, nn, random, type Tensor, tensor, tree, zeros } from "aronnax";
import { describe, expect, it } from "vitest";

const lstm = nn.initialize(new nn.LSTM(4, 5, { layers: 2, bidirectional: true }), 1);
const x = random.normal(0, [3, 6, 4]);

async function distance(a: Tensor, b: Tensor): Promise<number> {
  return a.sub(b).abs().max().item();
}

it("names parameters as PyTorch does", () => {
  expect(
    [...tree.named(new nn.GRU(4, 5, { layers: 2, bidirectional: true })).keys()].map(nn.checkpointName),
  ).toEqual([
    ...["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"],
    ...["weight_ih_l0_reverse", "weight_hh_l0_reverse", "bias_ih_l0_reverse", "bias_hh_l0_reverse"],
    ...["weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1"],
    ...["weight_ih_l1_reverse", "weight_hh_l1_reverse", "bias_ih_l1_reverse", "bias_hh_l1_reverse"],
  ]);
  expect(tree.named(lstm).get("weightIhL1Reverse")!.shape).toEqual([20, 10]);
});

it("gives each row of a ragged batch what it gives the row alone", async () => {
  const lengths = [6, 2, 4];
  const { output, state } = lstm.forward(x, { lengths: tensor(lengths, { dtype: "int32" }) });
  for (const [row, length] of lengths.entries()) {
    const alone = lstm.forward(x.slice([row, row + 1], [0, length]));
    expect(await distance(output.slice([row, row + 1], [0, length]), alone.output)).toBeLessThan(1e-6);
    expect(await distance(state.cell.slice(null, [row, row + 1]), alone.state.cell)).toBeLessThan(1e-6);
    if (length < 6) expect(await output.slice(row, [length, null]).abs().max().item()).toBe(0);
  }
});

it("leaves out the times that a mask leaves out, wherever they are", async () => {
  const gru = nn.initialize(new nn.GRU(4, 5, { bidirectional: true }), 2);
  const kept = [0, 2, 3, 5];
  const mask = tensor([[true, false, true, true, false, true]]);
  const one = x.slice([0, 1]);
  const { output, state } = gru.forward(one, { mask });
  const ids = tensor(kept, { dtype: "int32" });
  const alone = gru.forward(one.take(ids, 1));
  expect(await distance(output.take(ids, 1), alone.output)).toBeLessThan(1e-6);
  expect(await distance(state.hidden, alone.state.hidden)).toBeLessThan(1e-6);
});

it("goes on from a state: two halves are the whole", async () => {
  const forwards = nn.initialize(new nn.LSTM(4, 5, { layers: 2 }), 3);
  const whole = forwards.forward(x);
  const first = forwards.forward(x.slice(null, [0, 2]));
  const second = forwards.forward(x.slice(null, [2, null]), { state: first.state });
  expect(await distance(second.output, whole.output.slice(null, [2, null]))).toBeLessThan(1e-6);
  expect(await distance(second.state.cell, whole.state.cell)).toBeLessThan(1e-6);
});

it("drops between layers where there is a key, by the key", async () => {
  const deep = nn.initialize(new nn.LSTM(4, 5, { layers: 2, dropout: 0.5 }), 4);
  const run = (key?: number) => deep.forward(x, { key }).output;
  expect(await distance(run(1), run(1))).toBe(0);
  expect(await distance(run(1), run(2))).toBeGreaterThan(0);
  expect(await distance(run(), run(1))).toBeGreaterThan(0);
});

it("is one loop for each direction, however long the sequences are", () => {
  const text = (time: number) =>
    jit((m: nn.LSTM, y: Tensor) => m.forward(y).output).lower(lstm, zeros([3, time, 4])).text;
  const [short, long] = [text(5), text(500)];
  expect(short.match(/stablehlo\.while/g)).toHaveLength(4);
  expect(long.split("\n").length).toBe(short.split("\n").length);
});

it("computes in the type of its parameters and inputs", async () => {
  const half = nn.castTree(nn.initialize(new nn.GRU(4, 5), 5), "bfloat16");
  const { output, state } = half.forward(x.astype("bfloat16"));
  expect(output.dtype).toBe("bfloat16");
  expect(state.hidden.dtype).toBe("bfloat16");
  const wide = nn.castTree(half, "float32").forward(x).output;
  expect(await distance(output.astype("float32"), wide)).toBeLessThan(0.03);
});

it.each<[string, (dtype: "bfloat16" | "float32") => Promise<Map<string, Tensor>>]>(
  [nn.LSTM, nn.GRU].map((kind) => [
    kind.name,
    async (dtype) => {
      // One long sequence whose parts of the gradients have one sign: in bfloat16 their sum would stop growing at 256 times a part.
      const layer = nn.castTree(nn.castTree(nn.initialize(new kind(4, 5), 6), "bfloat16"), dtype);
      const long = random.uniform(8, [1, 2000, 4]).astype("bfloat16").astype(dtype);
      const slopes = jit((m: nn.LSTM | nn.GRU, y: Tensor) =>
        grad((live: typeof m) => live.forward(y).output.astype("float32").sum())(m),
      )(layer, long);
      return tree.named(slopes);
    },
  ]),
)("sums the gradients of %s over long sequences in float32", async (_, slopes) => {
  const [half, wide] = [await slopes("bfloat16"), await slopes("float32")];
  for (const [path, expected] of wide) {
    const got = half.get(path)!;
    expect(got.dtype).toBe("bfloat16");
    const error = got.astype("float32").sub(expected).square().sum().sqrt();
    expect(await error.div(expected.square().sum().sqrt()).item(), path).toBeLessThan(0.02);
  }
});

describe("what does not fit is named", () => {
  const lengths = tensor([1, 2, 3], { dtype: "int32" });
  it.each<[string, () => unknown, RegExp]>([
    ["other inputs", () => lstm.forward(zeros([3, 6, 5])), /LSTM of 4 inputs: x has shape \[3, 6, 5\]/],
    ["lengths of floats", () => lstm.forward(x, { lengths: zeros([3]) }), /lengths are float32/],
    [
      "lengths of other rows",
      () => lstm.forward(x, { lengths: lengths.slice([0, 2]) }),
      /lengths \[2\] for 3 rows/,
    ],
    ["a mask of other times", () => lstm.forward(x, { mask: zeros([3, 5]).equal(0) }), /mask \[3, 5\] for x/],
    ["both", () => lstm.forward(x, { lengths, mask: zeros([3, 6]).equal(0) }), /lengths and a mask/],
    [
      "a state of one loop",
      () => lstm.forward(x, { state: { hidden: zeros([1, 3, 5]), cell: zeros([4, 3, 5]) } }),
      /state.hidden is \[1, 3, 5\]/,
    ],
    [
      "a state without a cell",
      () => lstm.forward(x, { state: { hidden: zeros([4, 3, 5]) } as never }),
      /state.cell is missing/,
    ],
    ["no hidden features", () => new nn.LSTM(4, undefined as never), /LSTM: hidden is undefined/],
    ["no layers", () => new nn.GRU(4, 5, { layers: 0 }), /GRU: layers is 0/],
    ["an unknown option", () => new nn.GRU(4, 5, { bidirectionl: true } as never), /bidirectionl/],
  ])("%s", (_, run, message) => expect(run).toThrow(message));
});
