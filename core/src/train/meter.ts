/** What a training reports of itself: speeds, memory, the time left, and the lines for the reader. */
import type { MetricsRow, RunWriter } from "../metrics/index.js";
import { Runtime } from "../runtime/runtime.js";
import type { Settings } from "./config.js";
import { peakFlops } from "./devices.js";
import { Pace, type TimedStep } from "./pace.js";

const memoryEverySeconds = 1;

/** A step's figures, as they come from the device. */
export interface Measured extends TimedStep {
  readonly step: number;
  /** What the batches up to it held. */
  readonly counts: Readonly<Record<string, number>>;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  /** Further columns. */
  readonly more: MetricsRow;
}

export class Meter {
  readonly #run: RunWriter;
  readonly #devices: number;
  readonly #steps: number;
  readonly #printEvery: number;
  readonly #pace = new Pace();
  #started = false;
  #memoryAt = Number.NEGATIVE_INFINITY;
  #read: string | undefined;
  #lineOpen = false;
  /** Bytes that the compiled step needs beside its arguments and results, on all devices. */
  temporaries: number | undefined;

  /** @param devices - that the training runs on */
  constructor(run: RunWriter, config: Settings, devices: number) {
    const { steps } = config;
    this.#run = run;
    this.#devices = devices;
    this.#steps = steps;
    this.#printEvery = config.printEvery ?? Math.max(1, Math.round(steps / 20));
  }

  /** Logs a step; returns its row. */
  async record(measured: Measured): Promise<MetricsRow> {
    const { step, counts, loss, learningRate, gradientNorm, at, flops } = measured;
    const speeds = this.#pace.add(measured);
    const rates = Object.entries(speeds.perSecond).map(([unit, rate]) => [`${unit}_per_second`, rate]);
    // The first step of a program is not like the others: it foretells nothing.
    const left = this.#started ? speeds.stepSeconds * (this.#steps - step) : undefined;
    this.#started = true;
    const row: MetricsRow = {
      step,
      ...counts,
      loss,
      learning_rate: learningRate,
      gradient_norm: gradientNorm,
      ...Object.fromEntries(rates),
      step_seconds: speeds.stepSeconds,
      ...(left !== undefined && { seconds_left: left }),
      ...(flops !== undefined && (await this.#utilization(speeds.flops))),
      ...measured.more,
      ...(await this.#memory(at)),
    };
    this.#run.log(row);
    const what = mainCount(counts);
    this.#read = `${(counts[what] ?? 0).toLocaleString("en")} ${what}`;
    this.#show(step, row, left);
    return row;
  }

  /** Part of the devices' peak that so many operations a second come to; nothing where it is unknown. */
  async #utilization(flops: number): Promise<Partial<MetricsRow>> {
    const { devices } = await Runtime.default().ready;
    const peak = devices
      .slice(0, this.#devices)
      .reduce((sum, { kind }) => sum + (peakFlops(kind) ?? Number.NaN), 0);
    return peak > 0 ? { mfu: flops / peak } : {};
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
      speedOf(row),
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
    const at = this.#read === undefined ? "" : ` after ${this.#read}`;
    console.log(`  ${text}${at}`);
  }

  /** Ends the line that is written over. */
  close(): void {
    if (this.#lineOpen) process.stdout.write("\n");
    this.#lineOpen = false;
  }

  /** Leaves the time since the last step out of the speeds: it was not training. */
  skip(): void {
    this.#pace.goOn();
  }
}

/** What a batch is best told by: tokens, frames, seconds of audio, else rows. */
function mainCount(counts: Readonly<Record<string, number>>): string {
  return ["tokens", "frames", "seconds"].find((name) => counts[name] !== undefined) ?? "samples";
}

function speedOf(row: MetricsRow): string {
  const name = mainCount(row);
  const rate = row[`${name}_per_second`] ?? 0;
  return `${(rate < 10 ? Number(rate.toPrecision(2)) : Math.round(rate)).toLocaleString("en")} ${name}/s`;
}

/** Seconds in words: `42 s`, `3 min 5 s`, `2 h 7 min`. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
