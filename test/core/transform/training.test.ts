/** Small programs, whole: each step equals the same program's in JAX. */

import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { expect, it } from "vitest";
import { difference, type HostArray, randomArray, toTensor } from "../../oracle/arrays.js";
import { askOne, verifyAtEnd } from "../../oracle/oracle.js";

verifyAtEnd();

const host = async (x: Tensor): Promise<HostArray> => {
  await x.wait();
  const buffer = x.buffer!;
  return { dtype: x.dtype, shape: x.shape, data: await buffer.runtime.get(buffer) };
};

async function same(ours: readonly Tensor[], theirs: readonly HostArray[]): Promise<void> {
  expect(ours.length).toBe(theirs.length);
  for (const [i, x] of ours.entries())
    expect(difference(await host(x), theirs[i]!, 1e-4), `result ${i}`).toBeUndefined();
}

const draw = (shape: readonly number[], seed: number): HostArray =>
  randomArray("float32", shape, seed, "unit");
const tensors = <K extends string>(arrays: Record<K, HostArray>): Record<K, Tensor> =>
  Object.fromEntries(Object.entries(arrays).map(([k, v]) => [k, toTensor(v as HostArray)])) as Record<
    K,
    Tensor
  >;

/** Eight steps of gradient descent: the losses, then the parameters. */
async function descend<P extends Record<string, Tensor>>(
  loss: (p: P) => Tensor,
  start: P,
): Promise<Tensor[]> {
  const step = a.jit((p: P): [Tensor, P] => {
    const [value, gradients] = a.valueAndGrad(loss)(p);
    return [value, a.tree.map((x, g) => x.sub(g!.mul(0.1)), p, gradients)];
  });
  let p = start;
  const losses: Tensor[] = [];
  for (let i = 0; i < 8; i++) {
    const [value, next] = step(p);
    losses.push(value);
    p = next;
  }
  return [a.stack(losses), ...Object.values(p)];
}

const pythonDescent = (loss: string, names: readonly string[]): string =>
  `(lambda step: (lambda r: (r[1], *(r[0][n] for n in [${names.map((n) => `"${n}"`).join(", ")}])))(lax.scan(step, {${names.map((n) => `"${n}": ${n}`).join(", ")}}, None, length=8)))(lambda p, _: (lambda v, g: (jax.tree.map(lambda x, d: x - 0.1 * d, p, g), v))(*jax.value_and_grad(${loss})(p)))`;

it("a multilayer perceptron", async () => {
  const arrays = { w1: draw([64, 32], 1), b1: draw([32], 2), w2: draw([32, 10], 3), x: draw([16, 64], 4) };
  const { x, ...p } = tensors(arrays);
  const labels = a.iota([16], 0).mod(10);
  const loss = ({ w1, b1, w2 }: typeof p): Tensor => {
    const logits = x.matmul(w1).add(b1).relu().matmul(w2);
    return a
      .takeAlongAxis(logits.logSoftmax(), labels.reshape([16, 1]))
      .mean()
      .neg();
  };
  const code = pythonDescent(
    "lambda p: -jnp.mean(jnp.take_along_axis(nn.log_softmax(nn.relu(x @ p['w1'] + p['b1']) @ p['w2']), (jnp.arange(16) % 10)[:, None], -1))",
    ["w1", "b1", "w2"],
  );
  await same(await descend(loss, p), await askOne(code, arrays));
});

