/**
 * Time to trace and print programs: 10,000 operations and their derivative, and the loss and gradients of a 22-layer transformer, the
 * last side by side with JAX's trace and lowering of the same function (peers/trace_jax.py). Nothing is compiled or run.
 *
 * usage: node bench/array/trace.mjs [--repeats 5] [--operations 10000] [--layers 22]      after `npx tsc -b core`
 */
import { execFileSync } from "node:child_process";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { placeholder } from "../../core/dist/array/bind.js";
import { close } from "../../core/dist/array/program.js";
import { lower } from "../../core/dist/graph/lowering.js";
import * as ar from "../../core/dist/index.js";

const { values } = parseArgs({
  options: {
    repeats: { type: "string", default: "5" },
    operations: { type: "string", default: "10000" },
    layers: { type: "string", default: "22" },
  },
});
const [repeats, operations, layers] = [values.repeats, values.operations, values.layers].map(Number);
const here = path.dirname(fileURLToPath(import.meta.url));

/** The sizes of a 1.1B Llama; peers/trace_jax.py has the same. */
const size = { layers, embed: 2048, heads: 32, head: 64, mlp: 5632, vocab: 32000, batch: 16, time: 2048 };

const input = (dtype, ...shape) => placeholder({ shape, dtype });

function parameters() {
  const { embed, mlp, vocab } = size;
  const matrix = (rows, columns) => input("float32", rows, columns);
  const layer = () => ({
    norm1: input("float32", embed),
    query: matrix(embed, embed),
    key: matrix(embed, embed),
    value: matrix(embed, embed),
    out: matrix(embed, embed),
    norm2: input("float32", embed),
    gate: matrix(embed, mlp),
    up: matrix(embed, mlp),
    down: matrix(mlp, embed),
  });
  return {
    embedding: matrix(vocab, embed),
    layers: Array.from({ length: size.layers }, layer),
    norm: input("float32", embed),
    head: matrix(embed, vocab),
  };
}

const norm = (x, weight) => x.mul(x.square().mean(-1, { keepDims: true }).add(1e-6).rsqrt()).mul(weight);

function loss(p, tokens, targets) {
  const { batch, time, heads, head, embed } = size;
  const dense = (x, w) => x.matmul(w.astype("bfloat16"));
  const mask = ar.tril(ar.ones([time, time], { dtype: "bool" }));
  let x = p.embedding.astype("bfloat16").take(tokens);
  for (const layer of p.layers) {
    const h = norm(x, layer.norm1.astype("bfloat16"));
    const split = (w) => dense(h, w).reshape([batch, time, heads, head]);
    const scores = ar.einsum("bqhd,bkhd->bhqk", split(layer.query), split(layer.key)).mul(head ** -0.5);
    const weights = ar.where(mask, scores.astype("float32"), -1e30).softmax(-1).astype("bfloat16");
    const mixed = ar.einsum("bhqk,bkhd->bqhd", weights, split(layer.value)).reshape([batch, time, embed]);
    x = x.add(dense(mixed, layer.out));
    const m = norm(x, layer.norm2.astype("bfloat16"));
    x = x.add(dense(dense(m, layer.gate).silu().mul(dense(m, layer.up)), layer.down));
  }
  const logits = dense(norm(x, p.norm.astype("bfloat16")), p.head).astype("float32");
  const own = ar.takeAlongAxis(logits, ar.expandDims(targets, -1), -1).squeeze(-1);
  return logits.logsumexp(-1).sub(own).mean();
}

function chain(x, w) {
  let y = x;
  for (let i = 0; i < operations / 4; i++) y = y.matmul(w).tanh().mul(x).add(w);
  return y;
}

/** Milliseconds of the first time and the best of all, those of the processor (which other programs do not change), and the operations printed. */
function measure(program) {
  const times = [];
  const cpu = [];
  let printed = 0;
  for (let i = 0; i < repeats; i++) {
    const [start, used] = [performance.now(), process.cpuUsage()];
    const { inputs, outputs } = program();
    const module = lower(close(outputs, inputs), { platform: "cpu" });
    printed = module.operations;
    void module.text.length;
    times.push(performance.now() - start);
    const { user, system } = process.cpuUsage(used);
    cpu.push((user + system) / 1000);
  }
  const best = (list) => Math.round(Math.min(...list));
  return {
    first_ms: Math.round(times[0]),
    best_ms: best(times),
    first_cpu_ms: Math.round(cpu[0]),
    best_cpu_ms: best(cpu),
    operations: printed,
  };
}

const square = () => [input("float32", 8, 8), input("float32", 8, 8)];

const aronnax = {
  [`${operations} operations`]: measure(() => {
    const [x, w] = square();
    return { inputs: [x, w], outputs: [chain(x, w)] };
  }),
  [`${operations} operations, differentiated`]: measure(() => {
    const [x, w] = square();
    return { inputs: [x, w], outputs: [ar.grad((v) => chain(v, w).sum())(x)] };
  }),
  [`${layers}-layer transformer, loss and gradients`]: measure(() => {
    const p = parameters();
    const [tokens, targets] = [input("int32", size.batch, size.time), input("int32", size.batch, size.time)];
    const [value, gradients] = ar.valueAndGrad(loss)(p, tokens, targets);
    return {
      inputs: [...ar.tree.leaves(p), tokens, targets],
      outputs: [value, ...ar.tree.leaves(gradients)],
    };
  }),
};
const python = process.env.ARONNAX_PYTHON ?? path.join(here, "..", "..", ".venv", "bin", "python");
const peer = JSON.parse(
  execFileSync(
    python,
    [path.join(here, "..", "peers", "trace_jax.py"), JSON.stringify(size), String(repeats)],
    {
      encoding: "utf8",
    },
  ),
);
const result = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${os.cpus()[0]?.model.trim()}, ${os.availableParallelism()} cores, load ${os.loadavg()[0]?.toFixed(1)}`,
  versions: { node: process.version, ...peer.versions },
  aronnax,
  jax: peer.results,
};
process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
