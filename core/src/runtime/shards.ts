/** Arrays part by part: what each device holds, without the whole ever being in one place. */
import type { DeviceBuffer, Runtime } from "./runtime.js";
import type { BufferOptions, Sharding } from "./types.js";

export interface Shard {
  /** Row-major bytes of the part. */
  data: Uint8Array<ArrayBuffer>;
  /** For each dimension, from where to where in the whole. */
  index: [start: number, end: number][];
}

/**
 * Sends one part to each device of the sharding's mesh, in the mesh's row-major order; devices that hold the same part get it each.
 * Errors surface at the next await of the buffer.
 */
export function putShards(
  runtime: Runtime,
  parts: readonly ArrayBufferView[],
  options: BufferOptions & { sharding: Sharding },
): DeviceBuffer {
  const [buffer] = runtime.adopt([options]);
  const whole = Buffer.concat(
    parts.map((part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength)),
  );
  runtime.send({ op: "put", shards: true, buffer: buffer!.id, ...options }, whole);
  return buffer!;
}

/** The part of a buffer that lies on one device. */
export async function getShard(runtime: Runtime, buffer: DeviceBuffer, device: number): Promise<Shard> {
  const { result, payload } = await runtime.request({ op: "get", buffer: runtime.handle(buffer), device });
  return { data: payload ?? new Uint8Array(0), index: result as [number, number][] };
}
