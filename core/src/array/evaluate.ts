/** Computing expressions on demand. */
import type { Value } from "../graph/node.js";
import { type DeviceBuffer, Runtime } from "../runtime/runtime.js";
import { CompiledGraph, close, placementOf } from "./program.js";

/**
 * Queues one program that computes all of `values` that have no buffer yet. Afterwards each has one, though perhaps not computed: an
 * error of the device surfaces at the next await of its data.
 */
export function materialize(values: readonly Value[]): void {
  const { outputs, parameters, captured } = close(values, []);
  const seen = new Set<Value>();
  const pending = outputs.filter((v) => v.buffer === undefined && !seen.has(v) && seen.add(v));
  if (pending.length === 0) return;
  const runtime = Runtime.default();
  const compiled = new CompiledGraph({ parameters, outputs: pending }, runtime, {
    name: "expression",
    parameters: captured.map(placementOf),
  });
  const results = compiled.execute(
    runtime,
    captured.map((value) => bufferOf(value)),
  );
  for (const [i, value] of pending.entries()) value.node.materialize(value.index, results[i]!);
}

/** The buffer of a computed value. */
export function bufferOf(value: Value): DeviceBuffer {
  const { buffer } = value;
  if (buffer === undefined) throw new Error(`${value.node.primitive.name} has not been computed`);
  return buffer;
}

/** The bytes of a computed value. */
export function fetch(value: Value): Promise<Uint8Array> {
  const buffer = bufferOf(value);
  return buffer.runtime.get(buffer);
}
