import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createMetricsHub, RunWriter, readRunState } from "../../../core/src/metrics/index.js";
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

  it("puts segments together: new columns, and rows that a resumed run computed again", async () => {
    const root = mkdtempSync(join(tmpdir(), "aronnax-decode-"));
    const hub = createMetricsHub();
    const first = new RunWriter({ name: "run", root, hub });
    for (let step = 1; step <= 4; step++) first.log({ step, time: step, loss: step });
    first.flush();
    first.log({ step: 5, time: 5, late: Number.NaN });
    first.close();
    const second = new RunWriter({ name: "run", root, hub, resumeAfterStep: 2 });
    second.log({ step: 3, time: 3, loss: 30 });
    second.close();
    const files = readRunState(second.folder)!.segments!.map((name) =>
      readFileSync(join(second.folder, name)),
    );
    expect(files).toHaveLength(3);
    const { info, rows } = await decodeRunFile(files, "metrics.arrow");
    expect(info.id).toBe(second.id);
    expect(rows.rowCount).toBe(3);
    expect(Array.from(rows.columns.get("step")!)).toEqual([1, 2, 3]);
    expect(Array.from(rows.columns.get("loss")!)).toEqual([1, 2, 30]);
    const two = await decodeRunFile(files.slice(0, 2), "metrics.arrow");
    expect(Array.from(two.rows.columns.get("late")!)).toEqual([null, null, null, null, Number.NaN]);
    rmSync(root, { recursive: true });
  });

  it("reads files of version 1", async () => {
    const bytes = readFileSync(new URL("../../fixtures/run-files/version-1/metrics.arrow", import.meta.url));
    const { info, rows } = await decodeRunFile(bytes, "metrics.arrow");
    expect(info).toMatchObject({ name: "version-1", totalSteps: 60 });
    expect(rows.rowCount).toBe(60);
  });

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
