/** Does a checkpoint compute here what it computed where it was made? */
import "../array/methods.js";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { sum } from "../array/broadcast.js";
import { fromBytes } from "../array/creation.js";
import { add, square } from "../array/elementwise.js";
import { encode, type TypedArray } from "../array/hostdata.js";
import { mean } from "../array/reductions.js";
import type { Tensor } from "../array/tensor.js";
import { CheckpointError } from "../checkpoint/errors.js";
import { isFloat } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { nearestName, refuseUnknownOptions } from "../graph/spelling.js";
import { jit } from "../transform/jit.js";
import { flatten } from "../transform/tree.js";
import { valueAndGradWithAux } from "../transform/vjp.js";
import { Reference, type ReferenceLoss, type Stored } from "./reference.js";
import { adapterOf, architectureOf } from "./registry.js";
import type { Alias, Computed, HostArray, Verifiable, Way } from "./verifiable.js";

export interface VerifyOptions {
  /** Largest relative L2 error that holds. Default 1e-5. */
  tolerance?: number;
  /** Folder of an adapter to lay over the checkpoint. */
  adapter?: string;
}

/** One comparison. */
export interface Comparison {
  readonly kind: "output" | "loss" | "gradient";
  readonly name: string;
  /** |ours - theirs| / |theirs| in the L2 norm; Infinity where ours is not finite. */
  readonly error: number;
  readonly holds: boolean;
}

/** A gradient that is zero but for rounding: its relative error says nothing. */
export interface SmallGradient {
  readonly name: string;
  /** L2 norms; the reference's is 0 for a parameter that has no gradient there. */
  readonly reference: number;
  readonly ours: number;
  /** Whether ours is as small: below 1e-6 of the joint norm of all the reference's gradients. */
  readonly holds: boolean;
}

export interface VerifyReport {
  readonly folder: string;
  readonly architecture: string;
  readonly parameters: number;
  readonly tolerance: number;
  /** Whether everything holds. */
  readonly holds: boolean;
  /** The worst first. */
  readonly comparisons: readonly Comparison[];
  readonly small: readonly SmallGradient[];
  /** Joint L2 norm of the reference's gradients; undefined where it has none. */
  readonly gradientNorm: number | undefined;
  /** Which of the ways that the Python library has to compute such inputs was the nearest, where there are several. */
  readonly way: string | undefined;
}

/**
 * Computes a checkpoint that transformers saved from the inputs of the `reference.safetensors` beside it, in float32 and evaluation mode,
 * and compares outputs, loss and gradients with the reference's (docs/verify.md says what the files hold).
 *
 * @throws CheckpointError if the architecture cannot be opened, files are missing, or names and shapes do not fit
 */
export async function verify(folder: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  if (typeof folder !== "string")
    throw new ArgumentError(
      `verify: the folder is ${typeof folder}`,
      "give the path of a checkpoint's folder",
    );
  refuseUnknownOptions("verify", options, ["tolerance", "adapter"]);
  const { tolerance = 1e-5, adapter } = options;
  if (!(tolerance > 0 && Number.isFinite(tolerance)))
    throw new ArgumentError(`verify: the tolerance is ${tolerance}`, "give a positive number, such as 1e-5");
  const architecture = architectureOf(folder);
  const over = adapter === undefined ? undefined : adapterOf(adapter);
  // What the adapted model computed lies beside the adapter; it may lie beside the base too.
  const beside = adapter !== undefined && existsSync(join(adapter, "reference.safetensors"));
  await using reference = await Reference.open(beside ? adapter : folder);
  const base = await architecture.open(folder);
  const opened = over === undefined ? base : await over.open(adapter!, base);
  refuseInputs(reference, opened.inputs);
  const inputs = Object.fromEntries([...reference.inputs].map(([name, array]) => [name, tensorOf(array)]));
  const { leaves } = flatten(opened.model);
  const about = {
    folder,
    architecture: architecture.name,
    parameters: leaves.reduce((n, { size }) => n + size, 0),
    tolerance,
  };
  const ways = opened.ways(reference.inputs);
  let best: VerifyReport | undefined;
  for (const way of ways) {
    const found = await compare(opened, way, inputs, reference, tolerance);
    const report = { ...about, ...found, way: ways.length > 1 ? way.name : undefined };
    if (best === undefined || worst(report) < worst(best)) best = report;
    if (best.holds) break;
  }
  return best!;
}

function worst({ comparisons }: VerifyReport): number {
  return comparisons[0]?.error ?? 0;
}

type Findings = Pick<VerifyReport, "comparisons" | "small" | "gradientNorm" | "holds">;

