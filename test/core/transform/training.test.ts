/** Small programs on real images, whole: each step equals the same program's in JAX (test/oracle/training.py). */

import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { expect, it } from "vitest";
import { difference, type HostArray, randomArray, toTensor } from "../../oracle/arrays.js";
import { digits } from "../../oracle/digits.js";
import { askOne, verifyAtEnd } from "../../oracle/oracle.js";

verifyAtEnd();

const host = async (x: Tensor): Promise<HostArray> => {
  await x.wait();
  const buffer = x.buffer!;
  return { dtype: x.dtype, shape: x.shape, data: await buffer.runtime.get(buffer) };
};

async function same(ours: Record<string, Tensor>, theirs: readonly HostArray[]): Promise<void> {
  expect(Object.keys(ours).length).toBe(theirs.length);
  for (const [i, [name, x]] of Object.entries(ours).entries())
    expect(difference(await host(x), theirs[i]!, 1e-5), name).toBeUndefined();
}

const all = digits();
const [batch, held] = [25, 297];

/** Normal-sized starting values: uniform with the variance 1 / fan. */
function draw(shape: readonly number[], fan: number, seed: number): HostArray {
  const { data, dtype } = randomArray("float32", shape, seed, "unit");
  const scale = Math.sqrt(3 / fan) / 0.9;
  const numbers = new Float32Array(new Uint8Array(data).buffer).map((x) => x * scale);
  return { data: new Uint8Array(numbers.buffer), dtype, shape };
}

type Parameters = Record<string, Tensor>;
type Model = (p: Parameters, images: Tensor) => Tensor;

const crossEntropy = (logits: Tensor, labels: Tensor): Tensor =>
  a.takeAlongAxis(logits.logSoftmax(), a.expandDims(labels, -1)).mean().neg();

/** Gradient descent here and in JAX, 60 steps an epoch; at least `least` of the 297 held-out digits are right in the end. */
async function trains(
  name: string,
  model: Model,
  { rate, epochs }: { rate: number; epochs: number },
  start: Record<string, HostArray>,
  least: number,
): Promise<void> {
  const [images, labels] = [toTensor(all.images), toTensor(all.labels)];
  const batches = (1797 - held) / batch;
  const step = a.jit((p: Parameters, i: Tensor) => {
    const of = (x: Tensor): Tensor => x.slice([0, -held]).reshape([batches, batch, ...x.shape.slice(1)]);
    const [x, y] = [images, labels].map((all) => a.squeeze(of(all).take(i), 0)) as [Tensor, Tensor];
    const [value, gradients] = a.valueAndGrad((q: Parameters) => crossEntropy(model(q, x), y))(p);
    const squares = a.tree.leaves(gradients).map((g) => g.square().sum());
    const norm = squares.reduce((s, x) => s.add(x)).sqrt();
    return { value, norm, p: a.tree.map((w, g) => w.sub(g!.mul(rate)), p, gradients) };
  });
  let p: Parameters = a.tree.map(
    (x) => x,
    Object.fromEntries(Object.entries(start).map(([k, v]) => [k, toTensor(v)])),
  );
  const [losses, norms]: [Tensor[], Tensor[]] = [[], []];
  const steps = epochs * batches;
  for (let i = 0; i < steps; i++) {
    const done = step(p, a.tensor([i % batches], { dtype: "int32" }));
    losses.push(done.value);
    norms.push(done.norm);
    p = done.p;
  }
  const [test, truth] = [images.slice([-held, null]), labels.slice([-held, null])];
  const right = model(p, test).argmax().equal(truth).astype("int32").sum();
  const names = Object.keys(start)
    .map((n) => `${n}=${n}`)
    .join(", ");
  const theirs = await askOne(
    `training.train("${name}", ${rate}, ${batch}, ${steps}, ${held}, images, labels, ${names})`,
    { ...start, ...all },
  );
  await same({ losses: a.stack(losses), norms: a.stack(norms), right, ...p }, theirs);
  expect(await right.item()).toBeGreaterThanOrEqual(least);
}

