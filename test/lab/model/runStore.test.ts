import { describe, expect, it } from "vitest";
import { decodeRows } from "../../../lab-extension/src/model/decode.js";
import { METRICS, type RunUpdate } from "../../../lab-extension/src/model/protocol.js";
import { Run } from "../../../lab-extension/src/model/run.js";
import { RunStore } from "../../../lab-extension/src/model/runStore.js";
import { arrowStream, type Row, trainingRows } from "../support/arrow.js";

/** What the kernel sends: one run, its rows as Arrow bytes. */
async function send(
  store: RunStore,
  type: "snapshot" | "batch",
  rows: readonly Row[],
  run: Partial<RunUpdate> = {},
): Promise<boolean> {
  const message = METRICS.parse({
    version: 1,
    type,
    seq: 0,
    runs: [
      { id: "a", name: "tiny", startedAt: 1, status: "running", rowCount: 0, firstRow: 0, buffer: 0, ...run },
    ],
  });
  return store.apply(message, new Map([[0, await decodeRows(arrowStream(rows))]]));
}

const rows = trainingRows(30);

describe("RunStore", () => {
  it("keeps the media of a run, each once", async () => {
    const store = new RunStore();
    const text = (step: number) => ({
      step,
      name: "said",
      kind: "text",
      mime: "text/plain",
      data: `at ${step}`,
    });
    const media = (type: "snapshot" | "batch", records: unknown[], firstMedia: number) =>
      store.apply(
        METRICS.parse({
          version: 2,
          type,
          seq: 0,
          runs: [{ id: "a", config: { lr: 1 }, folder: "/runs/a", media: records, firstMedia, buffer: null }],
        }),
        new Map(),
      );
    media("snapshot", [text(1)], 0);
    media("batch", [text(2), { broken: true }], 1);
    media("snapshot", [text(1), text(2), text(3)], 0);
    const run = store.get("a")!;
    expect(run.media.map(({ step }) => step)).toEqual([1, 2, 3]);
    expect(run.info).toMatchObject({ folder: "/runs/a", config: { lr: 1 } });
  });

  it("grows a run batch by batch", async () => {
    const store = new RunStore();
    let changes = 0;
    store.changed.connect(() => {
      changes += 1;
    });
    expect(await send(store, "snapshot", rows.slice(0, 10))).toBe(true);
    expect(await send(store, "batch", rows.slice(10, 30), { firstRow: 10 })).toBe(true);
    const run = store.get("a")!;
    expect(run.rowCount).toBe(30);
    expect(Array.from(run.series("loss")!.values)).toEqual(rows.map((row) => row.loss));
    expect(changes).toBe(2);
  });

  it("skips rows that it has, and notices rows that it lacks", async () => {
    const store = new RunStore();
    await send(store, "snapshot", rows.slice(0, 10));
    expect(await send(store, "batch", rows.slice(5, 15), { firstRow: 5 })).toBe(true);
    expect(store.get("a")!.rowCount).toBe(15);
    expect(await send(store, "batch", rows.slice(20), { firstRow: 20 })).toBe(false);
    expect(store.get("a")!.rowCount).toBe(15);
    expect(await send(store, "snapshot", rows)).toBe(true);
    expect(Array.from(store.get("a")!.series("step")!.values)).toEqual(rows.map((row) => row.step));
  });

  it("keeps rows that the kernel has forgotten, and starts over where it has forgotten too many", async () => {
    const store = new RunStore();
    await send(store, "snapshot", rows.slice(0, 10));
    await send(store, "snapshot", rows.slice(8, 20), { firstRow: 8 });
    expect(store.get("a")!.rowCount).toBe(20);
    await send(store, "snapshot", rows.slice(25), { firstRow: 25 });
    const run = store.get("a")!;
    expect(Array.from(run.series("step")!.values)).toEqual([26, 27, 28, 29, 30]);
    expect(await send(store, "batch", trainingRows(1, { from: 30 }), { firstRow: 30 })).toBe(true);
    expect(run.last("step")).toBe(31);
  });

  it("drops runs that a snapshot does not name", async () => {
    const store = new RunStore();
    await send(store, "snapshot", rows);
    await send(store, "snapshot", rows, { id: "b", startedAt: 2 });
    expect(store.runs.map((run) => run.id)).toEqual(["b"]);
  });

  it("lists the newest run first and takes over its status", async () => {
    const store = new RunStore();
    await send(store, "batch", rows.slice(0, 1));
    await send(store, "batch", rows.slice(0, 1), { id: "b", startedAt: 2 });
    await send(store, "batch", [], { status: "failed", message: "loss is NaN", firstRow: 1, buffer: null });
    expect(store.runs.map((run) => run.id)).toEqual(["b", "a"]);
    expect(store.get("a")!.info).toMatchObject({ status: "failed", message: "loss is NaN" });
  });

  it("tells from where to where a value was not finite, and whether it is finite again", async () => {
    const store = new RunStore();
    await send(store, "snapshot", [
      { step: 7, loss: 1 },
      { step: 8, loss: Number.NaN },
      { step: 9, loss: Number.NaN, gradient_norm: Number.POSITIVE_INFINITY },
      { step: 10, loss: 2 },
    ]);
    expect(store.get("a")!.nonFinite).toEqual([
      { column: "loss", kind: "NaN", firstStep: 8, lastStep: 9, count: 2, isLast: false },
      { column: "gradient_norm", kind: "Infinity", firstStep: 9, lastStep: 9, count: 1, isLast: true },
    ]);
  });

  it("puts the rows that the kernel no longer has before those that it has, and loses none", async () => {
    const store = new RunStore();
    const all = trainingRows(100);
    await send(store, "snapshot", all.slice(60, 80), { firstRow: 60 });
    const run = store.get("a")!;
    expect(run.firstRow).toBe(60);
    const history = new Run({ id: "a", name: "tiny", startedAt: 1 });
    // The files have some rows already that the kernel has sent, too.
    history.append(await decodeRows(arrowStream(all.slice(0, 70))), 0);
    const tooShort = new Run({ id: "a", name: "tiny", startedAt: 1 });
    tooShort.append(await decodeRows(arrowStream(all.slice(0, 50))), 0);
    expect(run.fillHistory(tooShort)).toBe(false);
    expect(run.fillHistory(history)).toBe(true);
    await send(store, "batch", all.slice(80), { firstRow: 80 });
    for (const column of ["step", "loss", "valid_loss"]) {
      expect(all.map((_, row) => run.series(column)!.at(row))).toEqual(all.map((row) => row[column]));
    }
  });

  it("says of runs whose kernel is gone that they are", async () => {
    const store = new RunStore();
    await send(store, "snapshot", rows);
    store.markStale();
    expect(store.get("a")!.info).toMatchObject({ status: "running", isStale: true });
  });
});

describe("METRICS.parse", () => {
  it("refuses another version and says what to do", () => {
    expect(() => METRICS.parse({ version: 3, type: "batch", seq: 0, runs: [] })).toThrow(
      /version 3.*versions 1 to 2.*same release/,
    );
  });

  it("refuses what is not a metrics message", () => {
    expect(() => METRICS.parse(null)).toThrow();
    expect(() => METRICS.parse({ version: 1, type: "hello", seq: 0, runs: [] })).toThrow(/"hello"/);
    expect(() => METRICS.parse({ version: 1, type: "batch", runs: [] })).toThrow(/sequence number/);
    expect(() => METRICS.parse({ version: 1, type: "batch", seq: 0, runs: [{}] })).toThrow(/without an id/);
  });
});
