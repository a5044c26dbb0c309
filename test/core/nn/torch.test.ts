/** Layers and losses against PyTorch: values and gradients that test/fixtures/nn/make.py made. */
import "../../support/runtime.js";
import { join } from "node:path";
import { arange, checkpoint, eye, jit, nn, Tensor, tree, valueAndGradWithAux } from "aronnax";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fromBytes } from "../../../core/src/array/creation.js";
import type { DType } from "../../../core/src/graph/dtype.js";

const file = join(import.meta.dirname, "../../fixtures/nn/torch.safetensors");
let opened: checkpoint.SafetensorsFile;
beforeAll(async () => {
  opened = await checkpoint.SafetensorsFile.open(file);
});
afterAll(() => opened.close());

type Named = Record<string, Tensor>;

/** The arrays of a case whose names begin with `kind`, by the rest of their names. */
async function read(name: string, kind: string): Promise<Named> {
  const found: Named = {};
  for (const [key, { dtype, shape }] of opened.tensors) {
    if (!key.startsWith(`${name}/${kind}.`)) continue;
    found[key.slice(name.length + kind.length + 2)] = fromBytes(
      await opened.read(key),
      shape,
      dtype as DType,
    );
  }
  return found;
}

async function close(actual: Named, expected: Named, what: string): Promise<void> {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort());
  for (const [key, wanted] of Object.entries(expected)) {
    expect(actual[key]!.shape, `${what} ${key}`).toEqual(wanted.shape);
    const [a, b] = [await actual[key]!.data(), await wanted.data()];
    let [difference, size] = [0, 0];
    for (let i = 0; i < b.length; i++) {
      difference += (Number(a[i]) - Number(b[i])) ** 2;
      size += Number(b[i]) ** 2;
    }
    // Gradients that are zero but for rounding have no relative error.
    expect(Math.sqrt(difference / Math.max(size, 1e-3)), `${what} ${key}`).toBeLessThan(1e-5);
  }
}

/** What there are gradients of. */
const continuous = (inputs: Named): Named =>
  Object.fromEntries(Object.entries(inputs).filter(([, { dtype }]) => dtype === "float32"));

/** torch's names of our parameters. */
type Names = (path: string) => string;

/** A module with the numbers of a case, by torch's names. */
function filled<M>(module: M, state: Named, names: Names): M {
  return tree.mapNamed((leaf, path) => {
    const value = state[names(path)];
    expect(value, names(path)).toBeDefined();
    expect(value!.shape, names(path)).toEqual(leaf.shape);
    expect(value!.dtype, names(path)).toBe(leaf.dtype);
    return value;
  }, module);
}

/** Computes a case with our module, and compares outputs, gradients and buffers. */
async function check<M>(
  name: string,
  module: M,
  run: (module: M, inputs: Named) => Tensor | Named,
  names: Names = nn.checkpointName,
): Promise<void> {
  const state = await read(name, "state");
  const model = filled(module, state, names);
  expect([...tree.named(model).keys()].map(names).sort()).toEqual(Object.keys(state).sort());
  const [inputs, cotangents] = [await read(name, "input"), await read(name, "cotangent")];
  const slopes = await read(name, "gradient");
  const program = jit((m: M, given: Named, g: Named) =>
    nn.withUpdates(m, (live) =>
      valueAndGradWithAux((both: { m: M; given: Named }) => {
        const result = run(both.m, { ...given, ...both.given });
        const outputs = result instanceof Tensor ? { y: result } : result;
        const parts = Object.entries(outputs).map(([key, y]) => y.mul(g[key]!).sum());
        return [parts.reduce((a, b) => a.add(b)), outputs] as const;
      })({ m: live, given: continuous(given) }),
    ),
  );
  const [[, gradients, outputs], after] = program(model, inputs, cotangents);
  await close(outputs, await read(name, "output"), "output");
  const ours: Named = {};
  for (const [path, value] of tree.named(gradients.m)) ours[`state.${names(path)}`] = value;
  for (const [key, value] of Object.entries(gradients.given)) ours[`input.${key}`] = value;
  const compared = Object.fromEntries(Object.keys(slopes).map((key) => [key, ours[key]!]));
  await close(compared, slopes, "gradient of");
  const buffers = await read(name, "after");
  const named = new Map([...tree.named(after)].map(([path, value]) => [names(path), value]));
  await close(
    Object.fromEntries(Object.keys(buffers).map((key) => [key, named.get(key)!])),
    buffers,
    "buffer",
  );
}

