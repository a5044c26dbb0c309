/** Properties of the form "our operation gives what jax gives", checked in one batch and shrunk when they fail. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { materialize } from "../../core/src/array/evaluate.js";
import type { Tensor } from "../../core/src/array/tensor.js";
import { difference, type HostArray, toTensor } from "./arrays.js";
import { type Answer, ask, verifyAtEnd } from "./oracle.js";

/** One comparison: a function of named arrays on our side, a Python expression of the same names on the other. */
export interface Trial {
  readonly inputs: Readonly<Record<string, HostArray>>;
  readonly ours: (arrays: Readonly<Record<string, Tensor>>) => Tensor | readonly Tensor[];
  readonly theirs: string;
  readonly x64?: boolean;
  readonly tolerance?: number;
  /** Every bit must be equal. */
  readonly exact?: boolean;
}

export interface Property {
  readonly name: string;
  readonly trials: fc.Arbitrary<Trial>;
  readonly runs?: number;
}

/** Seeds every random choice; set ARONNAX_TEST_SEED to explore others. */
export const seed = Number(process.env.ARONNAX_TEST_SEED ?? 20261123);

async function read(tensor: Tensor): Promise<HostArray> {
  const buffer = tensor.buffer!;
  return { dtype: tensor.dtype, shape: tensor.shape, data: await buffer.runtime.get(buffer) };
}

function build(trial: Trial): readonly Tensor[] | string {
  try {
    const arrays = Object.fromEntries(Object.entries(trial.inputs).map(([name, a]) => [name, toTensor(a)]));
    const result = trial.ours(arrays);
    return Array.isArray(result) ? result : [result as Tensor];
  } catch (error) {
    return `${(error as Error).stack}`;
  }
}

/** Computes all trials as one program; should that fail to compile, each on its own. */
async function ourAnswers(trials: readonly Trial[]): Promise<Answer[]> {
  const built = trials.map(build);
  const results = async (outputs: readonly Tensor[] | string): Promise<Answer> => {
    if (typeof outputs === "string") return { error: outputs };
    try {
      materialize(outputs);
      return { values: await Promise.all(outputs.map(read)) };
    } catch (error) {
      return { error: `${(error as Error).message}` };
    }
  };
  const all = built.flatMap((outputs) => (typeof outputs === "string" ? [] : outputs));
  try {
    materialize(all);
    await Promise.all(all.map(read));
  } catch {
    // Something in the batch does not compile: find out which.
    return Promise.all(trials.map(async (trial) => results(build(trial))));
  }
  return Promise.all(built.map(results));
}

async function theirAnswers(trials: readonly Trial[]): Promise<Answer[]> {
  const answers = new Array<Answer>(trials.length);
  for (const x64 of [false, true]) {
    const mine = trials.flatMap((trial, i) => ((trial.x64 ?? false) === x64 ? [i] : []));
    if (mine.length === 0) continue;
    const found = await ask(
      mine.map((i) => ({ code: trials[i]!.theirs, inputs: trials[i]!.inputs })),
      { x64 },
    );
    for (const [k, i] of mine.entries()) answers[i] = found[k]!;
  }
  return answers;
}

function describeTrial(trial: Trial): string {
  const inputs = Object.entries(trial.inputs).map(([name, a]) => `${name}: ${a.dtype}[${a.shape}]`);
  return `${trial.theirs} with ${inputs.join(", ")}`;
}

function judge(trial: Trial, ours: Answer, theirs: Answer): string | undefined {
  if ("error" in theirs) return `${describeTrial(trial)}: jax says ${theirs.error}`;
  if ("error" in ours) return `${describeTrial(trial)}: ${ours.error}`;
  if (ours.values.length !== theirs.values.length)
    return `${describeTrial(trial)}: ${ours.values.length} results, expected ${theirs.values.length}`;
  for (const [i, value] of ours.values.entries()) {
    const found = difference(value, theirs.values[i]!, trial.tolerance, trial.exact);
    if (found !== undefined) return `${describeTrial(trial)}: result ${i}: ${found}`;
  }
  return undefined;
}

/** What differs, for each trial. */
export async function compareTrials(trials: readonly Trial[]): Promise<(string | undefined)[]> {
  const [ours, theirs] = await Promise.all([ourAnswers(trials), theirAnswers(trials)]);
  return trials.map((trial, i) => judge(trial, ours[i]!, theirs[i]!));
}

/** One test for each property; the cases of all of them are computed together beforehand. */
export function checkProperties(title: string, properties: readonly Property[]): void {
  describe(`${title} (seed ${seed})`, () => {
    const failures = new Map<string, string>();
    beforeAll(async () => {
      const sampled = properties.map(({ trials, runs = 8 }) => fc.sample(trials, { seed, numRuns: runs }));
      const found = await compareTrials(sampled.flat());
      let at = 0;
      for (const [i, { name }] of properties.entries()) {
        for (let k = 0; k < sampled[i]!.length; k++) {
          const failure = found[at++];
          if (failure !== undefined && !failures.has(name)) failures.set(name, failure);
        }
      }
    }, 600_000);
    for (const { name, trials, runs = 8 } of properties) {
      it(name, async () => {
        const failure = failures.get(name);
        if (failure === undefined) return;
        if (process.env.ARONNAX_TEST_SHRINK !== "0") {
          // Again, one case at a time, so that fast-check can find the smallest one that fails.
          await fc.assert(
            fc.asyncProperty(trials, async (trial) => {
              const [found] = await compareTrials([trial]);
              if (found !== undefined) throw new Error(found);
            }),
            { seed, numRuns: runs },
          );
        }
        expect.fail(failure);
      });
    }
  });
}

verifyAtEnd();
