/** The compiled step of a training: one program for each set of shapes of its batches, checked against the memory before it runs. */
import type { BatchSource } from "../data/batch.js";
import { type Jitted, jit } from "../transform/jit.js";
import { flatten } from "../transform/tree.js";
import { emptyBatch } from "./batches.js";
import { requireMemory, stepMemory } from "./memory.js";
import { type PlacedBatch, placeBatch } from "./placement.js";
import type { Held, TrainState } from "./state.js";
import { type StepOptions, type StepReport, type TrainableModel, update } from "./step.js";

export interface CompiledStepOptions {
  /** Parts that a batch is computed in. */
  readonly accumulate: number;
  /** Whether a step that needs more memory than is free is refused. */
  readonly checkMemory: boolean;
  /** That the training runs on. */
  readonly devices: number;
}

export class CompiledStep<M extends TrainableModel> {
  readonly #step: StepOptions<M>;
  readonly #options: CompiledStepOptions;
  /** Bytes of temporaries on all devices, by the shapes of batches whose steps are compiled and fit into memory. */
  readonly #known = new Map<string, number>();
  readonly #train: Jitted<[TrainState, Held, PlacedBatch], [TrainState, StepReport]>;

  constructor(step: StepOptions<M>, options: CompiledStepOptions) {
    this.#step = step;
    this.#options = options;
    this.#train = jit(
      (state: TrainState, held: Held, batch: PlacedBatch) => update(state, held, batch, step),
      {
        donate: [0],
        name: "train_step",
        tag: tagOf,
        compiler: step.compiler,
        manyTraces: true,
      },
    );
  }

  /** Whether the step for batches of these shapes is compiled, as `require` does. */
  has(batch: PlacedBatch): boolean {
    return this.#known.has(shapesOf(batch));
  }

  /** Queues a step, which takes over the state. */
  run(state: TrainState, held: Held, batch: PlacedBatch): [TrainState, StepReport] {
    return this.#train(state, held, batch);
  }

  /**
   * Compiles the step for batches of these shapes and compares what it needs with the free memory, before it is run for the first time; the bytes
   * of its temporaries on all devices.
   */
  async require(state: TrainState, held: Held, batch: PlacedBatch, batchSize: number): Promise<number> {
    const shapes = shapesOf(batch);
    const known = this.#known.get(shapes);
    if (known !== undefined) return known;
    const { accumulate, checkMemory, devices } = this.#options;
    const info = await this.#train.lower(state, held, batch).compile();
    if (checkMemory) await requireMemory(stepMemory(state, held, info), { batchSize, accumulate });
    const bytes = info.memory.temporaries * devices;
    this.#known.set(shapes, bytes);
    return bytes;
  }

  /** `require` of each set of shapes that the data tell beforehand: none is met, and found too large, in the midst of the training. */
  async requireAll(state: TrainState, held: Held, data: BatchSource<object>): Promise<void> {
    const sets = (await data.shapes?.()) ?? [];
    await Promise.all(
      sets.map((shapes) => {
        const placed = placeBatch(emptyBatch(shapes), this.#options.accumulate, this.#step.plan);
        return this.require(state, held, placed, shapes.batchSize);
      }),
    );
  }
}

function shapesOf(batch: PlacedBatch): string {
  const { key, leaves } = flatten(batch);
  return key + leaves.map((x) => `${x.dtype}[${x.shape}]`).join();
}

function tagOf(path: string): "parameter" | "optimizer" | undefined {
  if (/^0\.(parameters|buffers)/.test(path)) return "parameter";
  return /^0\.(optimizer|average|watch|scale)/.test(path) ? "optimizer" : undefined;
}
