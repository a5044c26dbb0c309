import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join as joinPath, resolve } from "node:path";
import { crc32 } from "node:zlib";
import type { JsonValue } from "../../files/json.js";
import type { MetricsRow } from "../hub.js";
import type { LoggedMedia, LoggedRun, MetricsLogger } from "./logger.js";
import { contentOf, type KeptHistogram, type KeptTable } from "./media-values.js";
import { bytesField, integerField, join } from "./protobuf.js";

export interface WandbOptions {
  project: string;
  /** The user or team; default what `wandb sync` is logged in as. */
  entity?: string;
  /** Default `wandb`. */
  folder?: string;
}

/**
 * Weights & Biases' offline format, as `WANDB_MODE=offline` writes it; `wandb sync wandb/offline-run-*` uploads it. A run
 * that goes on after it was finished is not uploaded beyond that point. Media go with it, videos as animated images; what
 * comes after rows of later steps is shown at the last of them, for W&B takes no step back.
 */
export function wandbLogger(options: WandbOptions): MetricsLogger {
  let log: RecordLog | undefined;
  let run: LoggedRun | undefined;
  let startedAt = 0;
  let lastStep = 0;
  let files = "";
  return {
    name: "Weights & Biases",
    start(started) {
      run = started;
      startedAt = started.startedAt - 1000 * (started.earlier.at(-1)?.time ?? 0);
      const id = started.id.replaceAll("-", "").slice(0, 8);
      const stamp = new Date(started.startedAt)
        .toISOString()
        .replace(/\..*/, "")
        .replaceAll(/[-:]/g, "")
        .replace("T", "_");
      const folder = joinPath(resolve(options.folder ?? "wandb"), `offline-run-${stamp}-${id}`);
      files = joinPath(folder, "files");
      mkdirSync(folder, { recursive: true });
      log = new RecordLog(joinPath(folder, `run-${id}.wandb`));
      log.append([header(), runRecord(started, id, options)]);
      this.rows(started.earlier);
    },
    rows(rows) {
      if (rows.length === 0) return;
      const all = rows.map((row) => values(row, startedAt));
      lastStep = rows.at(-1)!.step!;
      // Record.history, and Record.summary with the last value of each metric.
      const history = all.map((row) => bytesField(2, join(items(row), bytesField(2, stepOf(row)))));
      log!.append([...history, bytesField(3, items(Object.assign({}, ...all)))]);
    },
    media(item) {
      const { record } = item;
      lastStep = Math.max(lastStep, record.step);
      const file = fileOf(item);
      if (file !== undefined) {
        const path = joinPath(files, file.path);
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, file.content);
        // Record.files: it is a media file, and may be uploaded at once.
        log!.append([bytesField(6, bytesField(1, join(bytesField(1, file.path), integerField(3, 2))))]);
      }
      const times = values({ step: lastStep, time: record.time }, startedAt);
      const row = { [record.name]: itemValue(item, file), ...times };
      const update = { [record.name]: row[record.name]! };
      log!.append([
        bytesField(2, join(items(row), bytesField(2, stepOf(times)))),
        bytesField(3, items(update)),
      ]);
    },
    status(status) {
      if (status !== "finished" && status !== "failed") return;
      const exitCode = status === "failed" ? [integerField(1, 1)] : [];
      const runtime = Math.round((Date.now() - run!.startedAt) / 1000);
      log!.append([bytesField(18, join(...exitCode, ...(runtime > 0 ? [integerField(2, runtime)] : [])))]);
    },
  };
}

function header(): Uint8Array {
  return bytesField(21, bytesField(1, join(bytesField(1, "aronnax"), bytesField(2, "0.70.0"))));
}

/** Record.run: the fields of W&B's `RunRecord` that name and describe a run. */
function runRecord(run: LoggedRun, id: string, { project, entity }: WandbOptions): Uint8Array {
  const config = Object.entries((run.config ?? {}) as Record<string, JsonValue>).map(([key, value]) =>
    bytesField(1, join(bytesField(1, key), bytesField(16, JSON.stringify(value)))),
  );
  const seconds = Math.floor(run.startedAt / 1000);
  const nanoseconds = Math.round((run.startedAt % 1000) * 1e6);
  return bytesField(
    17,
    join(
      bytesField(1, id),
      ...(entity === undefined ? [] : [bytesField(2, entity)]),
      bytesField(3, project),
      bytesField(4, join(...config)),
      bytesField(8, run.name),
      bytesField(
        17,
        join(integerField(1, seconds), ...(nanoseconds > 0 ? [integerField(2, nanoseconds)] : [])),
      ),
    ),
  );
}