describe("recurrent layers equal PyTorch's", () => {
  const deep = { layers: 2, bidirectional: true };
  it.each<[string, nn.LSTM]>([
    ["lstm", new nn.LSTM(5, 6)],
    ["lstm-no-bias", new nn.LSTM(5, 6, { bias: false })],
    ["lstm-deep", new nn.LSTM(5, 6, deep)],
  ])("%s", (name, lstm) =>
    check(name, lstm, (m, { x, lengths, hidden, cell }) => {
      const state = hidden && { hidden, cell: cell! };
      const { output, state: last } = m.forward(x!, { lengths, state });
      return { y: output, ...last };
    }),
  );
  it.each<[string, nn.GRU]>([
    ["gru", new nn.GRU(5, 6)],
    ["gru-no-bias", new nn.GRU(5, 6, { bias: false })],
    ["gru-deep", new nn.GRU(5, 6, deep)],
  ])("%s", (name, gru) =>
    check(name, gru, (m, { x, lengths, hidden }) => {
      const { output, state } = m.forward(x!, { lengths, state: hidden && { hidden } });
      return { y: output, ...state };
    }),
  );
});

type Layer = nn.Module & { forward(x: Tensor): Tensor };
type Trained = nn.Module & { forward(x: Tensor, options?: { training?: boolean }): Tensor };

describe("convolutions, pooling and normalization equal PyTorch's", () => {
  it.each<[string, Layer]>([
    [
      "conv3d",
      new nn.Conv3d(4, 6, [3, 2, 1], {
        strides: [2, 1, 1],
        padding: [
          [1, 1],
          [0, 0],
          [0, 0],
        ],
        groups: 2,
      }),
    ],
    ["depthwise", new nn.DepthwiseConv(4, [3, 2], { padding: 1, multiplier: 2 })],
    [
      "conv-transpose1d",
      new nn.ConvTranspose1d(4, 6, 4, { strides: 3, padding: 1, outputPadding: 2, groups: 2, dilation: 2 }),
    ],
    [
      "conv-transpose2d",
      new nn.ConvTranspose2d(4, 3, [3, 4], {
        strides: [2, 3],
        padding: [
          [1, 1],
          [0, 0],
        ],
        outputPadding: [1, 0],
      }),
    ],
    ["conv-transpose3d", new nn.ConvTranspose3d(4, 2, 2, { strides: 2, bias: false })],
    ["max-pool", new nn.MaxPool([3, 2], { strides: 2, padding: 1 })],
    ["avg-pool", new nn.AvgPool(3, { strides: 2, padding: 1 })],
    ["avg-pool-uncounted", new nn.AvgPool(3, { strides: 2, padding: 1, countPadding: false })],
    ["adaptive-pool", new nn.AdaptiveAvgPool([3, 4])],
    ["adaptive-pool-whole", new nn.AdaptiveAvgPool(3)],
    ["instance-norm", new nn.InstanceNorm(4, { affine: true })],
    ["weight-norm", nn.weightNorm(new nn.Conv1d(4, 6, 3))],
    ["spectral-norm-evaluation", nn.spectralNorm(new nn.Linear(5, 7, { bias: true }))],
    ["spectral-norm-transposed-evaluation", nn.spectralNorm(new nn.ConvTranspose1d(4, 6, 3))],
    ["batch-norm-rows-evaluation", new nn.BatchNorm(4)],
    ["batch-norm-volume-evaluation", new nn.BatchNorm(4, { epsilon: 1e-3 })],
  ])("%s", (name, layer) => check(name, layer, (m, { x }) => m.forward(x!)));

  it.each<[string, Trained]>([
    ["batch-norm-rows", new nn.BatchNorm(4)],
    ["batch-norm-signal", new nn.BatchNorm(4)],
    ["batch-norm-image", new nn.BatchNorm(4, { momentum: null })],
    ["batch-norm-volume", new nn.BatchNorm(4, { momentum: 0.3, epsilon: 1e-3 })],
    ["spectral-norm", nn.spectralNorm(new nn.Linear(5, 7, { bias: true }), { iterations: 2 })],
    ["spectral-norm-transposed", nn.spectralNorm(new nn.ConvTranspose1d(4, 6, 3), { iterations: 2 })],
  ])("%s in training", (name, layer) => check(name, layer, (m, { x }) => m.forward(x!, { training: true })));

  it("batch-norm-masked: padding does not count", () =>
    check("batch-norm-masked", new nn.BatchNorm(4), (m, { x, mask }) =>
      m.forward(x!, { training: true, mask }).mul(mask!.expandDims(1).astype("float32")),
    ));
});

