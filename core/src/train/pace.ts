/** How fast steps are done, over the time that really passed. */

/** Least steps, and least seconds, that a speed is measured over: results of short steps come several in one turn of the event loop. */
const leastSteps = 8;
const leastSeconds = 1;

/** A step whose result has come; moments are milliseconds of `performance.now()`. */
export interface TimedStep {
  /** When it was queued on the device. */
  readonly queuedAt: number;
  /** Whether its program was compiled right before. */
  readonly compiled: boolean;
  /** When its result came. */
  readonly at: number;
  /** What its batch held, by unit. */
  readonly own: Readonly<Record<string, number>>;
  /** Floating-point operations, where they are known. */
  readonly flops: number | undefined;
}

/** Over the last steps: seconds a step, and units and operations a second. */
export interface Speeds {
  readonly stepSeconds: number;
  readonly perSecond: Readonly<Record<string, number>>;
  readonly flops: number;
  /** How many steps they are of. */
  readonly steps: number;
}

/**
 * Speeds over the last steps: at least eight of them and at least a second, as far as there are so many since training began or went on.
 * The time counts from when the first of them was queued, or from the result before it: steps that ran while something else was waited
 * for, and whose results come at once, took the time from when they began all the same. What is no training (compiling, validating, a
 * pause) is left out.
 */
export class Pace {
  #steps: TimedStep[] = [];
  /** When the time of the oldest step began; undefined: with its being queued. */
  #from: number | undefined;
  /** Of the steps together. */
  readonly #own = new Map<string, number>();
  #flops = 0;

  /** Leaves the time up to a moment out. */
  goOn(at = performance.now()): void {
    this.#clear();
    this.#from = at;
  }

  add(step: TimedStep): Speeds {
    if (step.compiled) this.#clear();
    this.#from ??= step.queuedAt;
    this.#steps.push(step);
    this.#count(step, 1);
    let oldest = this.#steps[0]!;
    while (this.#steps.length > leastSteps && step.at - oldest.at >= leastSeconds * 1000) {
      this.#count(oldest, -1);
      this.#from = oldest.at;
      this.#steps.shift();
      oldest = this.#steps[0]!;
    }
    const seconds = (step.at - this.#from) / 1000;
    const steps = this.#steps.length;
    return {
      stepSeconds: seconds / steps,
      perSecond: Object.fromEntries([...this.#own].map(([unit, sum]) => [unit, sum / seconds])),
      flops: this.#flops / seconds,
      steps,
    };
  }

  #count({ own, flops }: TimedStep, sign: 1 | -1): void {
    for (const [unit, count] of Object.entries(own))
      this.#own.set(unit, (this.#own.get(unit) ?? 0) + sign * count);
    this.#flops += sign * (flops ?? 0);
  }

  #clear(): void {
    this.#steps = [];
    this.#from = undefined;
    this.#own.clear();
    this.#flops = 0;
  }
}
