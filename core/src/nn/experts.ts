/**
 * Mixtures of experts: feed-forward layers of which a router picks a few for each token (Shazeer et al. 2017; Fedus et al. 2021, "Switch
 * Transformers"). Fields are named as in Hugging Face's checkpoints; there each expert is a tensor of its own, here all are one.
 */
import { sum, zeros } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { iota } from "../array/creation.js";
import { add, cast, div, less, minimum, mod, mul, stopGradient, sub, where } from "../array/elementwise.js";
import { take, takeAlongAxis } from "../array/indexing.js";
import { concatenate } from "../array/joining.js";
import { oneHot, softmax } from "../array/reductions.js";
import { expandDims, reshape, transpose } from "../array/shaping.js";
import { argsort, topK } from "../array/sorting.js";
import type { Tensor } from "../array/tensor.js";
import { cumsum } from "../array/windows.js";
import { ArgumentError } from "../graph/errors.js";
import { checkpointName, remat } from "../transform/remat.js";
import { scan } from "../transform/scan.js";
import { type Initializer, normalInit } from "./initializers.js";
import { Linear } from "./layers.js";
import { type Activation, activations } from "./mlp.js";
import { Module } from "./module.js";

export interface ExpertOptions {
  /** Number of experts. */
  experts: number;
  /** Experts that a token passes through. */
  perToken: number;
  /** Divides the chosen experts' probabilities by their sum. Default true. */
  normalize?: boolean;
  /**
   * Room of an expert, as a multiple of its even share of the tokens: what is beyond it passes by. Default: room for all ("dropless"), with
   * every expert computing every token.
   */
  capacity?: number;
  activation?: Activation;
  init?: Initializer;
  outputInit?: Initializer;
}

/** What the auxiliary loss is made of: sums over tokens, for each expert. */
export interface RouterStatistics {
  /** Tokens that chose it, [experts]. */
  readonly chosen: Tensor;
  /** Probabilities, [experts]. */
  readonly probability: Tensor;
}

/**
 * The auxiliary loss of Switch Transformers (equations 4 to 6): experts x the sum over them of the share of tokens that chose one times its
 * mean probability; perToken where all are chosen alike.
 *
 * @param statistics - sums over `tokens` tokens (of all layers)
 */
export function routerBalance({ chosen, probability }: RouterStatistics, tokens: number): Tensor {
  const [experts] = chosen.shape as [number];
  return mul(sum(mul(div(chosen, tokens), div(probability, tokens))), experts);
}

/** The experts' weights: [experts, outputs, inputs] each. */
class Experts extends Module {
  gateProj: Tensor;
  upProj: Tensor;
  downProj: Tensor;

  constructor(experts: number, features: number, hidden: number, init: Initializer, outputInit: Initializer) {
    super();
    const up = { init, axes: ["expert", "mlp", "embed"] };
    this.gateProj = this.parameter("gateProj", [experts, hidden, features], up);
    this.upProj = this.parameter("upProj", [experts, hidden, features], up);
    this.downProj = this.parameter("downProj", [experts, features, hidden], {
      init: outputInit,
      axes: ["expert", "embed", "mlp"],
    });
  }
}

/** Gated feed-forward experts behind a router. */
export class ExpertMlp extends Module {
  gate: Linear;
  experts: Experts;
  readonly perToken: number;
  readonly normalize: boolean;
  readonly capacity: number | null;
  readonly activation: Activation;

  constructor(features: number, hidden: number, options: ExpertOptions) {
    super();
    const { experts, perToken, normalize = true, capacity, activation = "silu" } = options;
    const { init = normalInit(0.02), outputInit = init } = options;
    if (!(Number.isInteger(perToken) && perToken >= 1 && perToken <= experts))
      throw new ArgumentError(
        `experts: ${perToken} of ${experts} for each token`,
        "perToken is an integer from 1 to the number of experts",
      );
    if (capacity !== undefined && !(capacity > 0))
      throw new ArgumentError(
        `experts: capacity is ${capacity}`,
        "give a positive multiple of an even share, such as 1.25",
      );
    this.gate = new Linear(features, experts, { init, axes: ["expert", "embed"] });
    this.experts = new Experts(experts, features, hidden, init, outputInit);
    this.perToken = perToken;
    this.normalize = normalize;
    this.capacity = capacity ?? null;
    this.activation = activation;
  }

  /** [..., features] to [..., features], and what the auxiliary loss needs. */
  forward(x: Tensor): { output: Tensor; statistics: RouterStatistics } {
    const features = x.shape.at(-1)!;
    const tokens = reshape(x, [-1, features]);
    const experts = this.gate.weight.shape[0]!;
    const probabilities = softmax(cast(this.gate.forward(tokens), "float32"), -1);
    const [, choices] = topK(stopGradient(probabilities), this.perToken);
    // [tokens, experts]: the probabilities of the chosen, zeros elsewhere.
    const chosen = sum(oneHot(choices, experts), 1);
    const raw = mul(probabilities, chosen);
    const shares = this.normalize ? div(raw, sum(raw, -1, { keepDims: true })) : raw;
    const output = this.compute(tokens, shares, choices);
    return {
      output: reshape(output, x.shape),
      statistics: { chosen: sum(chosen, 0), probability: sum(probabilities, 0) },
    };
  }

