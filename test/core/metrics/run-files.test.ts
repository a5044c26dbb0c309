/** The files of a run: of the version before, with many segments, beside a reader, and its media. */
import { once } from "node:events";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { tableFromIPC } from "apache-arrow";
import * as a from "aronnax";
import { decode } from "fast-png";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  createMetricsHub,
  type LoggedMedia,
  listRuns,
  type MetricsEvent,
  RunWriter,
  readMedia,
  readRun,
  readRunState,
} from "../../../core/src/metrics/index.js";
import { runTypeScript } from "../files/run-typescript.js";

const versionOne = fileURLToPath(new URL("../../fixtures/run-files/version-1", import.meta.url));

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "aronnax-runs-"));
});
afterEach(() => rmSync(root, { recursive: true }));

const open = (options: Partial<ConstructorParameters<typeof RunWriter>[0]> = {}) =>
  new RunWriter({ name: "run", root, hub: createMetricsHub(), ...options });

describe("a run of version 1", () => {
  test("opens", () => {
    const { rows, run, state, columns, media, damage } = readRun(versionOne);
    expect(damage).toBeUndefined();
    expect(run).toMatchObject({ name: "version-1", totalSteps: 60, config: { learning_rate: 0.001 } });
    expect(state).toMatchObject({ id: run.id, status: "finished" });
    expect(rows.map(({ step }) => step)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    expect(rows.map(({ loss }) => loss)).toEqual(
      Array.from({ length: 60 }, (_, i) => (i === 6 ? Number.NaN : 4 / (i + 1))),
    );
    expect(rows.flatMap(({ accuracy }) => accuracy ?? [])).toEqual([0.95, 0.975, 1 - 1 / 60]);
    expect(columns).toContain("accuracy");
    expect(media).toEqual([]);
    expect(listRuns(join(versionOne, ".."))).toEqual(["version-1"]);
  });

  test("is resumed in version 2, without a change of its file", () => {
    cpSync(versionOne, join(root, "version-1"), { recursive: true });
    const before = readFileSync(join(versionOne, "metrics.arrow"));
    const writer = open({ name: "version-1", resumeAfterStep: 30 });
    writer.log({ step: 31, loss: 9 });
    writer.close();
    expect(readFileSync(writer.path).equals(before)).toBe(true);
    const { rows, state } = readRun(writer.folder);
    expect(rows.map(({ step }) => step)).toEqual(Array.from({ length: 31 }, (_, i) => i + 1));
    expect(rows[30]).toMatchObject({ loss: 9 });
    expect(rows[30]!.time).toBeGreaterThanOrEqual(3);
    expect(state).toMatchObject({ version: 2, parent: { name: "version-1", step: 30 } });
  });
});

describe("segments", () => {
  test("a new column at row 100,000 opens one, and rewrites nothing", () => {
    const writer = open();
    for (let step = 1; step <= 100_000; step++) writer.log({ step, time: step, loss: 1 / step });
    writer.flush();
    const before = readFileSync(writer.path);
    for (let step = 100_001; step <= 100_010; step++)
      writer.log({ step, time: step, loss: 1 / step, late: step });
    writer.flush();
    expect(readFileSync(writer.path).equals(before)).toBe(true);
    const second = tableFromIPC(readFileSync(join(writer.folder, "metrics.1.arrow")));
    expect(second.numRows).toBe(10);
    expect(second.schema.metadata.get("aronnax.first_row")).toBe("100000");
    const { table, columns } = readRun(writer.folder);
    expect(table.rowCount).toBe(100_010);
    expect(columns).toContain("late");
    expect(table.get("late", 99_999)).toBeUndefined();
    expect(table.row(100_009)).toEqual({ step: 100_010, time: 100_010, loss: 1 / 100_010, late: 100_010 });
    expect(readRunState(writer.folder)).toMatchObject({ segments: ["metrics.arrow", "metrics.1.arrow"] });
    writer.close();
  });

  test("a resumed run that is resumed again keeps the rows of each part", () => {
    for (const [after, to] of [
      [undefined, 10],
      [8, 12],
      [4, 6],
    ] as const) {
      const writer = open({ resumeAfterStep: after });
      for (let step = (after ?? 0) + 1; step <= to; step++) writer.log({ step, loss: to });
      writer.close();
    }
    expect(readRun(join(root, "run")).rows.map(({ step, loss }) => [step, loss])).toEqual([
      [1, 10],
      [2, 10],
      [3, 10],
      [4, 10],
      [5, 6],
      [6, 6],
    ]);
  });

  test("the half of a batch that a kill left is made good by the resumed run", () => {
    const first = open();
    for (let step = 1; step <= 3; step++) {
      first.log({ step });
      first.flush();
    }
    first.close("interrupted");
    truncateSync(first.path, statSync(first.path).size - 10);
    expect(readRun(first.folder).damage).toMatch(/the file ends inside/);
    const second = open({ resumeAfterStep: 2 });
    second.log({ step: 3 });
    second.close();
    const { rows, damage } = readRun(second.folder);
    expect(rows.map(({ step }) => step)).toEqual([1, 2, 3]);
    expect(damage).toBeUndefined();
  });

  test("one that is damaged costs its rows, and is told", () => {
    const writer = open();
    writer.log({ step: 1 });
    writer.flush();
    writer.log({ step: 2, late: 1 });
    writer.close();
    const second = join(writer.folder, "metrics.1.arrow");
    writeFileSync(second, "no arrow");
    const { rows, damage } = readRun(writer.folder);
    expect(rows.map(({ step }) => step)).toEqual([1]);
    expect(damage).toMatch(/there is no message/);
  });

  test("are whole at every moment for a reader beside the writer", { timeout: 120_000 }, async () => {
    const child = await runTypeScript(
      root,
      `import { RunWriter } from "./metrics/index.js";
       const writer = new RunWriter({ name: "grows", root: process.argv[2] });
       process.stdout.write("begun\\n");
       let step = 0;
       const go = () => {
         for (let i = 0; i < 200; i++) writer.log({ step: ++step, loss: 1 / step, ...(step % 3000 === 0 ? { ["late" + step]: step } : {}) });
         writer.flush();
         if (step < 20_000) setTimeout(go, 1); else writer.close();
       };
       go();`,
      { arguments: [root] },
    );
    let ended = false;
    const end = once(child, "close").then(() => {
      ended = true;
    });
    await once(child.stdout!, "data");
    const seen: number[] = [];
    while (!ended) {
      const { table } = readRun(join(root, "grows"));
      const steps = table.column("step");
      seen.push(steps.length);
      // Compared by the two ends: a gap or a row twice would move the last one.
      if (steps.length > 0) expect([steps[0], steps.at(-1)]).toEqual([1, steps.length]);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await end;
    expect(seen).toEqual(seen.toSorted((x, y) => x - y));
    expect(new Set(seen).size).toBeGreaterThan(2);
    const { rows, damage } = readRun(join(root, "grows"));
    expect(damage).toBeUndefined();
    expect(rows.map(({ step, loss }) => [step, loss])).toEqual(rows.map((_, i) => [i + 1, 1 / (i + 1)]));
    expect(rows).toHaveLength(20_000);
    expect(rows[2999]!.late3000).toBe(3000);
  });
});

describe("media of a run", () => {
  test("go to files and the index, as events, and to the loggers", async () => {
    const hub = createMetricsHub();
    const events: MetricsEvent[] = [];
    hub.subscribe((event) => events.push(event));
    const logged: LoggedMedia[] = [];
    const order: string[] = [];
    const probe = {
      name: "probe",
      start() {},
      rows: () => order.push("rows"),
      status() {},
      media(item: LoggedMedia) {
        order.push(item.record.kind);
        logged.push(item);
      },
    };
    const writer = open({ hub, loggers: [probe] });
    writer.log({ step: 3, time: 1 });
    const { media } = writer;
    void media.image("digits/first", a.zeros([2, 4, 4, 1]));
    void media.audio("voice", a.zeros([800]), { sampleRate: 8000, step: 2 });
    void media.video(
      "walk",
      a.tensor(new Float32Array(2 * 3 * 3).fill(Number.NaN), { shape: [2, 3, 3, 1] }),
      { fps: 2 },
    );
    void media.histogram("weights", Float32Array.of(0, 1, 1, 2), { bins: 2, caption: "of a layer" });
    void media.table("pairs", [{ a: 1, b: "x" }, { a: Number.NaN }]);
    void media.text("said", "There she blows!");
    await media.settled();
    const records = readMedia(writer.folder);
    expect(records).toMatchObject([
      { step: 3, name: "digits/first", kind: "image", mime: "image/png", width: 10, height: 4 },
      {
        step: 2,
        name: "voice",
        kind: "audio",
        mime: "audio/wav",
        sampleRate: 8000,
        channels: 1,
        seconds: 0.1,
      },
      { step: 3, name: "walk", kind: "video", mime: "image/apng", frames: 2, fps: 2, seconds: 1, nan: 18 },
      {
        name: "weights",
        kind: "histogram",
        caption: "of a layer",
        data: { edges: [0, 1, 2], counts: [1, 3], count: 4, sum: 4, sumOfSquares: 6, nan: 0, infinite: 0 },
      },
      {
        name: "pairs",
        kind: "table",
        data: {
          columns: ["a", "b"],
          rows: [
            [1, "x"],
            ["NaN", null],
          ],
        },
      },
      { name: "said", kind: "text", mime: "text/plain", data: "There she blows!" },
    ]);
    for (const { file, bytes } of records.filter(({ file }) => file !== undefined))
      expect(statSync(join(writer.folder, file!)).size).toBe(bytes);
    expect(records[0]!.file).toBe("media/image/digits_first-00000003-0.png");
    expect(decode(readFileSync(join(writer.folder, records[0]!.file!))).width).toBe(10);
    expect(events.flatMap((event) => (event.type === "media" ? event.media : []))).toEqual(records);
    expect(logged.map(({ record }) => record)).toEqual(records);
    expect(order.slice(0, 2)).toEqual(["rows", "image"]);
    expect(hub.runs.get(writer.id)).toMatchObject({ mediaCount: 6 });
    writer.close();
    expect(readRunState(writer.folder)).toMatchObject({ summary: { media: 6 } });
    expect(readRun(writer.folder).media).toEqual(records);
  });

  test("of steps that are computed again no longer count", async () => {
    const first = open();
    first.log({ step: 1 });
    for (const step of [1, 2, 3]) first.media.text("said", `first ${step}`, { step });
    first.close("interrupted");
    appendFileSync(join(first.folder, "media", "index.jsonl"), '{"step":3,"kind":"te');
    const hub = createMetricsHub();
    const second = open({ resumeAfterStep: 1, hub });
    expect(hub.runs.get(second.id)).toMatchObject({ mediaCount: 1 });
    second.media.text("said", "second 2", { step: 2 });
    second.close();
    expect(readMedia(second.folder).map(({ data }) => data)).toEqual(["first 1", "second 2"]);
  });

  test("of an earlier run of the name are kept with it", async () => {
    const first = open();
    first.keepSample({ step: 0, name: "prompt", text: "first" });
    first.close();
    const second = open();
    expect(readRun(second.folder).media).toEqual([]);
    second.close();
    const [stamp] = readdirSync(join(second.folder, "earlier"));
    const earlier = readRun(join(second.folder, "earlier", stamp!));
    expect(earlier.media).toMatchObject([{ kind: "text", name: "prompt", data: "first" }]);
    expect(earlier.state!.id).toBe(first.id);
  });

  test("that cannot be written are a warning, and the run goes on", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const writer = open();
    writeFileSync(join(writer.folder, "media"), "a file in the way");
    await writer.media.image("a", a.zeros([2, 2]));
    await writer.media.text("b", "c");
    expect(warn).toHaveBeenCalledExactlyOnceWith(
      expect.stringMatching(/^image "a" of run "run" cannot be kept: .*(EEXIST|ENOTDIR)/),
    );
    rmSync(join(writer.folder, "media"));
    await writer.media.text("b", "d");
    expect(existsSync(join(writer.folder, "media", "index.jsonl"))).toBe(true);
    expect(readMedia(writer.folder)).toHaveLength(1);
    warn.mockRestore();
    writer.close();
  });

  test("of a wrong kind are refused at once", () => {
    const writer = open();
    expect(() => writer.media.image("x", a.zeros([3]))).toThrow(/image of shape \[3\]/);
    expect(() => writer.media.image("", a.zeros([3, 3]))).toThrow(/the name is ""/);
    expect(() => writer.media.text("x", 5 as never)).toThrow(/is a number/);
    expect(() => writer.media.table("x", [{ a: {} as never }])).toThrow(/row 0, column "a" is a object/);
    expect(() => writer.media.text("x", "y", { step: 0.5 })).toThrow(/step is 0.5/);
    writer.close();
  });
});
