/**
 * What a call of a jitted function costs here, before the runtime has anything to do with it: taking the tree apart, finding the program, queueing
 * the run, wrapping the results.
 *
 * usage: dispatch [--parameters 1,300] [--calls 300] [--profile]     the peer: peers/dispatch_jax.py
 */
import { parseArgs } from "node:util";
import { evaluate, jit, type Tensor, zeros } from "aronnax";

export interface DispatchRow {
  readonly parameters: number;
  /** Median and best of the calls, in microseconds. */
  readonly median: number;
  readonly best: number;
}

/** `state = step(state)` of so many small parameters. */
export async function measureDispatch(parameters: number, calls: number): Promise<DispatchRow> {
  const step = jit((state: Record<string, Tensor>) =>
    Object.fromEntries(Object.entries(state).map(([name, x]) => [name, x.add(1)])),
  );
  let state = Object.fromEntries(
    Array.from({ length: parameters }, (_, i) => [`layer${i}.weight`, zeros([4])]),
  );
  state = await evaluate(step(state));
  const times: number[] = [];
  for (let i = 0; i < calls; i++) {
    const start = performance.now();
    state = step(state);
    times.push(1000 * (performance.now() - start));
    // The runtime keeps pace: its turn is not counted.
    if (i % 10 === 9) await evaluate(state);
  }
  times.sort((a, b) => a - b);
  return { parameters, median: times[Math.floor(calls / 2)]!, best: times[0]! };
}

if (process.argv[1]?.match(/dispatch\.(ts|mjs)$/)) {
  const { values } = parseArgs({
    options: {
      parameters: { type: "string", default: "1,300" },
      calls: { type: "string", default: "300" },
    },
  });
  for (const count of values.parameters.split(","))
    console.log(JSON.stringify(await measureDispatch(Number(count), Number(values.calls))));
  process.exit(0);
}
