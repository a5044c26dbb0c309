import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  createMetricsHub,
  csvLogger,
  type LoggedMedia,
  type LoggedRun,
  type MediaRecord,
  type MetricsLogger,
  type MetricsRow,
  mlflowLogger,
  RunWriter,
  readRun,
  tensorBoardLogger,
  wandbLogger,
} from "../../../../core/src/metrics/index.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "aronnax-loggers-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const read = (...path: string[]) => readFileSync(join(folder, ...path), "utf8");

// The rows of test/fixtures/tensorboard/make.py.
const rows: MetricsRow[] = [
  { step: 0, time: 0.5, loss: 4.25, learning_rate: 0 },
  { step: 1, time: 1, loss: Number.NaN, gradient_norm: Number.POSITIVE_INFINITY },
  { step: 300, time: 2, "größe/wal": -1.5e-8, tokens: 123456789 },
];
const run = (earlier: MetricsRow[] = []): LoggedRun => ({
  id: "12345678-1234-1234-1234-123456789abc",
  name: "white: #1",
  startedAt: 1_700_000_000_250,
  config: { model: { layers: 2, note: "a: b" }, lr: 3e-4, layers: [1, 2], nothing: null },
  folder,
  earlier,
});

/** Something that a run keeps, as loggers get it. */
const kept = (
  record: Partial<MediaRecord> & Pick<MediaRecord, "kind" | "name" | "step">,
  content?: string,
): LoggedMedia => ({
  record: { mime: "", time: 1.5, ...record },
  ...(content !== undefined && { content: Buffer.from(content) }),
});
const histogram = {
  edges: [0, 1, 2],
  counts: [1, 3],
  count: 4,
  sum: 4,
  sumOfSquares: 6,
  nan: 0,
  infinite: 0,
};

describe("the TensorBoard logger", () => {
  const golden = (name: string) =>
    readFileSync(new URL(`../../../fixtures/tensorboard/${name}.tfevents`, import.meta.url)).toString("hex");
  const written = () => {
    const [file] = readdirSync(join(folder, "tensorboard"));
    expect(file).toMatch(/^events\.out\.tfevents\.\d{10}\./);
    return readFileSync(join(folder, "tensorboard", file!)).toString("hex");
  };

  test("writes byte for byte what TensorBoard's own writer writes", () => {
    const logger = tensorBoardLogger();
    logger.start(run());
    logger.rows(rows.slice(0, 1));
    logger.rows(rows.slice(1));
    logger.status("finished");
    expect(written()).toBe(golden("fresh"));
  });

  test("writes media as TensorBoard's own messages, which its reader reads (see read.py)", () => {
    const logger = tensorBoardLogger();
    logger.start(run());
    const size = { width: 10, height: 4 };
    const table = JSON.stringify({
      columns: ["a", "b"],
      rows: [
        [1, "x|y"],
        ["NaN", null],
      ],
    });
    for (const item of [
      kept({ kind: "image", name: "digits", step: 3, ...size }, "a picture"),
      kept({ kind: "video", name: "walk", step: 4, ...size, frames: 2 }, "a picture"),
      kept({ kind: "audio", name: "voice", step: 5, sampleRate: 8000, channels: 2, seconds: 0.1 }, "a sound"),
      kept({ kind: "histogram", name: "weights", step: 6, data: { ...histogram, edges: [-1, 1, 2] } }),
      kept({ kind: "table", name: "pairs", step: 7 }, table),
      kept({ kind: "text", name: "said", step: 8, data: "There she blows!" }),
    ])
      logger.media!(item);
    expect(written()).toBe(golden("media"));
  });

  test("tells TensorBoard which steps a resumed run computes again", () => {
    const logger = tensorBoardLogger();
    logger.start(run([{ step: 41, time: 10 }]));
    logger.rows(rows);
    expect(written()).toBe(golden("resumed"));
  });
});