it("cross-attention equals PyTorch's, with masks and a bias", async () => {
  const name = "cross-attention";
  const state = await read(name, "state");
  const [q, k, v] = state.in_proj_bias!.split(3) as [Tensor, Tensor, Tensor];
  const renamed: Record<string, string> = {
    "q_proj.weight": "q_proj_weight",
    "k_proj.weight": "k_proj_weight",
    "v_proj.weight": "v_proj_weight",
    "out_proj.weight": "out_proj.weight",
    "out_proj.bias": "out_proj.bias",
  };
  const biases: Named = { "q_proj.bias": q, "k_proj.bias": k, "v_proj.bias": v };
  const layer = new nn.MultiheadCrossAttention(8, 2, { keyFeatures: 6, valueFeatures: 5 });
  const model = tree.mapNamed((_, path) => {
    const to = nn.checkpointName(path);
    return biases[to] ?? state[renamed[to]!];
  }, layer);
  const [inputs, { y: cotangent }] = [await read(name, "input"), await read(name, "cotangent")];
  const program = jit((m: nn.MultiheadCrossAttention, given: Named, g: Tensor) =>
    valueAndGradWithAux((both: { m: typeof m; given: Named }) => {
      const { query, key, value, bias } = both.given;
      const y = both.m.forward(query!, key!, value!, { mask: given.mask, bias: bias!.expandDims([0, 1]) });
      return [y.mul(g).sum(), y] as const;
    })({ m, given: continuous(given) }),
  );
  const [, { m: slopes, given }, y] = program(model, inputs, cotangent!);
  await close({ y }, await read(name, "output"), "output");
  const ours: Named = {
    "state.in_proj_bias": slopes.qProj.bias!,
    ...Object.fromEntries(Object.entries(given).map(([key, value]) => [`input.${key}`, value])),
  };
  for (const [path, value] of tree.named(slopes)) {
    const to = renamed[nn.checkpointName(path)];
    if (to !== undefined) ours[`state.${to}`] = value;
  }
  const expected = await read(name, "gradient");
  const [slopeQ, , slopeV] = expected["state.in_proj_bias"]!.split(3) as [Tensor, Tensor, Tensor];
  await close({ q: slopes.qProj.bias!, v: slopes.vProj.bias! }, { q: slopeQ, v: slopeV }, "gradient of bias");
  delete expected["state.in_proj_bias"];
  await close(
    Object.fromEntries(Object.keys(expected).map((key) => [key, ours[key]!])),
    expected,
    "gradient of",
  );
});

it("T5's buckets equal transformers'", async () => {
  const relative = arange(-150, 151);
  const forms: Record<string, nn.RelativeBuckets> = {
    both: {},
    causal: { bidirectional: false },
    few: { buckets: 12, maxDistance: 40 },
  };
  for (const [name, options] of Object.entries(forms)) {
    const bytes = await opened.read(`t5-${name}/buckets`);
    const expected = [...new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)];
    expect(await nn.relativeBucket(relative, options).array(), name).toEqual(expected);
  }
});

describe("losses equal PyTorch's", () => {
  type Loss = (logits: Tensor, targets: Tensor, given: Named) => Tensor;
  const smooth = { labelSmoothing: 0.15 };
  /** linearCrossEntropy of the logits themselves: the head is the identity. */
  const linear =
    (options: nn.LinearCrossEntropyOptions): Loss =>
    (logits, targets) =>
      nn.linearCrossEntropy(logits, eye(logits.shape.at(-1)!), targets, { chunk: 4, ...options });
  it.each<[string, string, Loss]>([
    ["cross-entropy", "crossEntropy", (x, y) => nn.crossEntropy(x, y)],
    ["cross-entropy-smooth", "crossEntropy", (x, y) => nn.crossEntropy(x, y, smooth)],
    ["cross-entropy-ignore", "crossEntropy", (x, y) => nn.crossEntropy(x, y.maximum(0), { ignoreIndex: 0 })],
    ["cross-entropy", "linearCrossEntropy", linear({})],
    ["cross-entropy-smooth", "linearCrossEntropy", linear(smooth)],
    [
      "cross-entropy-ignore",
      "linearCrossEntropy",
      (x, y, given) => linear({ ignoreIndex: 0 })(x, y.maximum(0), given),
    ],
    [
      "binary-cross-entropy",
      "binaryCrossEntropyWithLogits",
      (x, y, { positive }) => nn.binaryCrossEntropyWithLogits(x, y, { positiveWeight: positive }),
    ],
  ])("%s by %s", (name, _, loss) =>
    check(name, {}, (_m, given) => loss(given.logits!, given.targets!, given)),
  );
});
