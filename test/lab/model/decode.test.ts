import { describe, expect, it } from "vitest";
import { decodeRows, decodeRunFile } from "../../../lab-extension/src/model/decode.js";
import { arrowStream, type Row, trainingRows } from "../support/arrow.js";

describe("decodeRows", () => {
  it("keeps NaN and infinities, and tells them from absent values", async () => {
    const rows: Row[] = [
      { step: 1, loss: 3.5 },
      { step: 2, loss: Number.NaN, valid_loss: 4 },
      { step: 3, loss: Number.POSITIVE_INFINITY },
    ];
    const batch = await decodeRows(arrowStream(rows));
    expect(batch.rowCount).toBe(3);
    expect(Array.from(batch.columns.get("step")!)).toEqual([1, 2, 3]);
    expect(Array.from(batch.columns.get("loss")!)).toEqual([3.5, Number.NaN, Number.POSITIVE_INFINITY]);
    expect(Array.from(batch.columns.get("valid_loss")!)).toEqual([null, 4, null]);
  });

  it("reads bytes at any offset, as they lie in a websocket's frame", async () => {
    const bytes = arrowStream([{ step: 1, loss: 2 }]);
    for (const offset of [1, 3, 4]) {
      const frame = new Uint8Array(bytes.length + offset);
      frame.set(bytes, offset);
      const batch = await decodeRows(new DataView(frame.buffer, offset));
      expect(batch.columns.get("loss")![0]).toBe(2);
    }
  });
});

describe("decodeRunFile", () => {
  const run = { id: "r", name: "tiny", startedAt: 5, totalSteps: 40 };

  it("reads the run from the schema's metadata", async () => {
    const { info, rows } = await decodeRunFile(arrowStream(trainingRows(40), run), "metrics.arrow");
    expect(info).toMatchObject(run);
    expect(info.status).toBeUndefined();
    expect(rows.rowCount).toBe(40);
  });

  it("reads what is whole of a file whose writer was killed", async () => {
    const bytes = arrowStream(trainingRows(40), run);
    const { info, rows } = await decodeRunFile(bytes.subarray(0, bytes.length - 100), "metrics.arrow");
    expect(info.name).toBe("tiny");
    expect(rows.rowCount).toBe(0);
  });

  it("names the columns of an Arrow file that is not a run's", async () => {
    await expect(decodeRunFile(arrowStream([{ height: 1, width: 2 }]), "table.arrow")).rejects.toThrow(
      /^table\.arrow is an Arrow stream without a "step" column.*height, width/,
    );
  });

  it("refuses bytes that are not Arrow", async () => {
    await expect(decodeRunFile(new TextEncoder().encode("step,loss\n1,2\n"), "a.arrow")).rejects.toThrow();
  });
});
