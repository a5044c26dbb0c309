import { describe, expect, it } from "vitest";
import { decodeRows } from "../../../lab-extension/src/model/decode.js";
import { hasValue } from "../../../lab-extension/src/model/runFiles/metricsStream.js";
import { arrowStream, type Row } from "../support/arrow.js";

describe("decodeRows", () => {
  it("keeps NaN and infinities, and tells them from absent values", async () => {
    const rows: Row[] = [
      { step: 1, loss: 3.5 },
      { step: 2, loss: Number.NaN, valid_loss: 4 },
      { step: 3, loss: Number.POSITIVE_INFINITY },
    ];
    const batch = await decodeRows(arrowStream(rows));
    expect(batch.rowCount).toBe(3);
    expect(Array.from(batch.columns.get("step")!.values)).toEqual([1, 2, 3]);
    expect(Array.from(batch.columns.get("loss")!.values)).toEqual([
      3.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
    ]);
    const validation = batch.columns.get("valid_loss")!;
    expect([0, 1, 2].map((i) => hasValue(validation, i))).toEqual([false, true, false]);
    expect(validation.values[1]).toBe(4);
  });

  it("reads bytes at any offset, as they lie in a websocket's frame", async () => {
    const bytes = arrowStream([{ step: 1, loss: 2 }]);
    for (const offset of [1, 3, 4]) {
      const frame = new Uint8Array(bytes.length + offset);
      frame.set(bytes, offset);
      const batch = await decodeRows(new DataView(frame.buffer, offset));
      expect(batch.columns.get("loss")!.values[0]).toBe(2);
    }
  });

  it("refuses what is no such stream", async () => {
    await expect(decodeRows(new TextEncoder().encode("step,loss\n"))).rejects.toThrow(/not an Arrow stream/);
  });
});
