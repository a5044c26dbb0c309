import { once } from "node:events";
import {
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
import { setTimeout as sleep } from "node:timers/promises";
import { tableFromIPC } from "apache-arrow";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { decodeMetrics } from "../../../core/src/metrics/arrow.js";
import {
  createMetricsHub,
  isWritten,
  listRuns,
  type MetricsEvent,
  metricsHub,
  RunWriter,
  readRun,
  readRunState,
} from "../../../core/src/metrics/index.js";
import { finished, runTypeScript } from "../files/run-typescript.js";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "aronnax-runs-"));
});
afterEach(() => rmSync(root, { recursive: true }));

const withoutTime = (rows: readonly Record<string, number>[]) => rows.map(({ time: _, ...row }) => row);

describe("metrics hub", () => {
  test("is one for the process, under the symbol of the contract", () => {
    expect(metricsHub()).toBe((globalThis as never)[Symbol.for("aronnax.metrics")]);
    expect(metricsHub()).toBe(metricsHub());
    expect(metricsHub().version).toBe(2);
  });

  test("keeps what is known of a run, and tells the listeners until they leave", () => {
    const hub = createMetricsHub();
    const seen: MetricsEvent[] = [];
    hub.subscribe(() => {
      throw new Error("a broken watcher");
    });
    const leave = hub.subscribe((event) => seen.push(event));
    hub.publish({ type: "start", id: "r", name: "run", startedAt: 5, totalSteps: 9 });
    hub.publish({ type: "rows", id: "r", rows: [{ step: 1, loss: Number.NaN }] });
    hub.publish({ type: "status", id: "r", status: "interrupted", message: "by the user" });
    leave();
    hub.publish({ type: "rows", id: "r", rows: [{ step: 2 }] });
    expect(seen.map(({ type }) => type)).toEqual(["start", "rows", "status"]);
    expect(hub.runs.get("r")).toEqual({
      id: "r",
      name: "run",
      startedAt: 5,
      totalSteps: 9,
      status: "interrupted",
      message: "by the user",
      rowCount: 2,
      mediaCount: 0,
      last: { step: 2, loss: Number.NaN },
    });
  });

  test("keeps the rows of a run that starts again", () => {
    const hub = createMetricsHub();
    const start: MetricsEvent = { type: "start", id: "r", name: "run", startedAt: 5 };
    hub.publish(start);
    hub.publish({ type: "rows", id: "r", rows: [{ step: 1 }] });
    hub.publish({ type: "status", id: "r", status: "failed" });
    hub.publish(start);
    expect(hub.runs.get("r")).toMatchObject({ status: "running", rowCount: 1, last: { step: 1 } });
  });
});

