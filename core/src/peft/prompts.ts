/** What language models learn to begin every text with, and the way in which it comes to them. */
import { tensor } from "../array/creation.js";
import { cast } from "../array/elementwise.js";
import { take } from "../array/indexing.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { Embedding } from "../nn/layers.js";
import { isUndrawn, type Module } from "../nn/module.js";
import { Adapter, checkName, type PromptMethod, withAdapter } from "./adapter.js";
import { attached, beginning } from "./model.js";
import { modulesOf } from "./targets.js";

/** A language model that can begin its texts with what is no token. */
export interface PromptableModel extends Module {
  readonly config: {
    readonly vocabSize: number;
    readonly hiddenSize: number;
    readonly layers: number;
    readonly heads: number;
    readonly keyValueHeads: number;
    readonly headDim: number;
  };
}

/** An adapter of a whole language model. */
export abstract class PromptAdapter extends Adapter {
  abstract override readonly method: PromptMethod;
  /** Positions that it takes. */
  readonly count: number;

  constructor(count: number) {
    super();
    this.count = count;
  }

  /** What is learnt, as it is used and saved: [count, features]. */
  abstract value(): Tensor;
}

/** The model with something to begin every text with, which alone is trained. */
export function prompted<M extends Module>(
  operation: string,
  model: M,
  name: string,
  make: (model: PromptableModel) => PromptAdapter,
): M {
  checkName(operation, name);
  const base = beginning(operation, model, name);
  const { config } = base as Partial<PromptableModel>;
  if (!("lead" in base) || typeof config?.hiddenSize !== "number")
    throw new ArgumentError(
      `${operation}: a ${model.constructor.name} has no tokens to put something before`,
      "give a language model, or use peft.lora and kin, which work on any model",
    );
  const adapter = make(base as unknown as PromptableModel);
  return attached(withAdapter(base, name, adapter), name);
}

export function checkCount(operation: string, count: number): void {
  if (!(Number.isInteger(count) && count > 0))
    throw new ArgumentError(`${operation}: virtualTokens is ${String(count)}`, "give a positive integer");
}

/** Rows of the table of a model's tokens, float32 [ids, hiddenSize]. */
export function tokenRows(operation: string, model: Module, ids: readonly number[]): Tensor {
  const table = modulesOf(model).find(({ module }) => module instanceof Embedding)?.module as Embedding;
  const [count] = table.weight.shape as [number];
  const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < count));
  if (wrong !== undefined)
    throw new ArgumentError(`${operation}: init has ${wrong}`, `give token ids from 0 to ${count - 1}`);
  if (isUndrawn(table.weight))
    throw new ArgumentError(
      `${operation}: the model's embeddings have no values yet, with which the prompt would begin`,
      "draw them first: nn.initialize(model, seed), or load a checkpoint",
    );
  return cast(take(table.weight, tensor(Int32Array.from(ids)), 0), "float32");
}
