/** How long a training waits for a loader whose workers decode faster than it computes. */
import { availableParallelism, cpus } from "node:os";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { data } from "aronnax";

export interface LoaderBenchmark {
  readonly workers: number;
  readonly batchSize: number;
  readonly prefetch: number;
  /** Pixels along each side of the images that are decoded. */
  readonly side: number;
  /** Passes over an image: what decoding costs, twice as much for some items as for others. */
  readonly passes: number;
  /** Waits so long in place of computing, as for a disk: what is measured then is the loader, not the machine's cores. */
  readonly milliseconds?: number;
  /** The workers' rate over that of the training. */
  readonly ratio: number;
  readonly steps: number;
}

/** Stands for reading and augmenting an image: arithmetic over its pixels, more for some items than for others. */
async function decode(
  item: number,
  {
    context,
    random,
  }: { context: { side: number; passes: number; milliseconds?: number }; random: data.Sfc32 },
) {
  const { side, passes, milliseconds } = context;
  const image = new Float32Array(3 * side * side);
  const cost = 0.5 + 1.5 * random.uniform() ** 2;
  const rounds = milliseconds === undefined ? Math.max(1, Math.round(passes * cost)) : 0;
  if (milliseconds !== undefined) await new Promise((resolve) => setTimeout(resolve, milliseconds * cost));
  for (let round = 0; round < rounds; round++)
    for (let i = 0; i < image.length; i++) image[i] = Math.sin(image[i]! + (i + item) * 1e-3);
  return { image: { data: image, shape: [3, side, side] }, label: item % 10 };
}

/**
 * Reads batches as fast as they come for the workers' own rate, then by turns with steps that take `ratio` times as long as the workers
 * take for a batch, in which this thread does nothing, as one that waits for a device.
 */
export async function measureLoader(options: LoaderBenchmark): Promise<Record<string, unknown>> {
  const { workers, batchSize, prefetch, side, passes, milliseconds, ratio, steps } = options;
  const source = data.loader({
    items: Array.from({ length: 100_000 }, (_, i) => i),
    decode,
    context: { side, passes, milliseconds },
    dtypes: { label: "int32" },
    workers,
    prefetch,
    batchSize,
  });
  try {
    const alone = Math.max(4, Math.ceil(steps / 5));
    for (let i = 0; i < prefetch + 2; i++) await source.next();
    const started = performance.now();
    for (let i = 0; i < alone; i++) await source.next();
    const batchSeconds = (performance.now() - started) / 1000 / alone;
    const stepSeconds = ratio * batchSeconds;

    const waits: number[] = [];
    // What is ahead when a training begins is no part of the question, nor is the first filling.
    for (let i = 0; i < prefetch + 2; i++) {
      await source.next();
      await sleep(1000 * stepSeconds);
    }
    const before = performance.eventLoopUtilization();
    for (let i = 0; i < steps; i++) {
      await source.next();
      waits.push(source.columns().data_wait_seconds!);
      await sleep(1000 * stepSeconds);
    }
    const { utilization } = performance.eventLoopUtilization(before);
    waits.sort((a, b) => a - b);
    const quantile = (q: number) => waits[Math.min(waits.length - 1, Math.floor(q * waits.length))]!;
    const share = (q: number) => Number((quantile(q) / stepSeconds).toPrecision(3));
    return {
      benchmark: "loader",
      node: process.version,
      processor: cpus()[0]?.model,
      cores: availableParallelism(),
      ...options,
      batchMegabytes: Number(((batchSize * 3 * side * side * 4) / 1e6).toPrecision(3)),
      batchesPerSecondAlone: Number((1 / batchSeconds).toPrecision(3)),
      stepMilliseconds: Number((1000 * stepSeconds).toPrecision(4)),
      waitShareOfStep: { median: share(0.5), p90: share(0.9), p99: share(0.99), max: share(1) },
      busyShareOfMainThread: Number(utilization.toPrecision(3)),
    };
  } finally {
    source.close();
  }
}
