/**
 * Whether results that nobody holds give their memory back: `s = step(s)` without donation and without a pause. Prints the bytes in live buffers
 * after the loop, and the most that the device's allocator had.
 *
 * usage: garbage [--megabytes 1] [--calls 8000]    on an H200: --megabytes 1024 --calls 400
 */
import { parseArgs } from "node:util";
import { evaluate, jit, type Tensor, zeros } from "aronnax";
import { Runtime } from "../../core/src/runtime/runtime.js";

export interface GarbageRow {
  readonly platform: string;
  readonly megabytes: number;
  readonly calls: number;
  readonly secondsPerCall: number;
  /** MiB in live buffers when the last call was queued. */
  readonly live: number;
  readonly peak: number | undefined;
}

export async function measureGarbage(megabytes: number, calls: number): Promise<GarbageRow> {
  const step = jit((s: Tensor): Tensor => s.mul(0.999).add(1));
  let s = await evaluate(step(zeros([megabytes * 2 ** 18])));
  const start = performance.now();
  for (let i = 0; i < calls; i++) s = step(s);
  const report = Runtime.default().memory();
  await evaluate(s);
  const { buffers, peak } = (await report).devices[0]!;
  return {
    platform: Runtime.default().platform,
    megabytes,
    calls,
    secondsPerCall: (performance.now() - start) / 1000 / calls,
    live: buffers / 2 ** 20,
    peak: peak === undefined ? undefined : peak / 2 ** 20,
  };
}

if (process.argv[1]?.match(/garbage\.(ts|mjs)$/)) {
  const { values } = parseArgs({
    options: {
      megabytes: { type: "string", default: "1" },
      calls: { type: "string", default: "8000" },
    },
  });
  console.log(JSON.stringify(await measureGarbage(Number(values.megabytes), Number(values.calls))));
  process.exit(0);
}
