/** Einstein summation. */
import { ArgumentError, ShapeError } from "../graph/errors.js";
import { reduceSum, zerosLike } from "./broadcast.js";
import { dotGeneral } from "./contraction.js";
import { iota } from "./creation.js";
import { equal, mul, where } from "./elementwise.js";
import { reshape, transpose } from "./shaping.js";
import type { Tensor } from "./tensor.js";

/**
 * Einstein summation, `einsum("btd,df->btf", x, w)`. Any number of operands, multiplied two at a time in the order that needs the fewest
 * multiplications; each label is summed as soon as nothing else needs it. `...` stands for leading axes that broadcast.
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  if (typeof equation !== "string" || equation.split("->").length > 2) {
    throw new ArgumentError(
      `einsum "${String(equation)}"`,
      'write it as "ij,jk->ik", with one arrow at most',
    );
  }
  const [left, right] = equation.replaceAll(" ", "").split("->");
  let terms = left!.split(",");
  if (terms.length !== operands.length) {
    throw new ArgumentError(`einsum "${equation}": ${terms.length} terms for ${operands.length} operands`);
  }
  const ellipsis = Math.max(
    0,
    ...terms.map((t, i) => (t.includes("...") ? operands[i]!.ndim - t.length + 3 : 0)),
  );
  const dots = Array.from({ length: ellipsis }, (_, i) => String.fromCharCode(0x2460 + i)).join("");
  terms = terms.map((t, i) => {
    if (!t.includes("...")) return t;
    return t.replace("...", dots.slice(ellipsis - (operands[i]!.ndim - t.length + 3)));
  });
  const sizes = new Map<string, number>();
  for (const [i, term] of terms.entries()) {
    if ([...term].length !== operands[i]!.ndim) {
      throw new ShapeError(
        `einsum "${equation}": term "${term}" has ${term.length} labels for shape [${operands[i]!.shape.join(", ")}]`,
      );
    }
    for (const [axis, label] of [...term].entries()) {
      const length = operands[i]!.shape[axis]!;
      const known = sizes.get(label);
      if (known !== undefined && known !== length && known !== 1 && length !== 1) {
        throw new ShapeError(
          `einsum "${equation}": label "${label}" is ${known} in one operand and ${length} in "${term}"`,
        );
      }
      sizes.set(label, Math.max(known ?? 0, length));
    }
  }
  const counts = [...terms.join("")].filter((c, _, all) => all.filter((d) => d === c).length === 1);
  const output =
    right === undefined
      ? dots +
        [...new Set(counts)]
          .filter((c) => !dots.includes(c))
          .sort()
          .join("")
      : right.replace("...", dots);
  for (const label of output) {
    if (!sizes.has(label))
      throw new ArgumentError(`einsum "${equation}": output label "${label}" is in no operand`);
  }
  if (new Set(output).size !== [...output].length) {
    throw new ArgumentError(`einsum "${equation}": an output label is repeated`);
  }
  const all = (1 << terms.length) - 1;
  /** What is needed beside the operands of a set: the labels of the others and of the output. */
  const outside = (set: number): string => terms.filter((_, i) => (set & (1 << i)) === 0).join("") + output;
  const order = contractionOrder(terms, output, sizes);
  const evaluate = (set: number): [Tensor, string] => {
    const i = Math.log2(set);
    if (Number.isInteger(i)) return prepare(operands[i]!, terms[i]!, outside(set));
    const part = order.get(set)!;
    const [x, xl] = evaluate(part);
    const [y, yl] = evaluate(set & ~part);
    return contractPair(x, xl, y, yl, outside(set));
  };
  const [result, labels] = evaluate(all);
  return transpose(
    result,
    [...output].map((c) => labels.indexOf(c)),
  );
}

const exhaustive = 8;

/**
 * How to multiply the operands two at a time: for each set of them (bits) that occurs, the part on the left. Up to eight operands the best
 * order by dynamic programming; beyond that from the left.
 */
