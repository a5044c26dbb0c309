/** Mixtures of experts against the definition, computed token by token. */
import "../../support/runtime.js";
import { jit, nn, random, type Tensor, tree, valueAndGrad } from "aronnax";
import { expect, it } from "vitest";

const [tokens, features, hidden, count, perToken] = [12, 4, 6, 5, 2];
const x = random.normal(3, [2, 6, features]);
const layer = (options: Partial<nn.ExpertOptions>): nn.ExpertMlp =>
  nn.initialize(
    new nn.ExpertMlp(features, hidden, { experts: count, perToken, init: nn.normalInit(1), ...options }),
    1,
  );

const silu = (a: number): number => a / (1 + Math.exp(-a));
const product = (w: readonly (readonly number[])[], v: readonly number[]): number[] =>
  w.map((row) => row.reduce((s, a, i) => s + a * v[i]!, 0));

/** Each token through its experts; an expert takes `room` tokens, first choices before second ones. */
async function definition(
  room: number,
  normalize: boolean,
): Promise<{ output: number[][]; dropped: number; chosen: number[] }> {
  const { gate, experts } = layer({});
  const [router, gates, ups, downs] = (await Promise.all(
    [gate.weight, experts.gateProj, experts.upProj, experts.downProj].map((w) => w.array()),
  )) as [number[][], number[][][], number[][][], number[][][]];
  const rows = (await x.reshape([tokens, features]).array()) as number[][];
  const routes = rows.map((row) => {
    const exps = product(router, row).map(Math.exp);
    const total = exps.reduce((a, b) => a + b, 0);
    const ranked = exps
      .map((e, i) => ({ i, p: e / total }))
      .sort((a, b) => b.p - a.p)
      .slice(0, perToken);
    const sum = normalize ? ranked.reduce((s, { p }) => s + p, 0) : 1;
    return ranked.map(({ i, p }) => ({ i, share: p / sum }));
  });
  const taken = new Array<number>(count).fill(0);
  const output = rows.map(() => new Array<number>(features).fill(0));
  let dropped = 0;
  for (let choice = 0; choice < perToken; choice++) {
    for (const [t, row] of rows.entries()) {
      const { i, share } = routes[t]![choice]!;
      if (taken[i]!++ >= room) {
        dropped++;
        continue;
      }
      const up = product(ups[i]!, row);
      const mixed = product(
        downs[i]!,
        product(gates[i]!, row).map((g, k) => silu(g) * up[k]!),
      );
      for (const [k, y] of mixed.entries()) output[t]![k]! += share * y;
    }
  }
  return { output, dropped, chosen: taken };
}

it.each<[string, Partial<nn.ExpertOptions>, number]>([
  ["dropless", {}, tokens],
  ["dropless, probabilities as they are", { normalize: false }, tokens],
  ["with room for all", { capacity: count }, tokens],
  ["with room for an even share", { capacity: 1 }, Math.ceil((tokens * perToken) / count)],
  ["with room for one", { capacity: 0.2 }, 1],
])("are what the definition says: %s", async (_, options, room) => {
  const { output, statistics } = layer(options).forward(x);
  const expected = await definition(room, options.normalize ?? true);
  expect(expected.dropped > 0).toBe(room < tokens);
  const actual = (await output.reshape([tokens, features]).array()) as number[][];
  for (const [t, row] of expected.output.entries())
    for (const [k, y] of row.entries()) expect(actual[t]![k]).toBeCloseTo(y, 4);
  // What is dropped was chosen all the same.
  expect(await statistics.chosen.array()).toEqual(expected.chosen);
});

it("are the same for few tokens, which read only the weights of their experts", async () => {
  const model = layer({});
  const whole = (await model.forward(x).output.array()) as number[][][];
  // Two tokens choose four of five experts at most.
  const few = (await model.forward(x.slice([1, 2], [3, 5])).output.array()) as number[][][];
  for (const [t, row] of few[0]!.entries())
    for (const [k, y] of row.entries()) expect(y).toBeCloseTo(whole[1]![3 + t]![k]!, 4);
});

it("have the same gradients dropless and dispatched with room for all", async () => {
  const gradients = jit((model: nn.ExpertMlp, input: Tensor) => {
    const loss = (m: { model: nn.ExpertMlp; input: Tensor }): Tensor => {
      const { output, statistics } = m.model.forward(m.input);
      return output
        .mul(random.normal(5, [2, 6, features]))
        .sum()
        .add(nn.routerBalance(statistics, tokens));
    };
    return valueAndGrad(loss)({ model, input })[1];
  });
  const [all, dispatched] = [gradients(layer({}), x), gradients(layer({ capacity: count }), x)];
  const others = tree.named(dispatched);
  for (const [path, g] of tree.named(all)) {
    const [a, b] = [await g.data(), await others.get(path)!.data()];
    let [difference, size] = [0, 0];
    for (let i = 0; i < a.length; i++) {
      difference += (Number(a[i]) - Number(b[i])) ** 2;
      size += Number(a[i]) ** 2;
    }
    expect(size, path).toBeGreaterThan(0);
    expect(Math.sqrt(difference / size), path).toBeLessThan(1e-5);
  }
});

it("balance costs perToken where all are chosen alike, and more elsewhere", async () => {
  const cost = (chosen: number[], probability: number[]): Promise<number> =>
    nn
      .routerBalance(
        {
          chosen: random.normal(1, [4]).mul(0).add(chosen),
          probability: random.normal(1, [4]).mul(0).add(probability),
        },
        8,
      )
      .item();
  expect(await cost([4, 4, 4, 4], [2, 2, 2, 2])).toBeCloseTo(2, 5);
  expect(await cost([8, 8, 0, 0], [4, 4, 0, 0])).toBeCloseTo(4, 5);
});

it("say what does not fit", () => {
  expect(() => layer({ perToken: 6 })).toThrow(/6 of 5 for each token/);
  expect(() => layer({ capacity: 0 })).toThrow(/capacity is 0/);
});
