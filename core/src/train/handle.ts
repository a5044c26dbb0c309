/** What the callbacks of a training get. */
import { ArgumentError } from "../graph/errors.js";
import type { MetricsRow, RunWriter } from "../metrics/index.js";
import type { RunMedia } from "../metrics/run-media.js";
import type { Module } from "../nn/module.js";
import type { TrainingHandle } from "./callbacks.js";

/** What a handle shows of its training. */
interface Shown<M extends Module> {
  readonly config: { readonly name: string; readonly steps: number };
  readonly step: number;
  readonly model: M;
  readonly averaged: M | undefined;
  readonly rows: readonly MetricsRow[];
}

interface Inside {
  /** Undefined before the run has begun. */
  run(): RunWriter | undefined;
  /** The newest step that has a row. */
  recorded(): number;
  stop(reason: string): void;
}

export function handleOf<M extends Module>(trainer: Shown<M>, inside: Inside): TrainingHandle<M> {
  const { name, steps } = trainer.config;
  const media = (): RunMedia => {
    const run = inside.run();
    if (run !== undefined) return run.media;
    throw new ArgumentError(
      `the run "${name}" has not begun: there is none to keep this with`,
      "call it from onStart on",
    );
  };
  const at = <O extends object>(options: O): O & { step: number } => ({
    step: inside.recorded(),
    ...options,
  });
  return {
    name,
    totalSteps: steps,
    get step() {
      return trainer.step;
    },
    get model() {
      return trainer.model;
    },
    get averaged() {
      return trainer.averaged;
    },
    get rows() {
      return trainer.rows;
    },
    log: (columns) => inside.run()?.log({ step: inside.recorded(), ...columns }),
    sample: (of, text) => {
      console.log(`  ${of}: ${text}`);
      inside.run()?.keepSample({ step: inside.recorded(), name: of, text });
    },
    image: (of, value, options = {}) => media().image(of, value, at(options)),
    audio: (of, value, options) => media().audio(of, value, at(options)),
    video: (of, value, options = {}) => media().video(of, value, at(options)),
    histogram: (of, value, options = {}) => media().histogram(of, value, at(options)),
    table: (of, value, options = {}) => media().table(of, value, at(options)),
    text: (of, value, options = {}) => media().text(of, value, at(options)),
    stop: (reason) => inside.stop(reason),
  };
}