it("a multilayer perceptron", () =>
  trains(
    "mlp",
    ({ w1, b1, w2, b2 }, x) => x.matmul(w1!).add(b1!).relu().matmul(w2!).add(b2!),
    { rate: 0.5, epochs: 1 },
    {
      w1: draw([64, 32], 32, 1),
      b1: draw([32], 1000, 2),
      w2: draw([32, 10], 32, 3),
      b2: draw([10], 1000, 4),
    },
    220,
  ));

it("a convolutional network", () =>
  trains(
    "convolutional",
    ({ k1, k2, w }, x) => {
      const h = a.maxPool(a.conv(x.reshape([-1, 8, 8, 1]), k1!, { padding: "same" }).relu(), 2);
      return a
        .avgPool(a.conv(h, k2!, { padding: "same" }).gelu(), 2)
        .reshape([x.shape[0]!, -1])
        .matmul(w!);
    },
    { rate: 0.1, epochs: 2 },
    { k1: draw([3, 3, 1, 8], 5, 1), k2: draw([3, 3, 8, 16], 36, 2), w: draw([64, 10], 32, 3) },
    200,
  ));

it("an LSTM by scan, which reads the rows", () =>
  trains(
    "lstm",
    ({ wx, wh, b, out }, x) => {
      const cell = ([h, c]: [Tensor, Tensor], row: Tensor): [[Tensor, Tensor], null] => {
        const gates = row.matmul(wx!).add(h.matmul(wh!)).add(b!);
        const [i, f, g, o] = a.split(gates, 4, 1) as [Tensor, Tensor, Tensor, Tensor];
        const next = f.sigmoid().mul(c).add(i.sigmoid().mul(g.tanh()));
        return [[o.sigmoid().mul(next.tanh()), next], null];
      };
      const zeros = a.zeros([x.shape[0]!, 32]);
      const rows = x.reshape([-1, 8, 8]).swapAxes(0, 1);
      return a.scan(cell, [zeros, zeros], rows)[0][0].matmul(out!);
    },
    { rate: 0.7, epochs: 1 },
    {
      wx: draw([8, 128], 4, 1),
      wh: draw([32, 128], 32, 2),
      b: draw([128], 1000, 3),
      out: draw([32, 10], 16, 4),
    },
    150,
  ));

it("Newton's method for softmax regression, by conjugate gradients on Hessian-vector products", async () => {
  const few = digits(500);
  const start = draw([64, 10], 1000, 1);
  const [images, labels] = [toTensor(few.images), toTensor(few.labels)];
  const loss = (w: Tensor): Tensor => crossEntropy(images.matmul(w), labels).add(w.square().sum().mul(0.02));
  const solve = (w: Tensor, b: Tensor): Tensor => {
    type State = [x: Tensor, residual: Tensor, direction: Tensor];
    const step = (_: Tensor, [x, r, d]: State): State => {
      const hd = a.hessianVectorProduct(loss)(w, d);
      const rr = r.square().sum();
      const alpha = rr.div(d.mul(hd).sum());
      const after = r.sub(hd.mul(alpha));
      return [x.add(d.mul(alpha)), after, after.add(d.mul(after.square().sum().div(rr)))];
    };
    const initial: State = [a.zerosLike(b), b, b];
    return a.foriLoop(0, 10, step, initial)[0];
  };
  const iterate = a.jit((w: Tensor): [Tensor, Tensor] => [loss(w), w.sub(solve(w, a.grad(loss)(w)))]);
  let w = toTensor(start);
  const [losses, path]: [Tensor[], Tensor[]] = [[], []];
  for (let i = 0; i < 5; i++) {
    const [value, after] = iterate(w);
    losses.push(value);
    path.push(after);
    w = after;
  }
  const theirs = await askOne("training.newton(images, labels, w)", { ...few, w: start });
  await same({ losses: a.stack(losses), path: a.stack(path) }, theirs);
  // The minimum: no gradient is left.
  expect(await a.grad(loss)(w).abs().max().item()).toBeLessThan(1e-5);
});