it("a convolutional network", async () => {
  const arrays = {
    k1: draw([3, 3, 1, 4], 1),
    k2: draw([3, 3, 4, 8], 2),
    w: draw([32, 10], 3),
    x: draw([6, 8, 8, 1], 4),
  };
  const { x, ...p } = tensors(arrays);
  const loss = ({ k1, k2, w }: typeof p): Tensor => {
    const h = a.maxPool(a.conv(x, k1, { padding: "same" }).relu(), 2);
    const logits = a
      .avgPool(a.conv(h, k2, { padding: "same" }).gelu(), 2)
      .reshape([6, -1])
      .matmul(w);
    return logits.logSoftmax().slice(null, 3).mean().neg();
  };
  const conv = (y: string, k: string): string =>
    `lax.conv_general_dilated(${y}, p["${k}"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))`;
  const pool = (y: string, init: string, op: string): string =>
    `lax.reduce_window(${y}, ${init}, ${op}, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")`;
  const h = pool(`nn.relu(${conv("x", "k1")})`, "-jnp.inf", "lax.max");
  const logits = `jnp.reshape(${pool(`nn.gelu(${conv(h, "k2")}, approximate=False)`, "0.", "lax.add")} / 4, (6, -1)) @ p["w"]`;
  await same(
    await descend(loss, p),
    await askOne(
      pythonDescent(`lambda p: -jnp.mean(nn.log_softmax(${logits})[:, 3])`, ["k1", "k2", "w"]),
      arrays,
    ),
  );
});

it("an LSTM by scan", async () => {
  const arrays = {
    wx: draw([5, 32], 1),
    wh: draw([8, 32], 2),
    out: draw([8, 1], 3),
    xs: draw([12, 4, 5], 4),
  };
  const { xs, ...p } = tensors(arrays);
  const zeros = a.zeros([4, 8]);
  const loss = ({ wx, wh, out }: typeof p): Tensor => {
    const cell = ([h, c]: [Tensor, Tensor], x: Tensor): [[Tensor, Tensor], Tensor] => {
      const [i, f, g, o] = a.split(x.matmul(wx).add(h.matmul(wh)), 4, 1) as [Tensor, Tensor, Tensor, Tensor];
      const next = f.sigmoid().mul(c).add(i.sigmoid().mul(g.tanh()));
      const shown = o.sigmoid().mul(next.tanh());
      return [[shown, next], shown.matmul(out)];
    };
    return a.scan(cell, [zeros, zeros], xs)[1].sub(1).square().mean();
  };
  const cell =
    "lambda s, x: (lambda z: (lambda c: (lambda h: ((h, c), h @ p['out']))(nn.sigmoid(z[3]) * jnp.tanh(c)))(nn.sigmoid(z[1]) * s[1] + nn.sigmoid(z[0]) * jnp.tanh(z[2])))(jnp.split(x @ p['wx'] + s[0] @ p['wh'], 4, 1))";
  const code = pythonDescent(
    `lambda p: jnp.mean((lax.scan(${cell}, (jnp.zeros((4, 8)), jnp.zeros((4, 8))), xs)[1] - 1) ** 2)`,
    ["wx", "wh", "out"],
  );
  await same(await descend(loss, p), await askOne(code, arrays));
});

it("Newton's method by conjugate gradients on Hessian-vector products", async () => {
  const arrays = { x: draw([5], 1), m: draw([5, 5], 2) };
  const { x, m } = tensors(arrays);
  const f = (v: Tensor): Tensor => m.matmul(v).square().sum().add(v.exp().sum());
  const newton = a.jit((start: Tensor): Tensor => {
    const solve = (at: Tensor, b: Tensor): Tensor => {
      const initial: [Tensor, Tensor, Tensor] = [a.zerosLike(b), b, b];
      return a.foriLoop(
        0,
        5,
        (_, [s, r, d]: [Tensor, Tensor, Tensor]): [Tensor, Tensor, Tensor] => {
          const hd = a.hessianVectorProduct(f)(at, d);
          const rr = r.mul(r).sum();
          const alpha = rr.div(d.mul(hd).sum().add(1e-12));
          const next = r.sub(hd.mul(alpha));
          return [s.add(d.mul(alpha)), next, next.add(d.mul(next.mul(next).sum().div(rr.add(1e-12))))];
        },
        initial,
      )[0];
    };
    return a.foriLoop(0, 4, (_, v: Tensor) => v.sub(solve(v, a.grad(f)(v))), start);
  });
  const code = `(lambda f: lax.fori_loop(0, 12, lambda _, v: v - jnp.linalg.solve(jax.hessian(f)(v), jax.grad(f)(v)), x))(lambda v: jnp.sum((m @ v) ** 2) + jnp.sum(jnp.exp(v)))`;
  await same([newton(x)], await askOne(code, arrays));
});
