/** Stochastic gradient descent, with momentum as PyTorch has it (Sutskever et al. 2013, without dampening). */
import { zerosLike } from "../array/broadcast.js";
import { add, mul } from "../array/elementwise.js";
import { ArgumentError } from "../graph/errors.js";
import { map } from "../transform/tree.js";
import { checkDecays, checkNames, type DescentOptions, descent } from "./descent.js";
import type { Leaves } from "./groups.js";
import { type Optimizer, withOptions } from "./optimizer.js";

export interface SgdOptions extends DescentOptions {
  /** Share of the last direction that is kept. Default 0. */
  momentum?: number;
  /** Looks one step ahead along the momentum. Default false. */
  nesterov?: boolean;
}

/** The running direction, by path; empty without momentum. */
export interface SgdState {
  readonly momentum: Leaves;
}

export function sgd(options: SgdOptions): Optimizer {
  checkNames("sgd", options, ["momentum", "nesterov"]);
  const { momentum = 0, nesterov = false, ...rest } = options;
  checkDecays("sgd", { momentum });
  if (nesterov && momentum === 0)
    throw new ArgumentError("sgd: nesterov is true without a momentum", "give a momentum, such as 0.9");
  const optimizer = descent<SgdState>(rest, {
    name: "sgd",
    init: (parameters) => ({ momentum: momentum === 0 ? {} : map(zerosLike, parameters) }),
    direction(gradients, state) {
      if (momentum === 0) return [gradients, state];
      const running = map((g, m) => add(mul(m, momentum), g), gradients, state.momentum);
      const directions = nesterov ? map((g, m) => add(g, mul(m, momentum)), gradients, running) : running;
      return [directions, { momentum: running }];
    },
  });
  return withOptions(optimizer, sgd, options);
}