function contractionOrder(
  terms: readonly string[],
  output: string,
  sizes: ReadonlyMap<string, number>,
): Map<number, number> {
  const order = new Map<number, number>();
  const all = (1 << terms.length) - 1;
  if (terms.length > exhaustive) {
    for (let i = 1; i < terms.length; i++) order.set((1 << (i + 1)) - 1, (1 << i) - 1);
    return order;
  }
  const labels = (set: number): string[] => {
    const [mine, others] = [new Set<string>(), new Set(output)];
    for (const [i, term] of terms.entries()) for (const c of term) (set & (1 << i) ? mine : others).add(c);
    return [...mine].filter((c) => others.has(c));
  };
  const kept = Array.from({ length: all + 1 }, (_, set) => labels(set));
  const cost = new Array<number>(all + 1).fill(0);
  for (let set = 1; set <= all; set++) {
    const lowest = set & -set;
    if (set === lowest) continue;
    let best = Number.POSITIVE_INFINITY;
    // Every way to split the set in two, the part with the lowest operand first; smaller parts first.
    for (let part = (set - 1) & set; part > 0; part = (part - 1) & set) {
      if ((part & lowest) === 0) continue;
      let multiplications = 1;
      for (const c of new Set([...kept[part]!, ...kept[set & ~part]!])) multiplications *= sizes.get(c)!;
      const total = cost[part]! + cost[set & ~part]! + multiplications;
      if (total < best) {
        best = total;
        order.set(set, part);
      }
    }
    cost[set] = best;
  }
  return order;
}

/** Takes diagonals of repeated labels and sums labels that nothing else needs. */
function prepare(x: Tensor, labels: string, needed: string): [Tensor, string] {
  let [value, names] = [x, [...labels]];
  for (const label of new Set(names)) {
    while (names.filter((c) => c === label).length > 1) [value, names] = diagonal(value, names, label);
  }
  const summed = names.flatMap((c, i) => (needed.includes(c) ? [] : [i]));
  return [reduceSum(value, summed), names.filter((_, i) => !summed.includes(i)).join("")];
}

/** Keeps the elements with equal indices along both axes of a repeated label. */
function diagonal(x: Tensor, names: string[], label: string): [Tensor, string[]] {
  const i = names.indexOf(label);
  const j = names.indexOf(label, i + 1);
  const same = equal(iota(x.shape, i), iota(x.shape, j));
  return [reduceSum(where(same, x, zerosLike(x)), [j]), names.filter((_, k) => k !== j)];
}

function contractPair(x: Tensor, xl: string, y: Tensor, yl: string, later: string): [Tensor, string] {
  const shared = [...xl].filter((c) => yl.includes(c));
  const broadcasting = shared.filter((c) => x.shape[xl.indexOf(c)] !== y.shape[yl.indexOf(c)]);
  if (broadcasting.length > 0) {
    const squeezeOnes = (v: Tensor, names: string): [Tensor, string] => {
      const ones = [...names].flatMap((c, i) => (broadcasting.includes(c) && v.shape[i] === 1 ? [i] : []));
      return [
        reshape(
          v,
          v.shape.filter((_, i) => !ones.includes(i)),
        ),
        [...names].filter((_, i) => !ones.includes(i)).join(""),
      ];
    };
    const [a, al] = squeezeOnes(x, xl);
    const [b, bl] = squeezeOnes(y, yl);
    return contractPair(a, al, b, bl, later);
  }
  const contracted = shared.filter((c) => !later.includes(c));
  const batch = shared.filter((c) => later.includes(c));
  const result = [
    ...batch,
    ...[...xl].filter((c) => !shared.includes(c)),
    ...[...yl].filter((c) => !shared.includes(c)),
  ];
  if (contracted.length === 0 && batch.length === result.length) {
    const aligned = transpose(
      y,
      [...xl].map((c) => yl.indexOf(c)),
    );
    return [mul(x, aligned), xl];
  }
  const positions = (labels: string[], names: string): number[] => labels.map((c) => names.indexOf(c));
  return [
    dotGeneral(x, y, {
      contract: [positions(contracted, xl), positions(contracted, yl)],
      batch: [positions(batch, xl), positions(batch, yl)],
    }),
    result.join(""),
  ];
}
