/** BitFit (Ben Zaken et al. 2022, "BitFit: simple parameter-efficient fine-tuning for transformer-based masked language models"): the biases alone are trained. */
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import type { Module } from "../nn/module.js";
import { parameterSpecs } from "../nn/module.js";
import { freeze, unfreeze } from "../nn/selection.js";

export interface BitFitOptions {
  /** Which parameters are biases, by path. Default those whose name is `bias`, or begins or ends with it. */
  biases?: (path: string) => boolean;
}

const isBias = (path: string): boolean => /(^|\.)(bias[^.]*|[^.]*Bias)$/.test(path);

/**
 * The model with all but its biases frozen.
 *
 * @throws ArgumentError if it has none
 */
export function bitfit<M extends Module>(model: M, options: BitFitOptions = {}): M {
  refuseUnknownOptions("bitfit", options, ["biases"]);
  const { biases = isBias } = options;
  const paths = [...parameterSpecs(model)].filter(
    ([, { kind }]) => kind === "parameter" || kind === "frozen",
  );
  if (!paths.some(([path]) => biases(path)))
    throw new ArgumentError(
      "bitfit: the model has no biases",
      "use another method, such as peft.lora: many language models have none",
    );
  return unfreeze(freeze(model), (path) => biases(path));
}