describe("the CSV logger", () => {
  test("keeps every number, and takes columns that come later", () => {
    const logger = csvLogger();
    logger.start(run());
    logger.rows(rows.slice(0, 1));
    expect(read("metrics.csv")).toBe("step,time,loss,learning_rate\r\n0,0.5,4.25,0\r\n");
    logger.rows(rows.slice(1, 2));
    logger.rows([{ step: 2, time: 1.5, 'a,"b"': -Infinity }]);
    expect(read("metrics.csv").split("\r\n")).toEqual([
      'step,time,loss,learning_rate,gradient_norm,"a,""b"""',
      "0,0.5,4.25,0,,",
      "1,1,NaN,,inf,",
      "2,1.5,,,,-inf",
      "",
    ]);
  });

  test("begins a resumed run with the rows that stay", () => {
    const logger = csvLogger();
    logger.start(run([{ step: 41, time: 10 }]));
    logger.rows([{ step: 42, time: 11 }]);
    expect(read("metrics.csv")).toBe("step,time\r\n41,10\r\n42,11\r\n");
  });
});

describe("the Weights & Biases logger", () => {
  // Made by test/fixtures/wandb/make.py with W&B's messages.
  const golden = (name: string) =>
    gunzipSync(readFileSync(new URL(`../../../fixtures/wandb/${name}.wandb.gz`, import.meta.url))).toString(
      "hex",
    );
  const offline = ["wandb", "offline-run-20231114_221320-12345678"];

  test("writes media as W&B's own types, beside their files", () => {
    const logger = wandbLogger({ project: "whales", folder: join(folder, "wandb") });
    logger.start({ ...run(), name: "white", config: { lr: 1 } });
    logger.rows([{ step: 3, time: 1, loss: 1 }]);
    const table = {
      columns: ["a", "b"],
      rows: [
        [1, "x"],
        ["NaN", null],
      ],
    };
    const at = { time: 2 };
    for (const item of [
      kept(
        { kind: "image", name: "digits/first", step: 4, width: 10, height: 4, caption: "of a test", ...at },
        "a picture",
      ),
      kept({ kind: "audio", name: "voice", step: 2, ...at }, "a sound"),
      kept({ kind: "histogram", name: "weights", step: 4, data: histogram, ...at }),
      kept({ kind: "table", name: "pairs", step: 4, data: table, ...at }),
      kept({ kind: "text", name: "said", step: 5, data: "There she blows!", ...at }),
    ])
      logger.media!(item);
    expect(readFileSync(join(folder, ...offline, "run-12345678.wandb")).toString("hex")).toBe(
      golden("media"),
    );
    const [image] = readdirSync(join(folder, ...offline, "files", "media", "images", "digits"));
    expect(read(...offline, "files", "media", "images", "digits", image!)).toBe("a picture");
    const [kind] = readdirSync(join(folder, ...offline, "files", "media", "table"));
    expect(read(...offline, "files", "media", "table", kind!)).toBe(
      '{"columns":["a","b"],"data":[[1,"x"],["NaN",null]]}',
    );
  });

  test("writes byte for byte what W&B writes offline, records longer than a block included", () => {
    vi.useFakeTimers({ now: 1_700_000_000_250 });
    const logger = wandbLogger({ project: "whales", folder: join(folder, "wandb") });
    const config = { lr: 0.0003, model: { layers: 2 }, note: "whale ".repeat(12_000) };
    logger.start({ ...run(), name: "white", config });
    logger.rows([
      { step: 0, time: 0.5, loss: 4.25, learning_rate: 0 },
      { step: 300, time: 2, loss: Number.NaN, "größe/wal": -Infinity },
    ]);
    logger.status("interrupted");
    logger.status("failed");
    vi.useRealTimers();
    expect(readFileSync(join(folder, ...offline, "run-12345678.wandb")).toString("hex")).toBe(golden("run"));
  });
});

