/**
 * What happens in a training, as typed events.
 *
 * Order: `onStart`; then for each step `onStep`, in the order of the steps, when its metrics have arrived (up to two steps after it was
 * queued); `onValidation` after the `onStep` of its step; `onCheckpoint` when a checkpoint is whole on the disk, which may be after later
 * steps; `onException` if the training fails; `onEnd` always, last. Callbacks are called in the order of the configuration and awaited, one
 * after another: the training does not go on meanwhile. What one throws fails the training; after a failure, what `onException` and `onEnd`
 * throw is only printed.
 */
import type { MetricsRow } from "../metrics/index.js";
import type { RunMedia } from "../metrics/run-media.js";
import type { Module } from "../nn/module.js";

/** What a callback may see and do. */
export interface TrainingHandle<M extends Module = Module> {
  readonly name: string;
  /** Updates queued. */
  readonly step: number;
  readonly totalSteps: number;
  /** With the present parameters, which the next step takes over: use them before the callback returns, or copy them. */
  readonly model: M;
  /** The running average of the parameters, where one is kept. */
  readonly averaged: M | undefined;
  readonly rows: readonly MetricsRow[];
  /** Adds columns of one's own to the metrics, as a row of the newest step that has one: in `onStep`, its step. */
  log(columns: MetricsRow): void;
  /** Keeps a text (what the model says to a prompt) in the run's `samples.jsonl`, with the same step, and prints it. */
  sample(name: string, text: string): void;
  /**
   * Keep images, sounds, videos, histograms, tables and texts with the run, by default of the newest step that has a row: of Tensors (also such
   * as the next step takes over: they are read when the call returns), typed arrays, or `{ data, shape }`. A disk that fails does not fail the
   * training; a value of another form throws at once.
   */
  image: RunMedia["image"];
  audio: RunMedia["audio"];
  video: RunMedia["video"];
  histogram: RunMedia["histogram"];
  table: RunMedia["table"];
  text: RunMedia["text"];
  /** Ends the training at the next step boundary, as finished; the reason is kept with the run. */
  stop(reason: string): void;
}

export interface StepEvent {
  readonly step: number;
  readonly loss: number;
  /** The step's row of metrics. */
  readonly row: MetricsRow;
}

export interface ValidationEvent {
  readonly step: number;
  readonly loss: number;
  /** Of the averaged parameters, where there are any. */
  readonly averagedLoss?: number;
  /** All figures by column: `valid_loss`, `valid_<metric>`. */
  readonly metrics: Readonly<Record<string, number>>;
}

export interface CheckpointEvent {
  readonly step: number;
  /** Folder of the checkpoint. */
  readonly folder: string;
}

export interface EndEvent {
  readonly status: "finished" | "interrupted" | "stopped" | "failed";
  readonly step: number;
}

export interface TrainerCallback<M extends Module = Module> {
  /** The state is there, no step has been done yet (or, in a resumed training, none of this call). */
  onStart?(training: TrainingHandle<M>): void | Promise<void>;
  onStep?(event: StepEvent, training: TrainingHandle<M>): void | Promise<void>;
  onValidation?(event: ValidationEvent, training: TrainingHandle<M>): void | Promise<void>;
  onCheckpoint?(event: CheckpointEvent, training: TrainingHandle<M>): void | Promise<void>;
  onException?(error: unknown, training: TrainingHandle<M>): void | Promise<void>;
  onEnd?(event: EndEvent, training: TrainingHandle<M>): void | Promise<void>;
}

/** Names of the events. */
export const eventNames: readonly (keyof TrainerCallback)[] = [
  "onStart",
  "onStep",
  "onValidation",
  "onCheckpoint",
  "onException",
  "onEnd",
];

type EventName = Exclude<keyof TrainerCallback, "onStart">;
type EventOf<M extends Module, E extends EventName> = Parameters<NonNullable<TrainerCallback<M>[E]>>[0];

/** Calls an event of each callback in turn; the first that throws ends it. */
export async function emit<M extends Module, E extends EventName>(
  callbacks: readonly TrainerCallback<M>[],
  name: E,
  event: EventOf<M, E>,
  training: TrainingHandle<M>,
): Promise<void> {
  for (const callback of callbacks) {
    const handler = callback[name] as
      | ((event: unknown, training: TrainingHandle<M>) => void | Promise<void>)
      | undefined;
    await handler?.call(callback, event, training);
  }
}

/** Calls an event of every callback, whatever they throw; the errors. */
export async function emitToAll<M extends Module, E extends EventName>(
  callbacks: readonly TrainerCallback<M>[],
  name: E,
  event: EventOf<M, E>,
  training: TrainingHandle<M>,
): Promise<unknown[]> {
  const errors: unknown[] = [];
  for (const callback of callbacks)
    await emit([callback], name, event, training).catch((error: unknown) => errors.push(error));
  return errors;
}
