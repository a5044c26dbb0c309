/** The loss over the validation split. */
import type { Tensor } from "../array/tensor.js";
import type { Batch } from "../data/batch.js";
import { type Jitted, jit } from "../transform/jit.js";
import { checkBatch, inParts, weightOf } from "./batches.js";
import type { TrainerConfig } from "./config.js";
import type { ParallelPlan } from "./parallel.js";
import { inFlight } from "./pending.js";
import { type DeviceBatch, placeBatch } from "./placement.js";
import { lossOf, type StepOptions, type TrainableModel } from "./step.js";

export class Evaluation<M extends TrainableModel> {
  readonly #config: TrainerConfig<M>;
  readonly #plan: ParallelPlan | undefined;
  readonly #loss: Jitted<[M, DeviceBatch], Tensor>;

  constructor(config: TrainerConfig<M>, options: StepOptions<M>) {
    this.#config = config;
    this.#plan = options.plan;
    this.#loss = jit(lossOf(options), { name: "evaluate", compiler: options.compiler });
  }

  /**
   * Mean loss of a model over at most so many batches of the validation split, all targets by their weights; undefined without a split, and
   * where it was stopped before the end. As many rows are computed at a time as in a step: more need not fit.
   */
  async of(model: M, limit?: number, stopped: () => boolean = () => false): Promise<number | undefined> {
    const { data, accumulate = 1 } = this.#config;
    let [total, weight] = [0, 0];
    const pending: { loss: Promise<number>; share: number }[] = [];
    const take = async (): Promise<void> => {
      const { loss, share } = pending.shift()!;
      total += (await loss) * share;
    };
    for await (const batch of data.validation(limit)) {
      checkBatch(batch, this.#config, "validation");
      for (const part of inParts(batch, data.batchSize / accumulate)) {
        if (stopped()) return undefined;
        const own = weightOf(part);
        weight += own;
        // A batch whose weights sum to less than 1 is divided by 1: see crossEntropy.
        pending.push({ loss: this.#lossOf(model, part), share: Math.max(own, 1) });
        if (pending.length > inFlight) await take();
      }
    }
    while (pending.length > 0) await take();
    return weight === 0 ? undefined : total / Math.max(weight, 1);
  }

  #lossOf(model: M, batch: Batch): Promise<number> {
    const loss = this.#loss(model, placeBatch(batch, 1, this.#plan)).item();
    // It is awaited later, or not at all after a failure.
    loss.catch(() => {});
    return loss;
  }
}
