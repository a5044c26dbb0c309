/** Each method against its definition, computed number by number. */
import "../../support/runtime.js";
import { adamw, evaluate, jit, lion, type Optimizer, sgd, type Tensor, tensor } from "aronnax";
import { expect, it } from "vitest";

const start = [
  [0.5, -2],
  [3, 0.25],
];
const bias = [1, -1];
const gradients = [
  [
    [1, -0.5],
    [0.2, 4],
  ],
  [
    [-2, 0.3],
    [0.1, 1],
  ],
  [
    [0.7, 0.7],
    [-3, 0.01],
  ],
];

/** Parameters after the three updates, with the gradients of the bias those of the first row. */
async function run(optimizer: Optimizer): Promise<number[]> {
  let parameters: { weight: Tensor; bias: Tensor } = {
    weight: tensor(start),
    bias: tensor(bias, { dtype: "float32" }),
  };
  let state = await evaluate(optimizer.init(parameters));
  const update = jit((p: typeof parameters, s: unknown, g: typeof parameters, step: Tensor) => {
    const [next, nextState] = optimizer.update(g, s, p, { step, totalSteps: 3 });
    return { next, nextState };
  });
  for (const [i, g] of gradients.entries()) {
    const done = update(
      parameters,
      state,
      { weight: tensor(g), bias: tensor(g[0]!) },
      tensor(i, { dtype: "int32" }),
    );
    parameters = done.next;
    state = done.nextState;
  }
  return [...(await parameters.weight.data()), ...(await parameters.bias.data())].map(Number);
}

type Rule = (g: number, memory: Record<string, number>, count: number) => number;

/** The same, one number after another. */
function expected(rule: Rule, rate: number, decay = 0): number[] {
  const values = [...start.flat(), ...bias];
  return values.map((value, k) => {
    let p = value;
    const memory: Record<string, number> = {};
    for (const [i, g] of gradients.entries()) {
      const own = k < 4 ? g.flat()[k]! : g[0]![k - 4]!;
      // Only the matrix decays.
      p -= rate * (rule(own, memory, i + 1) + (k < 4 ? decay * p : 0));
    }
    return p;
  });
}

const memorized = (memory: Record<string, number>, name: string, value: (old: number) => number): number => {
  memory[name] = value(memory[name] ?? 0);
  return memory[name];
};

it.each<[string, Optimizer, number[]]>([
  ["sgd", sgd({ learningRate: 0.1 }), expected((g) => g, 0.1)],
  [
    "sgd with momentum and decay",
    sgd({ learningRate: 0.1, momentum: 0.8, weightDecay: 0.2 }),
    expected((g, m) => memorized(m, "m", (old) => 0.8 * old + g), 0.1, 0.2),
  ],
  [
    "sgd with Nesterov's momentum",
    sgd({ learningRate: 0.1, momentum: 0.8, nesterov: true }),
    expected((g, m) => g + 0.8 * memorized(m, "m", (old) => 0.8 * old + g), 0.1),
  ],
  [
    "lion",
    lion({ learningRate: 0.05, weightDecay: 0.3 }),
    expected(
      (g, m) => {
        const direction = Math.sign(0.9 * (m.m ?? 0) + 0.1 * g);
        memorized(m, "m", (old) => 0.99 * old + 0.01 * g);
        return direction;
      },
      0.05,
      0.3,
    ),
  ],
  [
    "adamw",
    adamw({ learningRate: 0.1, beta2: 0.9, weightDecay: 0.1 }),
    expected(
      (g, m, n) => {
        const mean = memorized(m, "m", (old) => 0.9 * old + 0.1 * g) / (1 - 0.9 ** n);
        const square = memorized(m, "v", (old) => 0.9 * old + 0.1 * g * g) / (1 - 0.9 ** n);
        return mean / (Math.sqrt(square) + 1e-8);
      },
      0.1,
      0.1,
    ),
  ],
])("%s moves as its definition says", async (_, optimizer, values) => {
  const found = await run(optimizer);
  for (const [i, value] of values.entries()) expect(found[i]!).toBeCloseTo(value, 5);
});

it("scales gradients whose norm is above the limit", async () => {
  const limited = await run(sgd({ learningRate: 1, clipNorm: 1 }));
  const norm = (g: number[][]) => Math.hypot(...g.flat(), ...g[0]!);
  const first = start.flat()[0]! - gradients.reduce((sum, g) => sum + g[0]![0]! / Math.max(1, norm(g)), 0);
  expect(limited[0]!).toBeCloseTo(first, 4);
});
