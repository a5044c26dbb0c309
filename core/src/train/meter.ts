/** What a training reports of itself: speeds, memory, the time left, and the lines for the reader. */
import type { MetricsRow, RunWriter } from "../metrics/index.js";
import { Runtime } from "../runtime/runtime.js";
import type { Settings } from "./config.js";
import { peakFlops } from "./devices.js";

const memoryEverySeconds = 1;
/** Steps over which speeds are averaged. */
const speedWindow = 8;

/** A step's figures, as they come from the device. */
export interface Measured {
  readonly step: number;
  /** Tokens read up to it. */
  readonly tokens: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  /** Further columns. */
  readonly more: MetricsRow;
  /** When they came, in milliseconds of `performance.now()`. */
  readonly at: number;
}

export class Meter {
  readonly #run: RunWriter;
  readonly #devices: number;
  readonly #steps: number;
  readonly #printEvery: number;
  readonly #tokensPerStep: number;
  /** Floating-point operations of a step, where the model tells. */
  readonly #flopsPerStep: number | undefined;
  /** Moments of the last results, oldest first; before the first one that of the start. */
  #arrivals = [performance.now()];
  #started = false;
  #memoryAt = Number.NEGATIVE_INFINITY;
  #tokens: number | undefined;
  #lineOpen = false;
  /** Bytes that the compiled step needs beside its arguments and results, on all devices. */
  temporaries: number | undefined;

  /** @param devices - that the training runs on */
  constructor(run: RunWriter, config: Settings, devices: number) {
    const { steps, data, model } = config;
    this.#run = run;
    this.#devices = devices;
    this.#steps = steps;
    this.#printEvery = config.printEvery ?? Math.max(1, Math.round(steps / 20));
    this.#tokensPerStep = data.batchSize * data.sequenceLength;
    const flops = model.flopsPerToken?.(data.sequenceLength);
    this.#flopsPerStep = flops === undefined ? undefined : flops * this.#tokensPerStep;
  }

  /** Logs a step; returns its row. */
  async record(measured: Measured): Promise<MetricsRow> {
    const { step, tokens, loss, learningRate, gradientNorm, at } = measured;
    // Over some steps: two results may arrive in one turn of the event loop.
    const seconds = (at - this.#arrivals[0]!) / 1000 / this.#arrivals.length;
    // The first result waited for the compiler as well: it foretells nothing.
    const left = this.#started ? seconds * (this.#steps - step) : undefined;
    if (this.#started) this.#arrivals.push(at);
    else this.#arrivals = [at];
    this.#started = true;
    if (this.#arrivals.length > speedWindow) this.#arrivals.shift();
    const rate = this.#tokensPerStep / seconds;
    const row: MetricsRow = {
      step,
      tokens,
      loss,
      learning_rate: learningRate,
      gradient_norm: gradientNorm,
      tokens_per_second: rate,
      step_seconds: seconds,
      ...(left !== undefined && { seconds_left: left }),
      ...(await this.#utilization(seconds)),
      ...measured.more,
      ...(await this.#memory(at)),
    };
    this.#run.log(row);
    this.#tokens = tokens;
    this.#show(step, row, left);
    return row;
  }

  /** Part of the devices' peak that the model's own operations come to; nothing where either is unknown. */
  async #utilization(seconds: number): Promise<Partial<MetricsRow>> {
    if (this.#flopsPerStep === undefined) return {};
    const { devices } = await Runtime.default().ready;
    const peak = devices
      .slice(0, this.#devices)
      .reduce((sum, { kind }) => sum + (peakFlops(kind) ?? Number.NaN), 0);
    return peak > 0 ? { mfu: this.#flopsPerStep / seconds / peak } : {};
  }

  /** Bytes by category, about once a second. */
  async #memory(now: number): Promise<Partial<MetricsRow>> {
    if (now - this.#memoryAt < memoryEverySeconds * 1000) return {};
    this.#memoryAt = now;
    const { devices } = await Runtime.default().memory();
    const total = (tag: "parameter" | "optimizer" | "data" | "cache"): number =>
      devices.reduce((n, d) => n + (d.byTag[tag] ?? 0), 0);
    return {
      memory_parameters: total("parameter"),
      memory_optimizer: total("optimizer"),
      memory_data: total("data"),
      memory_cache: total("cache"),
      ...(this.temporaries !== undefined && { memory_activations: this.temporaries }),
      memory_total: devices.reduce((n, d) => n + (d.inUse ?? d.buffers), 0),
    };
  }

  #show(step: number, row: MetricsRow, left: number | undefined): void {
    if (this.#printEvery === 0) return;
    const terminal = process.stdout.isTTY === true;
    if (!terminal && step % this.#printEvery !== 0 && step !== 1) return;
    const steps = this.#steps;
    const line = [
      `step ${String(step).padStart(String(steps).length)}/${steps}`,
      `loss ${row.loss!.toFixed(4)}`,
      `${Math.round(row.tokens_per_second!).toLocaleString("en")} tokens/s`,
      ...(step === steps || left === undefined ? [] : [`${duration(left)} left`]),
      `lr ${row.learning_rate!.toExponential(2)}`,
      `grad norm ${row.gradient_norm!.toFixed(2)}`,
    ].join("  ");
    if (terminal) {
      this.#lineOpen = true;
      process.stdout.write(`\r${line.slice(0, (process.stdout.columns ?? 80) - 1)}\x1b[K`);
    } else {
      console.log(line);
    }
  }

  /** Prints a line about the training, below the progress. */
  note(text: string): void {
    if (this.#printEvery === 0) return;
    this.close();
    const at = this.#tokens === undefined ? "" : ` after ${this.#tokens.toLocaleString("en")} tokens`;
    console.log(`  ${text}${at}`);
  }

  /** Ends the line that is written over. */
  close(): void {
    if (this.#lineOpen) process.stdout.write("\n");
    this.#lineOpen = false;
  }

  /** Leaves the time since the last step out of the speeds: it was not training. */
  skip(): void {
    this.#arrivals = [performance.now()];
  }
}

/** Seconds in words: `42 s`, `3 min 5 s`, `2 h 7 min`. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