describe("run file", () => {
  test("gives back every number, NaN, infinity and gap", () => {
    const value = fc.oneof(fc.double(), fc.constantFrom(Number.NaN, Infinity, -Infinity, 0, -0));
    const row = fc.record(
      { step: fc.nat(), time: value, loss: value, extra: value, tokens: value },
      { requiredKeys: ["step", "time"] },
    );
    fc.assert(
      fc.property(fc.array(row, { maxLength: 40 }), fc.nat(40), (rows, flushAt) => {
        const writer = new RunWriter({ name: "numbers", root, hub: createMetricsHub() });
        rows.forEach((row, i) => {
          writer.log(row);
          if (i === flushAt) writer.flush();
        });
        writer.close();
        expect(readRun(writer.folder).rows).toEqual(rows);
        rmSync(writer.folder, { recursive: true });
      }),
      { numRuns: 60 },
    );
  });

  test("says of which run it is, in its schema and in run.json", () => {
    const config = { model: { layers: 2 }, note: "first" };
    const writer = new RunWriter({ name: "tiny", root, totalSteps: 10, config, hub: createMetricsHub() });
    writer.log({ step: 1, loss: 2 });
    writer.status("interrupted", "by the user");
    const file = readRun(join(root, "tiny"));
    expect(file.run).toEqual({
      id: writer.id,
      name: "tiny",
      startedAt: expect.any(Number),
      totalSteps: 10,
      config,
    });
    expect(file.state).toMatchObject({
      id: writer.id,
      status: "interrupted",
      message: "by the user",
      pid: process.pid,
    });
    const table = tableFromIPC(readFileSync(writer.path));
    expect(table.schema.fields.map((field) => `${field.name}:${field.type}`)).toEqual(
      ["step", "time", "loss"].map((name) => `${name}:Float64`),
    );
    writer.status("running");
    writer.log({ step: 2, loss: 1 });
    writer.status("finished");
    expect(withoutTime(readRun(writer.folder).rows)).toEqual([
      { step: 1, loss: 2 },
      { step: 2, loss: 1 },
    ]);
    expect(listRuns(root)).toEqual(["tiny"]);
    writer.close();
  });

  test("takes a column that appears later, in an old row as a gap", () => {
    const writer = new RunWriter({ name: "columns", root, hub: createMetricsHub(), columns: ["accuracy"] });
    writer.log({ step: 1, loss: 3, accuracy: 0.5 });
    writer.flush();
    writer.log({ step: 2, loss: 2, margin: 0.1 });
    writer.flush();
    const file = readRun(writer.folder);
    expect(file.columns).toEqual(["step", "time", "accuracy", "loss", "margin"]);
    expect(withoutTime(file.rows)).toEqual([
      { step: 1, loss: 3, accuracy: 0.5 },
      { step: 2, loss: 2, margin: 0.1 },
    ]);
    expect(readdirSync(writer.folder).sort()).toEqual(["metrics.1.arrow", "metrics.arrow", "run.json"]);
    writer.close();
  });

  test("is only appended to", () => {
    const writer = new RunWriter({ name: "append", root, columns: ["loss"], hub: createMetricsHub() });
    let before = readFileSync(writer.path);
    for (let step = 1; step <= 5; step++) {
      writer.log({ step, loss: 1 / step });
      writer.flush();
      const after = readFileSync(writer.path);
      expect(after.length).toBeGreaterThan(before.length);
      expect(after.subarray(0, before.length).equals(before)).toBe(true);
      before = after;
    }
    writer.log({ step: 6, late: 1 });
    writer.close();
    expect(readFileSync(writer.path).equals(before)).toBe(true);
    expect(readRun(writer.folder).rows).toHaveLength(6);
  });

  test("is written before long without being asked", async () => {
    const writer = new RunWriter({ name: "timer", root, hub: createMetricsHub() });
    writer.log({ step: 1 });
    await vi.waitFor(() => expect(readRun(writer.folder).rows).toHaveLength(1), {
      timeout: 10_000,
      interval: 100,
    });
    writer.close();
  });

  test("cut off anywhere gives the whole batches before the cut", () => {
    const writer = new RunWriter({ name: "cut", root, columns: ["loss"], hub: createMetricsHub() });
    const lengths: number[] = [statSync(writer.path).size];
    for (let step = 1; step <= 6; step++) {
      writer.log({ step, loss: step });
      writer.flush();
      lengths.push(statSync(writer.path).size);
    }
    const whole = readFileSync(writer.path);
    writer.close();
    const copy = join(root, "copy.arrow");
    for (let size = lengths[0]!; size <= whole.length; size += 7) {
      writeFileSync(copy, whole.subarray(0, size));
      const complete = lengths.filter((length) => length <= size).length - 1;
      const { rows, damage } = readRun(copy);
      expect(rows.map((row) => row.step)).toEqual(Array.from({ length: complete }, (_, i) => i + 1));
      expect(damage === undefined).toBe(lengths.includes(size));
    }
    truncateSync(copy, 20);
    expect(() => readRun(copy)).toThrow(/copy\.arrow is not a metrics file/);
  });

  test("damaged anywhere is read as far as it makes sense, or refused", () => {
    const writer = new RunWriter({ name: "damaged", root, columns: ["loss"], hub: createMetricsHub() });
    for (let step = 1; step <= 20; step++) {
      writer.log({ step, loss: step });
      if (step % 5 === 0) writer.flush();
    }
    const whole = readFileSync(writer.path);
    writer.close();
    const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
    let refused = 0;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), fc.nat(whole.length), (changes, cut) => {
        const bytes = Buffer.from(whole);
        for (const [at, byte] of changes) bytes[at] = byte;
        try {
          const { rows, columns } = decodeMetrics(cut % 3 === 0 ? bytes.subarray(0, cut) : bytes);
          expect(rows.length).toBeLessThanOrEqual(20);
          for (const key of new Set(rows.flatMap(Object.keys))) expect(columns).toContain(key);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
          refused++;
        }
      }),
      { numRuns: 2000 },
    );
    expect(refused).toBeLessThan(1500);
  });

  test("is readable after kill -9 at any time", async () => {
    const script = `
      import { RunWriter } from "./metrics/index.js";
      const writer = new RunWriter({ name: "killed", root: process.argv[2] });
      let step = 0;
      const go = () => {
        for (let i = 0; i < 50; i++) writer.log({ step: ++step, loss: 1 / step, ...(step % 997 === 0 ? { ["late" + step]: 1 } : {}) });
        writer.flush();
        process.stdout.write(step + "\\n");
        setImmediate(go);
      };
      go();`;
    for (let round = 0; round < 6; round++) {
      const child = await runTypeScript(root, script, { arguments: [root] });
      let said = "";
      child.stdout!.on("data", (chunk) => {
        said += chunk;
      });
      await once(child.stdout!, "data");
      await sleep(20 + 67 * round);
      child.kill("SIGKILL");
      await once(child, "close");
      const flushed = Number(said.split("\n").at(-2));
      const { rows } = readRun(join(root, "killed"));
      expect(rows.length).toBeGreaterThanOrEqual(flushed);
      expect(rows.map(({ loss }) => loss)).toEqual(rows.map((_, i) => 1 / (i + 1)));
      expect(rows.map(({ step }) => step)).toEqual(rows.map((_, i) => i + 1));
    }
    // Each round kept the run of the one before.
    const kept = readdirSync(join(root, "killed", "earlier"));
    expect(kept).toHaveLength(5);
    for (const name of kept) {
      const { rows, state } = readRun(join(root, "killed", "earlier", name));
      expect(rows.map(({ step }) => step)).toEqual(rows.map((_, i) => i + 1));
      expect(state).toMatchObject({ status: "running", version: 2 });
      expect(isWritten(state!)).toBe(false);
    }
    new RunWriter({ name: "killed", root, hub: createMetricsHub() }).close();
    expect(readdirSync(join(root, "killed")).filter((name) => name.includes(".tmp-"))).toEqual([]);
  });

  test("goes on after a resumed step, without the rows that will be computed again", () => {
    const first = new RunWriter({ name: "resumed", root, hub: createMetricsHub() });
    for (let step = 1; step <= 10; step++) first.log({ step, time: step, loss: 11 - step, old: 1 });
    first.close("interrupted");
    const hub = createMetricsHub();
    const second = new RunWriter({ name: "resumed", root, hub, resumeAfterStep: 7 });
    second.log({ step: 8, loss: 0.5 });
    expect(second.id).not.toBe(first.id);
    expect(hub.runs.get(second.id)).toMatchObject({ rowCount: 8, parent: { id: first.id, step: 7 } });
    second.close();
    const { rows } = readRun(second.folder);
    expect(rows.map((row) => row.step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(rows[7]).toEqual({ step: 8, loss: 0.5, time: expect.any(Number) });
    expect(rows[7]!.time).toBeGreaterThanOrEqual(7);
    expect(second.rows).toEqual(rows);
    expect(readRunState(second.folder)).toMatchObject({
      version: 2,
      id: second.id,
      status: "finished",
      parent: { id: first.id, name: "resumed", step: 7 },
      segments: ["metrics.arrow", "metrics.1.arrow"],
      summary: {
        rows: 8,
        step: 8,
        columns: { loss: { count: 8, last: 0.5, min: { value: 0.5, step: 8 }, max: { value: 10, step: 1 } } },
      },
    });
  });

  test("flushes when the process ends by itself", async () => {
    const child = await runTypeScript(
      root,
      `import { RunWriter } from "./metrics/index.js";
       const writer = new RunWriter({ name: "exit", root: process.argv[2] });
       writer.log({ step: 1, loss: 4 });`,
      { arguments: [root] },
    );
    expect(await finished(child)).toMatchObject({ code: 0, stderr: "" });
    expect(withoutTime(readRun(join(root, "exit")).rows)).toEqual([{ step: 1, loss: 4 }]);
  });

  test("stays whole on a full disk, with one warning, while the run goes on", async () => {
    // The limit on a file's size (in KiB) makes the system refuse the write, as a full disk or a quota does.
    const child = await runTypeScript(
      root,
      `import { metricsHub, RunWriter } from "./metrics/index.js";
       process.on("SIGXFSZ", () => {});
       const writer = new RunWriter({ name: "full", root: process.argv[2] });
       for (let step = 1; step <= 100; step++) {
         writer.log({ step, loss: 1 / step });
         writer.flush();
       }
       console.log(metricsHub().runs.get(writer.id).rowCount);`,
      { arguments: [root], command: ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash"] },
    );
    const { code, stdout, stderr } = await finished(child);
    expect({ code, stdout, stderr: code === 0 ? "" : stderr }).toEqual({
      code: 0,
      stdout: "100\n",
      stderr: "",
    });
    expect(stderr.match(/cannot be written to .*full.metrics\.arrow: EFBIG/g)).toHaveLength(1);
    const { rows, damage } = readRun(join(root, "full"));
    expect(damage).toBeUndefined();
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.length).toBeLessThan(100);
    expect(rows.map(({ step }) => step)).toEqual(rows.map((_, i) => i + 1));
  });

  test("is refused to a second process while the first one writes", async () => {
    const writer = new RunWriter({ name: "taken", root, hub: createMetricsHub() });
    const script = `import { RunWriter } from "./metrics/index.js";
      new RunWriter({ name: "taken", root: process.argv[2] });`;
    const refused = await finished(await runTypeScript(root, script, { arguments: [root] }));
    expect(refused.stderr).toContain(`The run "taken" is being written by process ${process.pid}`);
    expect(refused.code).toBe(1);
    writer.close();
    expect((await finished(await runTypeScript(root, script, { arguments: [root] }))).code).toBe(0);
  });

  test("is begun again when it was deleted under the writer", () => {
    const writer = new RunWriter({ name: "deleted", root, hub: createMetricsHub() });
    writer.log({ step: 1 });
    writer.flush();
    rmSync(writer.folder, { recursive: true });
    writer.log({ step: 2 });
    writer.flush();
    expect(readRun(writer.folder).rows.map((row) => row.step)).toEqual([1, 2]);
    writer.close();
  });

  test("refuses names that are no folder, rows without a step, and configs that JSON changes", () => {
    for (const name of ["", "a/b", "..", ".hidden", "x".repeat(200)]) {
      expect(() => new RunWriter({ name, root })).toThrow(/cannot be named/);
    }
    expect(() => new RunWriter({ name: "nan", root, config: { lr: Number.NaN } })).toThrow(
      /config\.lr is NaN/,
    );
    const hub = createMetricsHub();
    const writer = new RunWriter({ name: "step", root, hub });
    writer.log({ step: 0 });
    expect(() => new RunWriter({ name: "other", id: writer.id, root, hub })).toThrow(
      /is taken by a run with rows/,
    );
    expect(() => writer.log({ loss: 1 })).toThrow(/needs an integer `step`; it is undefined/);
    writer.close();
    expect(() => writer.log({ step: 1 })).toThrow(/"step" is closed/);
  });
});