async function compare(
  opened: Verifiable,
  way: Way<unknown>,
  inputs: Readonly<Record<string, Tensor>>,
  { outputs, loss, lossKind, gradients }: Reference,
  tolerance: number,
): Promise<Findings> {
  const losing = loss !== undefined || gradients !== undefined;
  const run = (model: unknown, given: typeof inputs): readonly [Tensor, Computed] => {
    const computed = way.compute(model, given);
    refuseOutputs(computed, outputs);
    return [
      losing ? lossOf(computed, outputs, lossKind) : sum(computed.outputs[outputs.names[0]!]!),
      computed,
    ];
  };
  const [value, grads, computed] = jit(
    (model: unknown, given: typeof inputs): [Tensor, unknown, Computed] => {
      if (gradients !== undefined) return valueAndGradWithAux(run)(model, given);
      const [ours, all] = run(model, given);
      return [ours, null, all];
    },
    { name: "verify" },
  )(opened.model, inputs);
  const comparisons: Comparison[] = [];
  const note = (kind: Comparison["kind"], name: string, error: number): void => {
    comparisons.push({ kind, name, error, holds: error <= tolerance });
  };
  for (const name of outputs.names) {
    const ours = await computed.outputs[name]!.data();
    note("output", name, measured(ours, await outputs.read(name)).error);
  }
  if (loss !== undefined) note("loss", "loss", measured(await value.data(), [loss]).error);
  let small: SmallGradient[] = [];
  let gradientNorm: number | undefined;
  if (gradients !== undefined) {
    const each = await compareGradients(opened, grads, gradients);
    gradientNorm = Math.hypot(...each.map(({ reference }) => reference));
    const least = 1e-6 * gradientNorm;
    for (const { name, error, reference } of each) if (reference >= least) note("gradient", name, error);
    small = each
      .filter(({ reference }) => !(reference >= least))
      .map(({ name, reference, ours }) => ({ name, reference, ours, holds: ours < least || ours === 0 }));
  }
  comparisons.sort((a, b) => b.error - a.error);
  const holds = [...comparisons, ...small].every((each) => each.holds);
  return { comparisons, small, gradientNorm, holds };
}

/** The loss that the reference names. */
function lossOf({ outputs, loss }: Computed, named: Stored, kind: ReferenceLoss): Tensor {
  if (kind === "the model's own") {
    if (loss !== undefined) return loss;
    throw new CheckpointError(
      "the reference has a loss of the model's own, and its inputs have no labels",
      'save input.labels too, or write {"loss": "sum over outputs of mean(output**2)"} into reference.json',
    );
  }
  if (named.names.length === 0)
    throw new CheckpointError(
      "the loss is a sum over outputs, and the reference has none",
      "save output.NAME",
    );
  return named.names.map((name) => mean(square(outputs[name]!))).reduce(add);
}

interface Measured {
  readonly error: number;
  /** L2 norms. */
  readonly reference: number;
  readonly ours: number;
}

/** Compared in float64, so that small values do not vanish in their squares. */
function measured(ours: ArrayLike<number | bigint>, theirs: ArrayLike<number | bigint>): Measured {
  let [difference, reference, own] = [0, 0, 0];
  for (let i = 0; i < theirs.length; i++) {
    const [a, b] = [Number(ours[i]), Number(theirs[i])];
    difference += (a - b) ** 2;
    reference += b * b;
    own += a * a;
  }
  const relative = difference === 0 ? 0 : Math.sqrt(difference / reference);
  return {
    error: Number.isNaN(relative) ? Number.POSITIVE_INFINITY : relative,
    reference: Math.sqrt(reference),
    ours: Math.sqrt(own),
  };
}

async function compareGradients(
  { stored, aliases }: Verifiable,
  grads: unknown,
  theirs: Stored,
): Promise<(Measured & { name: string })[]> {
  const ours = stored(grads);
  const others = aliases?.(grads) ?? new Map<string, Alias>();
  const unknown = theirs.names.filter((name) => !ours.has(name) && !others.has(name));
  if (unknown.length > 0) {
    const near = nearestName(unknown[0]!, [...ours.keys()]);
    throw new CheckpointError(
      `reference-grads.safetensors holds what is no parameter of the checkpoint: ${unknown.slice(0, 5).join(", ")}`,
      `give the checkpoint's names${near === undefined ? "" : `, such as ${near}`}`,
    );
  }
  const found: (Measured & { name: string })[] = [];
  for (const name of theirs.names) {
    const tensor = ours.get(name) ?? others.get(name)!.tensor();
    refuseShape(`gradient of ${name}`, tensor.shape, theirs.shape(name));
    found.push({ name, ...measured(await tensor.data(), await theirs.read(name)) });
  }
  // Of a parameter without a gradient in torch ours must be zero.
  const covered = new Set(theirs.names.flatMap((name) => others.get(name)?.covers ?? name));
  for (const [name, tensor] of ours) {
    if (covered.has(name)) continue;
    const data = await tensor.data();
    found.push({ name, ...measured(data, new Float64Array(data.length)) });
  }
  return found;
}

function refuseInputs({ inputs }: Reference, known: readonly string[]): void {
  for (const name of inputs.keys()) {
    if (known.includes(name)) continue;
    throw new CheckpointError(
      `the reference has input.${name}, which the architecture does not take here`,
      `it takes ${known.join(", ")}`,
    );
  }
}

function refuseOutputs({ outputs }: Computed, named: Stored): void {
  for (const name of named.names) {
    const ours = outputs[name];
    if (ours === undefined)
      throw new CheckpointError(
        `the reference has output.${name}, which the architecture does not give here`,
        `it gives ${Object.keys(outputs).join(", ")}`,
      );
    refuseShape(`output.${name}`, ours.shape, named.shape(name));
  }
}

function refuseShape(what: string, ours: readonly number[], theirs: readonly number[]): void {
  if (ours.join() === theirs.join()) return;
  throw new CheckpointError(
    `the ${what} is [${theirs.join(", ")}] in the reference, here [${ours.join(", ")}]`,
    "save the reference of this very checkpoint and these inputs",
  );
}

/** float32 for floating-point numbers, int32 for the rest. */
function tensorOf({ shape, dtype, data }: HostArray): Tensor {
  const to = isFloat(dtype) ? "float32" : "int32";
  return fromBytes(encode(numbersOf(data), to), shape, to);
}

function numbersOf(data: TypedArray): ArrayLike<number> {
  return Array.from(data, Number);
}
