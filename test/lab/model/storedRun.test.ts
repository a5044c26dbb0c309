import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Float64, makeVector, Table, tableToIPC, Utf8, vectorFromArray } from "apache-arrow";
import { afterAll, describe, expect, it } from "vitest";
import { createMetricsHub, RunWriter, readRun } from "../../../core/src/metrics/index.js";
import { localReader } from "../../../lab-extension/src/model/runFiles/readers.js";
import type { RunPlace } from "../../../lab-extension/src/model/runFiles/runPlace.js";
import { StoredRun } from "../../../lab-extension/src/model/storedRun.js";
import { arrowStream, trainingRows } from "../support/arrow.js";

const root = mkdtempSync(join(tmpdir(), "aronnax-stored-"));
afterAll(() => rmSync(root, { recursive: true }));

/** A folder of this machine, as a server or a kernel gives its files: by ranges, at most so many bytes an answer. */
class FolderPlace implements RunPlace {
  requests = 0;
  largest = 0;

  constructor(
    private readonly folder: string,
    readonly name = "run",
    private readonly most = 1 << 20,
  ) {}

  async list(folder: string): Promise<readonly string[] | undefined> {
    const path = join(this.folder, folder);
    return existsSync(path) ? readdirSync(path) : undefined;
  }

  async file(name: string) {
    return {
      fetch: async (offset: number, length: number) => {
        const bytes = new Uint8Array(readFileSync(join(this.folder, name)));
        this.requests += 1;
        this.largest = Math.max(this.largest, length);
        return { bytes: bytes.slice(offset, offset + Math.min(length, this.most)), size: bytes.length };
      },
    };
  }
}

let next = 0;

/** A folder with this as its first segment. */
function folderOf(bytes: Uint8Array, state?: object): string {
  const folder = join(root, `folder-${next++}`);
  mkdirSync(folder);
  writeFileSync(join(folder, "metrics.arrow"), bytes);
  if (state) writeFileSync(join(folder, "run.json"), JSON.stringify(state));
  return folder;
}

async function read(folder: string): Promise<StoredRun> {
  const stored = new StoredRun(new FolderPlace(folder), undefined, localReader);
  await stored.refresh();
  return stored;
}

const info = { id: "r", name: "tiny", startedAt: 5, totalSteps: 40, config: { lr: 3 } };

