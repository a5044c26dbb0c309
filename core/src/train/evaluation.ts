/** Loss and metrics over the validation split. */

import { scalar } from "../array/creation.js";
import { cast } from "../array/elementwise.js";
import { stack } from "../array/joining.js";
import type { Tensor } from "../array/tensor.js";
import type { Batch, BatchSource } from "../data/batch.js";
import { ArgumentError } from "../graph/errors.js";
import { type Measure, MeasureTotals } from "../metrics/measures.js";
import type { Leaves } from "../optim/groups.js";
import { type Jitted, jit } from "../transform/jit.js";
import { type HostBatch, inParts, readBatch } from "./batches.js";
import type { TrainerConfig } from "./config.js";
import { couplingOf, measured } from "./loss.js";
import { inFlight } from "./pending.js";
import { type PlacedBatch, placeBatch } from "./placement.js";
import type { Held, TrainState } from "./state.js";
import { forUse, lossOf, referencesFor, type StepOptions, type TrainableModel } from "./step.js";

/** Figures of a batch: numbers [n], and what each is, as JSON. */
interface Figures {
  readonly values: Tensor;
  readonly what: string;
}

/** A name that no metric has. */
const lossName = "";

export class Evaluation<M extends TrainableModel, F extends object> {
  readonly #config: TrainerConfig<M, F>;
  readonly #options: StepOptions<M>;
  readonly #figures: Jitted<[Leaves, Held, Tensor, PlacedBatch], Figures>;

  constructor(config: TrainerConfig<M, F>, options: StepOptions<M>) {
    this.#config = config;
    this.#options = options;
    this.#figures = jit(
      (leaves: Leaves, held: Held, step: Tensor, batch: PlacedBatch) =>
        figuresOf(leaves, held, step, batch, options),
      { name: "evaluate", compiler: options.compiler, manyTraces: true },
    );
  }

  /**
   * Mean loss of a model over at most so many batches of the validation split, by their weights, and its metrics; undefined without a split, and
   * where it was stopped before the end. As many rows are computed at a time as in a step, since more need not fit; all of a batch where the loss
   * couples them: of parts it would be another loss.
   */
  async of(
    leaves: Leaves,
    held: Held,
    limit?: number,
    stopped: () => boolean = () => false,
  ): Promise<{ loss: number; metrics: Record<string, number> } | undefined> {
    const { accumulate = 1, loss: lossGiven } = this.#config;
    const parts = couplingOf(lossGiven) === undefined ? accumulate : 1;
    const data = this.#config.data as BatchSource<object> | undefined;
    if (data?.validation === undefined) return undefined;
    const totals = new MeasureTotals();
    const pending: Promise<void>[] = [];
    const step = scalar(0, "int32");
    for await (const batch of data.validation(limit) as AsyncIterable<Batch<object>>) {
      const read = readBatch(batch, this.#config as never, "data.validation()");
      for (const part of inParts(read, Math.ceil(data.batchSize / parts))) {
        if (stopped()) return undefined;
        const adding = this.#add(totals, leaves, held, step, part);
        // It is awaited later, or not at all after a failure.
        adding.catch(() => {});
        pending.push(adding);
        if (pending.length > inFlight) await pending.shift();
      }
    }
    for (const each of pending) await each;
    const { [lossName]: loss, ...metrics } = totals.values;
    return loss === undefined ? undefined : { loss, metrics };
  }

  async #add(
    totals: MeasureTotals,
    leaves: Leaves,
    held: Held,
    step: Tensor,
    batch: HostBatch,
  ): Promise<void> {
    const { values, what } = this.#figures(leaves, held, step, placeBatch(batch, 1, this.#options.plan));
    const found = Array.from(await values.data(), Number);
    let at = 0;
    for (const [name, measure] of JSON.parse(what) as [string, Measure["measure"]][])
      totals.add(name, measure, found[at++]!, measure === "mean" ? found[at++] : 1);
  }

  /**
   * A validation as the columns that it logs: loss and metrics of the parameters and of their average, and the configuration's own figures; undefined
   * without a split, and where it was stopped.
   */
  async columns(
    { state, held, step, model }: { state: TrainState; held: Held; step: number; model: M },
    limit: number | undefined,
    stopped: () => boolean,
  ): Promise<Record<string, number> | undefined> {
    const { parameters, buffers, average } = state;
    const found = await this.of({ ...buffers, ...parameters }, held, limit, stopped);
    if (found === undefined) return undefined;
    const columns = named(found, "");
    if (average !== null) {
      const averaged = await this.of({ ...buffers, ...average }, held, limit, stopped);
      if (averaged === undefined) return undefined;
      Object.assign(columns, named(averaged, "_average"));
    }
    for (const [name, value] of Object.entries(await this.#measure(model, step, limit)))
      columns[`valid_${name}`] = value;
    return columns;
  }

  /** The configuration's own figures. */
  async #measure(model: M, step: number, limit?: number): Promise<Record<string, number>> {
    const { validation, data } = this.#config;
    if (validation?.measure === undefined) return {};
    const found = await validation.measure({ model, batches: data!.validation!(limit), step });
    for (const [name, value] of Object.entries(found)) {
      if (typeof value !== "number") {
        throw new ArgumentError(
          `Trainer: validation.measure gave ${name}: ${String(value)}`,
          "return numbers by name; `await tensor.item()` gives that of a Tensor",
        );
      }
    }
    return { ...found };
  }
}

function named(
  { loss, metrics }: { loss: number; metrics: Readonly<Record<string, number>> },
  ending: string,
): Record<string, number> {
  const columns: Record<string, number> = { [`valid_loss${ending}`]: loss };
  for (const [name, value] of Object.entries(metrics)) columns[`valid_${name}${ending}`] = value;
  return columns;
}

function figuresOf<M extends TrainableModel>(
  leaves: Leaves,
  held: Held,
  step: Tensor,
  batch: PlacedBatch,
  options: StepOptions<M>,
): Figures {
  const { division } = options;
  const model = forUse(division.model(leaves, held), options);
  const context = { key: undefined, step, training: false, references: referencesFor(held, options) };
  const { loss, metrics } = measured(lossOf(options)(model, batch.fields, context), batch.fields);
  const all: [string, Measure][] = [[lossName, loss], ...Object.entries(metrics)];
  return {
    values: stack(
      all
        .flatMap(([, m]) => (m.measure === "mean" ? [m.total, m.weight] : [m.value]))
        .map((x) => cast(x, "float32")),
    ),
    what: JSON.stringify(all.map(([name, m]) => [name, m.measure])),
  };
}
