/**
 * How long random programs take to compile, from the call to the numbers, with keys made of keys as a training makes them. Nothing comes from the
 * program cache: each run has a constant of its own. The peer is peers/random_jax.py.
 *
 * usage: random [--only part of a name]
 */
import { parseArgs } from "node:util";
import { evaluate, jit, random, scalar, type Tensor, vmap } from "aronnax";
import { Runtime } from "../../core/src/runtime/runtime.js";

const cases: Record<string, (k: Tensor) => unknown> = {
  "normal of a key of keys": (k) => random.normal(random.splitKeys(k, 2)[0]!, [128, 4]),
  "keys four deep": (k) => {
    let key = k;
    for (let i = 0; i < 4; i++) key = random.splitKeys(random.foldIn(key, i), 3)[1]!;
    return random.truncatedNormal(key, [64, 64]);
  },
  "twenty draws": (k) => random.splitKeys(k, 20).map((key) => random.normal(key, [32, 32])),
  "under vmap": (k) =>
    vmap((key: Tensor) => random.normal(random.splitKeys(key)[1]!, [8]))(random.splitKey(k, 16)),
  "integers and a permutation": (k) => [
    random.integers(random.foldIn(k, 1), [64], 0, 10),
    random.permutation(random.foldIn(k, 2), 64),
  ],
};

export interface RandomRow {
  readonly platform: string;
  readonly name: string;
  readonly seconds: number;
}

export async function measureRandom(only = ""): Promise<RandomRow[]> {
  await evaluate(random.bits(0, [2]));
  const rows: RandomRow[] = [];
  for (const [name, draw] of Object.entries(cases)) {
    if (!name.includes(only)) continue;
    const own = Math.floor(Math.random() * 2 ** 31);
    const program = jit((step: Tensor) => draw(random.foldIn(random.foldIn(own, step), own)));
    const start = performance.now();
    await evaluate(program(scalar(3, "int32")));
    rows.push({ platform: Runtime.default().platform, name, seconds: (performance.now() - start) / 1000 });
  }
  return rows;
}

if (process.argv[1]?.match(/random\.(ts|mjs)$/)) {
  const { values } = parseArgs({ options: { only: { type: "string", default: "" } } });
  for (const row of await measureRandom(values.only)) console.log(JSON.stringify(row));
  process.exit(0);
}