describe("a stored run", () => {
  it("has every number that the framework wrote, over segments, new columns and a resume", async () => {
    const hub = createMetricsHub();
    const first = new RunWriter({ name: "resumed", root, hub });
    for (let step = 1; step <= 4; step++) first.log({ step, time: step, loss: step });
    first.flush();
    first.log({ step: 5, time: 5, late: Number.NaN });
    first.close();
    const second = new RunWriter({ name: "resumed", root, hub, resumeAfterStep: 2 });
    second.log({ step: 3, time: 3, loss: 30 });
    second.log({ step: 4, time: 4, loss: Number.NEGATIVE_INFINITY, extra: 7 });
    second.close();
    const { run } = await read(second.folder);
    const { table } = readRun(second.folder);
    expect(run!.id).toBe(second.id);
    expect(run!.info).toMatchObject({ status: "finished", parent: { step: 2 } });
    expect(run!.rowCount).toBe(table.rowCount);
    for (const column of table.columns) {
      expect(Array.from({ length: 4 }, (_, row) => run!.series(column)?.at(row))).toEqual(
        Array.from({ length: 4 }, (_, row) => table.get(column, row)),
      );
    }
    expect(run!.series("loss")!.nonFinite).toEqual([{ from: 3, to: 4, kind: "-Infinity" }]);
  });

  it("is read on from where it was as it grows, and gone over where another run takes its place", async () => {
    const hub = createMetricsHub();
    const writer = new RunWriter({ name: "growing", root, hub });
    for (const row of trainingRows(500)) writer.log(row);
    writer.flush();
    const place = new FolderPlace(writer.folder);
    const stored = new StoredRun(place, undefined, localReader);
    await stored.refresh();
    expect(stored.run!.rowCount).toBe(500);
    for (let from = 500; from < 900; from += 100) {
      for (const row of trainingRows(100, { from })) writer.log({ ...row, accuracy: row.step! / 1000 });
      writer.flush();
      await stored.refresh();
      expect(stored.run!.rowCount).toBe(from + 100);
    }
    expect(Array.from(stored.run!.series("step")!.values)).toEqual(
      Array.from({ length: 900 }, (_, i) => i + 1),
    );
    expect(stored.run!.series("accuracy")!.rowOf(0)).toBe(500);
    const before = stored.run;
    await stored.refresh();
    expect(stored.run).toBe(before);
    writer.close();
    const again = new RunWriter({ name: "growing", root, hub });
    for (const row of trainingRows(7)) again.log(row);
    again.close();
    await stored.refresh();
    expect(stored.run!.id).toBe(again.id);
    expect(stored.run!.rowCount).toBe(7);
    // What came before lies in the folder of the newest.
    expect(stored.names).toContain("earlier");
  });

  it("goes on with a run that was resumed while it was read, and takes a file that was replaced whole", async () => {
    const hub = createMetricsHub();
    const first = new RunWriter({ name: "going-on", root, hub });
    for (const row of trainingRows(60)) first.log(row);
    first.flush();
    const stored = await read(first.folder);
    first.close("interrupted");
    const second = new RunWriter({ name: "going-on", root, hub, resumeAfterStep: 50 });
    await stored.refresh();
    expect(stored.run!.rowCount).toBe(50);
    for (const row of trainingRows(40, { from: 50 })) second.log(row);
    second.close();
    await stored.refresh();
    expect(Array.from(stored.run!.series("step")!.values)).toEqual(
      Array.from({ length: 90 }, (_, i) => i + 1),
    );

    const folder = folderOf(arrowStream(trainingRows(40), info));
    const whole = await read(folder);
    writeFileSync(join(folder, "metrics.arrow"), arrowStream(trainingRows(90), info));
    await whole.refresh();
    expect(whole.run!.rowCount).toBe(90);
  });

  it("reads files of version 1", async () => {
    const folder = new URL("../../fixtures/run-files/version-1", import.meta.url).pathname;
    const { run } = await read(folder);
    expect(run!.info).toMatchObject({ name: "version-1", totalSteps: 60 });
    expect(run!.rowCount).toBe(60);
  });

  it("reads a batch of many megabytes by columns, in ranges of 4 MiB", async () => {
    const count = 300_000;
    const columns = Object.fromEntries(
      ["step", ...Array.from({ length: 9 }, (_, i) => `c${i}`)].map((name, c) => [
        name,
        makeVector(Float64Array.from({ length: count }, (_, i) => i * (c + 1))),
      ]),
    );
    const folder = folderOf(tableToIPC(new Table(columns), "stream"));
    const place = new FolderPlace(folder, "run", 1 << 30);
    const stored = new StoredRun(place, undefined, localReader);
    await stored.refresh();
    expect(stored.run!.rowCount).toBe(count);
    expect(stored.run!.series("c8")!.at(299_999)).toBe(299_999 * 10);
    expect(place.largest).toBeLessThanOrEqual(4 << 20);
  });

  it("reads what is whole of a file that is cut anywhere, and says so unless it is being written", async () => {
    const rows = trainingRows(40);
    const whole = arrowStream(rows, info);
    for (const length of [whole.length, whole.length - 9, whole.length - 100, 1200]) {
      const stored = await read(folderOf(whole.slice(0, length)));
      expect(stored.run!.rowCount).toBe(length >= whole.length - 8 ? 40 : 0);
      expect(stored.remark?.kind).toBe(length >= whole.length - 8 ? undefined : "cut");
    }
    expect((await read(folderOf(whole.slice(0, 100)))).remark).toMatchObject({ kind: "unreadable" });
    const running = await read(
      folderOf(Uint8Array.from([...withoutEnd(whole), ...batchesOf(whole).slice(0, 70)]), {
        ...info,
        status: "running",
        updatedAt: Date.now(),
      }),
    );
    expect(running.run!.rowCount).toBe(40);
    expect(running.remark).toBeUndefined();
  });

  it("does not believe counts that the file cannot hold", async () => {
    const damaged = Buffer.from(arrowStream(trainingRows(1000), info));
    const start = 8 + damaged.readInt32LE(4);
    for (let at = start + 8; at < start + 8 + damaged.readInt32LE(start + 4); at += 4) {
      if (damaged.readInt32LE(at) === 1000 && damaged.readInt32LE(at + 4) === 0) {
        damaged.writeInt32LE(0x7ffffff0, at);
      }
    }
    const stored = await read(folderOf(damaged));
    expect(stored.run!.rowCount).toBe(0);
    expect(stored.remark).toMatchObject({
      kind: "damaged",
      detail: expect.stringMatching(/longer than its data/),
    });
    const header = Buffer.from(arrowStream(trainingRows(1000), info));
    header.writeInt32LE(0x7ffffff0, start + 4);
    expect((await read(folderOf(header))).remark).toMatchObject({ kind: "cut" });
  });

  it.each([
    ["an empty file", new Uint8Array(), /it is empty/],
    ["text", new TextEncoder().encode("hello, this is no arrow at all\n".repeat(20)), /not an Arrow stream/],
    ["a Feather file", tableToIPC(new Table({ step: makeVector(Float64Array.of(1)) }), "file"), /Feather/],
    [
      "a table without steps",
      arrowStream([{ height: 1, width: 2 }]),
      /no column "step" \(its columns: "height", "width"\)/,
    ],
    [
      "a table of words",
      tableToIPC(new Table({ step: vectorFromArray(["a", "b"], new Utf8()) }), "stream"),
      /no float64 numbers: "step"/,
    ],
  ])("says what %s is", async (_, bytes, problem) => {
    const stored = await read(folderOf(bytes));
    expect(stored.run).toBeUndefined();
    expect(stored.remark).toMatchObject({ kind: "unreadable", detail: expect.stringMatching(problem) });
  });

  it("takes the rows of a file whose description is damaged", async () => {
    const table = new Table({
      step: makeVector(Float64Array.of(1, 2)),
      loss: vectorFromArray([3, null], new Float64()),
    });
    table.schema.metadata.set("aronnax.run", "{broken");
    const { run } = await read(folderOf(tableToIPC(table, "stream"), { broken: true }));
    expect(run!.rowCount).toBe(2);
    expect(run!.series("loss")!.at(1)).toBeUndefined();
    expect(run!.info.name).toBe("run");
  });

  it("takes a run for ended that says it is running and has given no sign for long", async () => {
    const bytes = arrowStream(trainingRows(5), info);
    const at = (updatedAt: number) => read(folderOf(bytes, { ...info, status: "running", updatedAt }));
    expect((await at(Date.now() - 3_600_000)).run!.info.isStale).toBe(true);
    expect((await at(Date.now() - 10_000)).run!.info.isStale).toBe(false);
  });

  it("has the media that count, and checkpoints", async () => {
    const hub = createMetricsHub();
    const writer = new RunWriter({ name: "media", root, hub });
    for (let step = 1; step <= 4; step++) {
      writer.log({ step, loss: step });
      await writer.media.text("said", `at ${step}`, { step });
    }
    writer.close();
    appendFileSync(join(writer.folder, "media", "index.jsonl"), '{"kind":"resume","step":3}\n{"step":9,"na');
    mkdirSync(join(writer.folder, "checkpoints", "step-000002"), { recursive: true });
    const { run } = await read(writer.folder);
    expect(run!.media.map(({ step, data }) => [step, data])).toEqual([
      [1, "at 1"],
      [2, "at 2"],
      [3, "at 3"],
    ]);
    expect(run!.info.checkpoints).toEqual([2]);
  });

  it("says that its folder is not there", async () => {
    expect((await read(join(root, "nowhere"))).remark).toMatchObject({ kind: "unreadable" });
  });
});

/** A stream without its end mark, and its batches alone. */
function withoutEnd(stream: Uint8Array): Uint8Array {
  return stream.subarray(0, -8);
}

function batchesOf(stream: Uint8Array): Uint8Array {
  const head = 8 + new DataView(stream.buffer, stream.byteOffset).getInt32(4, true);
  return stream.subarray(head, -8);
}
