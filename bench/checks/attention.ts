/**
 * Attention and the chunked cross-entropy in bfloat16, as this device computes them (cuDNN's fused kernels on NVIDIA GPUs), against plain
 * float32 operations on the same numbers: outputs and every gradient. Needs no files, so that it runs from a bundle.
 */
import { jit, nn, onesLike, random, type Tensor, tensor, tree, vjp } from "aronnax";

export interface Check {
  readonly name: string;
  /** Root of the summed squares of the differences, over that of the expected values. */
  readonly relativeError: number;
  readonly limit: number;
}

interface Case extends nn.AttentionOptions {
  readonly name: string;
  readonly batch?: number;
  readonly time?: number;
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly headDim?: number;
}

const ints = (values: readonly number[], shape: readonly number[]): Tensor =>
  tensor(Int32Array.from(values), { shape });

/** Documents of a few lengths, one after the other: [2, time]. */
function documents(time: number): Tensor {
  const rows = [
    [37, 101, 5, 200],
    [time - 3, 3],
  ].map((lengths) => {
    const row: number[] = [];
    for (let i = 0; row.length < time; i++) {
      const length = lengths[i % lengths.length]!;
      for (let k = 0; k < length && row.length < time; k++) row.push(i + 1);
    }
    return row;
  });
  return ints(rows.flat(), [2, time]);
}

const time = 512;
const segments = documents(time);
const keyStart = ints([0, 77], [2]);

const cases: readonly Case[] = [
  { name: "causal" },
  { name: "causal, head width 128", headDim: 128 },
  { name: "causal, head width 256", headDim: 256 },
  { name: "no mask", causal: false },
  { name: "one key head for all", keyHeads: 1 },
  { name: "as many key heads as heads", keyHeads: 8 },
  { name: "odd length", time: 333 },
  { name: "window", window: 100 },
  { name: "window, head width 256", window: 100, headDim: 256 },
  { name: "segments", segments },
  { name: "segments, head width 128", segments, headDim: 128 },
  { name: "segments, head width 256", segments, headDim: 256 },
  { name: "segments, no causal mask", segments, causal: false },
  { name: "segments, window", segments, window: 50 },
  { name: "padding", keyStart },
  { name: "padding, window, segments", keyStart, window: 64, segments },
  { name: "soft cap", softCap: 2 },
  { name: "soft cap, window, head width 256", softCap: 2, window: 100, headDim: 256 },
  { name: "soft cap, some queries at a time", softCap: 2, batch: 1, time: 4096 },
];

const bfloat16Limit = 0.02;

function relativeErrors(actual: unknown, expected: unknown): Map<string, Tensor> {
  const wanted = tree.named(expected);
  return new Map(
    [...tree.named(actual)].map(([path, value]) => {
      const exact = wanted.get(path)!;
      const difference = value.astype("float32").sub(exact).square().sum().sqrt();
      return [path, difference.div(exact.square().sum().sqrt())];
    }),
  );
}

async function rows(name: string, limit: number, errors: Map<string, Tensor>): Promise<Check[]> {
  return Promise.all(
    [...errors].map(async ([path, error]) => ({
      name: `${name}: ${path}`,
      relativeError: await error.item(),
      limit,
    })),
  );
}

function checkCase(options: Case): Promise<Check[]> {
  const {
    batch = 2,
    time: length = time,
    heads = 8,
    keyHeads = 2,
    headDim = 64,
    name,
    ...attention
  } = options;
  const run = jit(() => {
    const draw = (seed: number, count: number): Tensor =>
      random.normal(seed, [batch, length, count, headDim]).astype("bfloat16").astype("float32");
    const [q, k, v, g] = [draw(1, heads), draw(2, keyHeads), draw(3, keyHeads), draw(4, heads)];
    // What a padding query gets is not defined.
    const defined =
      attention.keyStart === undefined
        ? undefined
        : ints([...Array(length).keys()], [1, length, 1, 1]).greaterEqual(
            attention.keyStart.expandDims([1, 2, 3]),
          );
    const masked = (x: Tensor): Tensor => (defined === undefined ? x : x.mul(defined.astype(x.dtype)));
    const compute = (dtype: "bfloat16" | "float32") => {
      const attend = (...x: [Tensor, Tensor, Tensor]) => masked(nn.attention(...x, attention));
      const [output, pull] = vjp(
        attend,
        ...([q, k, v].map((x) => x.astype(dtype)) as [Tensor, Tensor, Tensor]),
      );
      const [dQ, dK, dV] = pull(g.astype(dtype));
      return { output, dQ, dK, dV };
    };
    return Object.fromEntries(relativeErrors(compute("bfloat16"), compute("float32")));
  });
  return rows(`attention, ${name}`, bfloat16Limit, new Map(Object.entries(run())));
}

/** The loss of 4 x 256 positions over 32,000 classes, in chunks, against float32 in one. */
function checkLoss(softCap?: number): Promise<Check[]> {
  const run = jit(() => {
    const draw = (seed: number, shape: readonly number[], scale: number): Tensor =>
      random.normal(seed, shape).mul(scale).astype("bfloat16");
    const [hidden, weight] = [draw(1, [4, 256, 1024], 1), draw(2, [32_000, 1024], 0.1)];
    const targets = random.integers(3, [4, 256], 0, 32_000);
    const weights = random.uniform(4, [4, 256]).greater(0.2).astype("float32");
    const compute = (dtype: "bfloat16" | "float32") => {
      const loss = (h: Tensor, w: Tensor) =>
        nn.linearCrossEntropy(h, w, targets, { weights, softCap, chunk: dtype === "bfloat16" ? 100 : 256 });
      const [value, pull] = vjp(loss, hidden.astype(dtype), weight.astype(dtype));
      const [dHidden, dWeight] = pull(onesLike(value));
      return { value, dHidden, dWeight };
    };
    return Object.fromEntries(relativeErrors(compute("bfloat16"), compute("float32")));
  });
  return rows(
    `cross-entropy${softCap === undefined ? "" : ", soft cap"}`,
    bfloat16Limit,
    new Map(Object.entries(run())),
  );
}

/** Every comparison, one after the other, each told to `report`; `only` limits it to the names that hold this text. */
export async function checkAttention(only = "", report?: (check: Check) => void): Promise<Check[]> {
  const found: Check[] = [];
  const add = (checks: readonly Check[]): void => {
    for (const each of checks) report?.(each);
    found.push(...checks);
  };
  for (const options of cases) if (`attention, ${options.name}`.includes(only)) add(await checkCase(options));
  for (const softCap of [undefined, 3]) if ("cross-entropy".includes(only)) add(await checkLoss(softCap));
  return found;
}
