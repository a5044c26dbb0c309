/** Lion: steps of the sign of a momentum (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms"). */
import { zerosLike } from "../array/broadcast.js";
import { add, mul, sign } from "../array/elementwise.js";
import { map } from "../transform/tree.js";
import { checkDecays, checkNames, type DescentOptions, descent } from "./descent.js";
import type { Leaves } from "./groups.js";
import { type Optimizer, withOptions } from "./optimizer.js";

export interface LionOptions extends DescentOptions {
  /** Share of the momentum in the direction. Default 0.9. */
  beta1?: number;
  /** Decay of the momentum. Default 0.99. */
  beta2?: number;
}

/** The momentum, by path. */
export interface LionState {
  readonly mean: Leaves;
}

/** Its learning rate is a third to a tenth of AdamW's, its weight decay three to ten times AdamW's. */
export function lion(options: LionOptions): Optimizer {
  checkNames("lion", options, ["beta1", "beta2"]);
  const { beta1 = 0.9, beta2 = 0.99, ...rest } = options;
  checkDecays("lion", { beta1, beta2 });
  const optimizer = descent<LionState>(rest, {
    name: "lion",
    init: (parameters) => ({ mean: map(zerosLike, parameters) }),
    direction: (gradients, state) => [
      map((g, m) => sign(add(mul(m, beta1), mul(g, 1 - beta1))), gradients, state.mean),
      { mean: map((g, m) => add(mul(m, beta2), mul(g, 1 - beta2)), gradients, state.mean) },
    ],
  });
  return withOptions(optimizer, lion, options);
}