describe("the MLflow logger", () => {
  const id = "12345678123412341234123456789abc";

  test("writes an experiment and a run in MLflow's file store", () => {
    const logger = mlflowLogger({ folder: join(folder, "mlruns"), experiment: "whales" });
    logger.start(run([{ step: 41, time: 10, loss: 5 }]));
    logger.rows([{ step: 42, time: 10.5, loss: Number.NaN, "größe/wal": 1 }]);
    const [experiment] = readdirSync(join(folder, "mlruns"));
    expect(experiment).toMatch(/^\d{18}$/);
    const at = (...path: string[]) => read("mlruns", experiment!, ...path);
    expect(at("meta.yaml")).toContain(`experiment_id: "${experiment}"\nlast_update_time: 1700000000250\n`);
    expect(at("meta.yaml")).toContain('name: "whales"\n');
    expect(at(id, "metrics", "loss")).toBe("1700000000250 5 41\n1700000000750 nan 42\n");
    expect(readdirSync(join(folder, "mlruns", experiment!, id, "metrics"))).toEqual(["gr__e_wal", "loss"]);
    const params = join(folder, "mlruns", experiment!, id, "params");
    expect(Object.fromEntries(readdirSync(params).map((key) => [key, at(id, "params", key)]))).toEqual({
      layers: "[1,2]",
      lr: "0.0003",
      "model.layers": "2",
      "model.note": "a: b",
      nothing: "null",
    });
    expect(at(id, "tags", "mlflow.runName")).toBe("white: #1");
    expect(at(id, "meta.yaml")).toMatch(/status: 1\n/);
    expect(at(id, "meta.yaml")).toMatch(/end_time: null\n/);
    logger.status("finished");
    expect(at(id, "meta.yaml")).toMatch(/status: 3\n/);
    expect(at(id, "meta.yaml")).toMatch(/end_time: \d{13}\n/);
  });
});

describe("the MLflow logger, of media", () => {
  test("keeps them as artifacts", () => {
    const logger = mlflowLogger({ folder: join(folder, "mlruns") });
    logger.start(run());
    logger.media!(kept({ kind: "image", name: "a/b", step: 3, file: "media/image/x.png" }, "a picture"));
    logger.media!(kept({ kind: "table", name: "t", step: 4, data: { columns: ["a"], rows: [[1]] } }));
    logger.media!(kept({ kind: "text", name: "t", step: 5, data: "said" }));
    logger.media!(kept({ kind: "histogram", name: "h", step: 5, data: histogram }));
    const at = ["mlruns", "0", "12345678123412341234123456789abc", "artifacts"];
    expect(read(...at, "image", "a_b-00000003-0.png")).toBe("a picture");
    expect(read(...at, "table", "t-00000004-1.json")).toBe('{"columns":["a"],"data":[[1]]}');
    expect(read(...at, "text", "t-00000005-2.txt")).toBe("said");
    expect(JSON.parse(read(...at, "histogram", "h-00000005-3.json"))).toEqual(histogram);
  });
});

describe("loggers of a run", () => {
  test("get the same rows as the Arrow file", () => {
    const seen: MetricsRow[] = [];
    const events: string[] = [];
    const probe: MetricsLogger = {
      name: "probe",
      start: ({ name, earlier }) => events.push(`start ${name} after ${earlier.length}`),
      rows: (some) => seen.push(...some),
      status: (status) => events.push(status),
    };
    const open = (resumeAfterStep?: number) =>
      new RunWriter({
        name: "all",
        root: folder,
        resumeAfterStep,
        loggers: [probe, csvLogger(), tensorBoardLogger(), mlflowLogger({ folder: join(folder, "mlruns") })],
        hub: createMetricsHub(),
      });
    const first = open();
    for (let step = 1; step <= 5; step++) first.log({ step, loss: 1 / step });
    first.close("interrupted");
    const second = open(3);
    second.log({ step: 4, loss: 9 });
    second.close();
    expect(events).toEqual(["start all after 0", "interrupted", "start all after 3", "finished"]);
    expect(seen.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 4]);
    expect(readRun(second.folder).rows.map(({ loss }) => loss)).toEqual([1, 1 / 2, 1 / 3, 9]);
    const csv = read("all", "metrics.csv").trim().split("\r\n").slice(1);
    expect(csv.map((line) => Number(line.split(",")[0]))).toEqual([1, 2, 3, 4]);
    expect(readdirSync(join(folder, "all", "tensorboard"))).toHaveLength(2);
    expect(readdirSync(join(folder, "mlruns", "0"))).toHaveLength(3);
  });

  test("that fail end with a warning, and the run goes on", () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const broken: MetricsLogger = {
      name: "broken",
      start() {},
      rows() {
        throw new Error("no route to the ship");
      },
      status: () => expect.unreachable(),
    };
    const writer = new RunWriter({
      name: "goes-on",
      root: folder,
      loggers: [broken],
      hub: createMetricsHub(),
    });
    writer.log({ step: 1 });
    writer.close();
    expect(readRun(writer.folder).rows).toHaveLength(1);
    expect(warn).toHaveBeenCalledExactlyOnceWith(
      'The broken logger of run "goes-on" ends: no route to the ship',
    );
    warn.mockRestore();
  });
});