  private compute(tokens: Tensor, shares: Tensor, choices: Tensor): Tensor {
    if (this.capacity !== null) return this.dispatched(tokens, shares, choices, this.capacity);
    return choices.size <= shares.shape[1]!
      ? this.gathered(tokens, shares, choices)
      : this.all(tokens, shares);
  }

  /** Every expert computes every token, one expert after the other; shares that are zero take most of it away. */
  private all(tokens: Tensor, shares: Tensor): Tensor {
    type Expert = { gateProj: Tensor; upProj: Tensor; downProj: Tensor; share: Tensor };
    const apply = (y: Tensor, w: Tensor): Tensor =>
      dotGeneral(y, w, { contract: [[1], [1]], batch: [[], []] });
    const one = remat(({ gateProj, upProj, downProj, share }: Expert): Tensor => {
      const hidden = mul(activations[this.activation](apply(tokens, gateProj)), apply(tokens, upProj));
      return mul(cast(apply(hidden, downProj), "float32"), expandDims(share, -1));
    });
    const { gateProj, upProj, downProj } = this.experts;
    // The sum stays outside of what is computed again: no step's is needed for the derivative.
    const [output] = scan(
      (total: Tensor, expert: Expert) => [add(total, one(expert)), null] as const,
      zeros(tokens.shape),
      {
        gateProj,
        upProj,
        downProj,
        share: transpose(shares),
      },
    );
    return cast(output, tokens.dtype);
  }

  /** Few tokens read only the weights of the experts that they chose. */
  private gathered(tokens: Tensor, shares: Tensor, choices: Tensor): Tensor {
    const { gateProj, upProj, downProj } = this.experts;
    const weights = (w: Tensor): Tensor => take(w, choices);
    // [tokens, choices, outputs] each.
    const up = (w: Tensor): Tensor =>
      dotGeneral(weights(w), tokens, { contract: [[3], [1]], batch: [[0], [0]] });
    const hidden = mul(activations[this.activation](up(gateProj)), up(upProj));
    const results = dotGeneral(weights(downProj), hidden, {
      contract: [[3], [2]],
      batch: [
        [0, 1],
        [0, 1],
      ],
    });
    const share = takeAlongAxis(shares, choices, -1);
    return cast(sum(mul(cast(results, "float32"), expandDims(share, -1)), 1), tokens.dtype);
  }

  /** Each expert gets a table of as many tokens as it has room for (Lepikhin et al. 2020, "GShard"): first choices first. */
  private dispatched(tokens: Tensor, shares: Tensor, choices: Tensor, capacity: number): Tensor {
    const [count, features] = tokens.shape as [number, number];
    const experts = shares.shape[1]!;
    const room = Math.min(count, Math.ceil((capacity * count * this.perToken) / experts));
    // All first choices, then all second ones; sorted by expert, in the same order within each.
    const pairs = reshape(transpose(choices), [-1]);
    const order = argsort(pairs);
    const counts = sum(oneHot(pairs, experts, { dtype: "int32" }), 0);
    const starts = sub(cumsum(counts), counts);
    // The token in each slot; one more than there are stands for none.
    const seat = iota([experts, room], 1);
    const source = minimum(add(expandDims(starts, 1), seat), pairs.size - 1);
    const occupants = where(less(seat, expandDims(counts, 1)), mod(take(order, source), count), count);
    const padded = concatenate([tokens, zeros([1, features], { dtype: tokens.dtype })], 0);
    const tables = take(padded, occupants);
    // Where each choice's result stands; the row after the last is zero, for those without room.
    const slots = experts * room;
    const place = sub(argsort(order), take(starts, pairs));
    const slot = where(less(place, room), add(mul(pairs, room), place), slots);
    const apply = (y: Tensor, w: Tensor): Tensor =>
      dotGeneral(y, w, { contract: [[2], [2]], batch: [[0], [0]] });
    const { gateProj, upProj, downProj } = this.experts;
    const hidden = mul(activations[this.activation](apply(tables, gateProj)), apply(tables, upProj));
    const results = reshape(apply(checkpointName(hidden, "mlp"), downProj), [slots, features]);
    const none = zeros([1, features], { dtype: results.dtype });
    const mine = reshape(take(concatenate([results, none], 0), slot), [this.perToken, count, features]);
    const share = transpose(takeAlongAxis(shares, choices, -1));
    return cast(sum(mul(cast(mine, "float32"), expandDims(share, -1)), 0), tokens.dtype);
  }
}
