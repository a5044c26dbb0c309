import { bytesSource, type ColumnBatch, MetricsStream } from "./runFiles/metricsStream.js";

/**
 * Reads the Arrow IPC stream of a message of the kernel.
 *
 * @throws Error when the bytes are not such a stream.
 */
export async function decodeRows(buffer: ArrayBuffer | ArrayBufferView): Promise<ColumnBatch> {
  const bytes = ArrayBuffer.isView(buffer)
    ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
    : new Uint8Array(buffer);
  const stream = await MetricsStream.open(bytesSource(bytes));
  const batch = await stream.next();
  if (stream.damage !== undefined) {
    throw new Error(`The kernel sent metrics that cannot be read: ${stream.damage}.`);
  }
  return batch ?? { rowCount: 0, columns: new Map() };
}
