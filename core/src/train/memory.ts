/** Whether a step fits into the devices' memory, found out before it runs. */
import { itemSize } from "../graph/dtype.js";
import { AronnaxError } from "../graph/errors.js";
import { collectGarbage } from "../host/garbage.js";
import { Runtime } from "../runtime/runtime.js";
import type { MemoryReport, ProgramInfo } from "../runtime/types.js";
import { flatten } from "../transform/tree.js";
import type { Held, TrainState } from "./state.js";

/** A step that needs more memory than is free. Nothing was launched. */
export class TooLargeForMemory extends AronnaxError {}

/** Bytes on one device, and what may be done about them. */
export interface StepMemory {
  readonly parameters: number;
  /** With the averaged parameters. */
  readonly optimizer: number;
  /** Gradients and activations: what the compiled step needs beside its arguments and results. */
  readonly activations: number;
  /** The batch, and the program itself. */
  readonly other: number;
}

/** What a compiled step will take on each device. Where the state is spread over several, each is taken to have an equal part. */
export function stepMemory(
  state: TrainState,
  held: Held,
  { memory }: Pick<ProgramInfo, "memory">,
): StepMemory {
  const [own, beside] = sizesOf(state, held);
  const { outputs, aliased, temporaries, code } = memory;
  // The state goes in and comes out in the same place; what the compiler says of one device is shared out as the whole is.
  const stateBytes = Math.min(memory.arguments, own + beside);
  const parameters = (stateBytes * own) / (own + beside);
  return {
    parameters,
    optimizer: stateBytes - parameters,
    activations: temporaries,
    other: memory.arguments - stateBytes + Math.max(0, outputs - aliased) + code,
  };
}

/** Bytes of the model (with what is only read), and of what is kept beside it. */
function sizesOf(
  { parameters, buffers, optimizer, average, watch }: TrainState,
  held: Held,
): [number, number] {
  return [sizeOf([parameters, buffers, [...held]]), sizeOf([optimizer, average, watch])];
}

function sizeOf(tree: unknown): number {
  return flatten(tree).leaves.reduce((sum, { size, dtype }) => sum + size * itemSize(dtype), 0);
}

/** Bytes that are free for a training on its tightest device, with what the state holds there already. */
export function freeMemory(report: MemoryReport, held: number): number {
  const limited = report.devices.filter((d) => d.limit !== undefined);
  if (limited.length > 0) return Math.min(...limited.map((d) => d.limit! - (d.inUse ?? d.buffers))) + held;
  // Virtual devices of a host share its memory.
  return (report.host.availableBytes + held * report.devices.length) / report.devices.length;
}

/** Bytes that are free for a training that needs so many; where they are too few, what nobody uses any more is freed before. */
async function freeFor(needed: number, held: number): Promise<number> {
  const free = freeMemory(await Runtime.default().memory(), held);
  if (needed <= free) return free;
  // A notebook's cell that runs again leaves its earlier Trainer to the garbage collector, which knows nothing of devices.
  await collectGarbage();
  return freeMemory(await Runtime.default().memory({ trim: true }), held);
}

/**
 * Compares a state that is not on the devices yet with the free memory.
 *
 * @param devices - over so many it is spread, in about equal parts
 * @throws TooLargeForMemory with the biggest consumer and what to do about it
 */
export async function requireStateMemory(state: TrainState, devices: number): Promise<void> {
  const [parameters, optimizer] = sizesOf(state, []).map((bytes) => bytes / devices) as [number, number];
  const free = await freeFor(parameters + optimizer, 0);
  if (parameters + optimizer <= free) return;
  const biggest = optimizer > parameters ? "the optimizer's state" : "parameters";
  throw new TooLargeForMemory(
    `parameters take ${size(parameters)} on each device and the optimizer's state ${size(optimizer)}, and ${size(free)} are free`,
    remedy(biggest, 0, 0, 1, 1),
  );
}

/**
 * Compares a compiled step with the free memory.
 *
 * @param batch - sequences of a batch, and in how many parts it is computed
 * @throws TooLargeForMemory with the biggest consumer and what to do about it
 */
export async function requireMemory(
  need: StepMemory,
  { batchSize, accumulate }: { batchSize: number; accumulate: number },
): Promise<void> {
  const held = need.parameters + need.optimizer;
  const total = held + need.activations + need.other;
  const free = await freeFor(total, held);
  if (total <= free) return;
  const named = {
    "gradients and activations": need.activations,
    "the optimizer's state": need.optimizer,
    parameters: need.parameters,
    "the batch and the program": need.other,
  };
  const parts = Object.entries(named).sort(([, a], [, b]) => b - a);
  throw new TooLargeForMemory(
    `the training step needs about ${size(total)} on each device, and ${size(free)} are free: ${parts.map(([name, bytes]) => `${name} ${size(bytes)}`).join(", ")}`,
    remedy(parts[0]![0] as keyof typeof named, need.activations, free - total, batchSize, accumulate),
  );
}

function remedy(
  biggest: string,
  activations: number,
  missing: number,
  batchSize: number,
  accumulate: number,
): string {
  if (biggest === "parameters") return "spread them with parallel: { fsdp }, or take a smaller model";
  if (biggest === "the optimizer's state") {
    return 'keep it in bfloat16 (stateDType: "bfloat16"), use adafactor, or spread it with parallel: { fsdp }';
  }
  // About in proportion to the rows that are computed at once.
  const room = activations + missing;
  const wanted = room > 0 ? Math.ceil((accumulate * activations) / room) : batchSize;
  let parts = Math.min(wanted, batchSize);
  while (batchSize % parts !== 0) parts++;
  if (parts > accumulate && room > 0)
    return `set accumulate: ${parts}, which computes a batch of ${batchSize} in ${parts} parts; or recompute activations (the model's option remat: "full"), or shorten the sequences`;
  return 'recompute activations (the model\'s option remat: "full"), shorten the sequences, or spread the training with parallel: { fsdp }';
}

function size(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