interface MediaFile {
  /** Relative to the run's files. */
  path: string;
  content: Uint8Array;
  sha256: string;
}

/** W&B's folders of the kinds that are files there. */
const folders: Partial<Record<string, string>> = {
  image: "images",
  video: "images",
  audio: "audio",
  table: "table",
};

function fileOf(item: LoggedMedia): MediaFile | undefined {
  const { kind, name, step } = item.record;
  const folder = folders[kind];
  if (folder === undefined) return undefined;
  const content = kind === "table" ? Buffer.from(JSON.stringify(tableOf(item))) : item.content!;
  const sha256 = createHash("sha256").update(content).digest("hex");
  const extension = { audio: "wav", table: "table.json" }[kind as string] ?? "png";
  const key = name.replaceAll(/[^\w./ -]/g, "_").replaceAll("..", "__");
  return { path: `media/${folder}/${key}_${step}_${sha256.slice(0, 20)}.${extension}`, content, sha256 };
}

function tableOf(item: LoggedMedia): { columns: string[]; data: unknown[][] } {
  const { columns, rows } = contentOf(item) as KeptTable;
  return { columns, data: rows };
}

/** What W&B's `Image`, `Audio`, `Histogram` and `Table` write for themselves. */
function itemValue(item: LoggedMedia, file: MediaFile | undefined): JsonValue {
  const { kind, caption, width, height } = item.record;
  if (kind === "histogram") {
    const { edges, counts } = contentOf(item) as KeptHistogram;
    return { _type: "histogram", values: counts, bins: edges };
  }
  if (file === undefined) return contentOf(item) as string;
  const { path, content, sha256 } = file;
  const common = { ...(caption !== undefined && { caption }), sha256, size: content.length, path };
  if (kind === "audio") return { ...common, _type: "audio-file" };
  if (kind !== "table") {
    return { ...common, _type: "image-file", format: "png", width: width!, height: height! };
  }
  const { columns, data } = tableOf(item);
  return { ...common, _type: "table-file", ncols: columns.length, nrows: data.length, log_mode: "IMMUTABLE" };
}

function values({ step, time, ...metrics }: MetricsRow, startedAt: number): Record<string, number> {
  return { ...metrics, _timestamp: startedAt / 1000 + (time ?? 0), _runtime: time ?? 0, _step: step! };
}

/** HistoryItem and SummaryItem alike: a key and its value as JSON, with NaN and infinities as Python writes them. */
function items(row: Record<string, JsonValue>): Uint8Array {
  return join(
    ...Object.entries(row).map(([key, value]) =>
      bytesField(
        1,
        join(
          bytesField(2, key),
          bytesField(16, typeof value === "number" ? String(value) : JSON.stringify(value)),
        ),
      ),
    ),
  );
}

function stepOf(row: Record<string, number>): Uint8Array {
  return row._step! > 0 ? integerField(1, row._step!) : new Uint8Array();
}

const blockBytes = 32768;
const chunkHeadBytes = 7;
/** Kinds of chunks: a whole record, or its first, a middle or its last part. */
const chunk = { full: 1, first: 2, middle: 3, last: 4 };

/** LevelDB's log format, with W&B's file header and zlib's CRC-32: chunks that never cross a block of 32 KiB. */
class RecordLog {
  private written = 0;
  private records = 0;

  constructor(private readonly path: string) {
    this.write(join(Buffer.from(":W&B"), Uint8Array.of(0xe1, 0xbe, 0)));
  }

  append(records: readonly Uint8Array[]): void {
    const parts: Uint8Array[] = [];
    let at = this.written;
    for (const record of records) {
      // Record.num counts from 1.
      const data = join(integerField(1, ++this.records), record);
      let done = 0;
      for (;;) {
        const left = blockBytes - (at % blockBytes);
        if (left < chunkHeadBytes) {
          parts.push(new Uint8Array(left));
          at += left;
          continue;
        }
        const length = Math.min(left - chunkHeadBytes, data.length - done);
        const ends = done + length === data.length;
        const kind = done === 0 ? (ends ? chunk.full : chunk.first) : ends ? chunk.last : chunk.middle;
        const content = data.subarray(done, done + length);
        const head = Buffer.alloc(chunkHeadBytes);
        head.writeUInt32LE(crc32(content, crc32(Uint8Array.of(kind))), 0);
        head.writeUInt16LE(length, 4);
        head.writeUInt8(kind, 6);
        parts.push(head, content);
        at += chunkHeadBytes + length;
        done += length;
        if (ends) break;
      }
    }
    this.write(join(...parts));
  }

  private write(bytes: Uint8Array): void {
    appendFileSync(this.path, bytes);
    this.written += bytes.length;
  }
}
