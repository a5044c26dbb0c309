/** What is done about a loss that is not a number, or rose suddenly. */
import { AronnaxError } from "../graph/errors.js";

/** A loss that is not a number, or rose suddenly: what follows would be worthless. */
export class TrainingDiverged extends AronnaxError {}

/** Bad updates in a row after which leaving them out has not helped. */
const maxSkips = 25;
/** Returns to a checkpoint without a later one being reached. */
const maxRollbacks = 5;

/** A step's figures as the device gives them, see `StepReport.figures`. */
export interface Figures {
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  /** 0 good, 1 not finite, 2 a spike, 3 a float16 gradient that overflowed: the update was left out, and the scale halved. */
  readonly why: number;
}

export class DivergencePolicy {
  readonly #policy: "stop" | "skip" | "rollback";
  #skips = 0;
  #rollbacks = 0;

  constructor(policy: "stop" | "skip" | "rollback") {
    this.#policy = policy;
  }

  /**
   * Whether to go on after a step, go on though its update was left out, or return to the last checkpoint.
   *
   * @throws TrainingDiverged where the policy is to stop, or does not help
   */
  judge(figures: Figures): "good" | "skipped" | "rollback" {
    if (figures.why === 0 || figures.why === 3) {
      if (figures.why === 0) this.#skips = 0;
      return "good";
    }
    if (this.#policy === "skip" && ++this.#skips <= maxSkips) return "skipped";
    if (this.#policy === "rollback" && ++this.#rollbacks <= maxRollbacks) return "rollback";
    const tried = {
      stop: "",
      skip: `${maxSkips} updates were left out in a row; `,
      rollback: `${maxRollbacks} returns did not help; `,
    };
    throw new TrainingDiverged(
      tried[this.#policy] + describeDivergence(figures),
      "lower the learning rate, lengthen the warm-up or set clipNorm, in a new Trainer; checkpoints are from before",
    );
  }

  /** A sound state is on the disk: the training got past what it returned from. */
  saved(): void {
    this.#rollbacks = 0;
  }
}

export function describeDivergence({ step, loss, learningRate, gradientNorm, why }: Figures): string {
  const what = `${loss}${why === 2 ? ", a spike" : ""}`;
  return `the loss of step ${step} is ${what} (gradient norm ${gradientNorm}, learning rate ${learningRate})`;
}
