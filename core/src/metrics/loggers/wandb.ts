import { appendFileSync, mkdirSync } from "node:fs";
import { join as joinPath, resolve } from "node:path";
import { crc32 } from "node:zlib";
import type { JsonValue } from "../../files/json.js";
import type { MetricsRow } from "../hub.js";
import type { LoggedRun, MetricsLogger } from "./logger.js";
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
 * that goes on after it was finished is not uploaded beyond that point.
 */
export function wandbLogger(options: WandbOptions): MetricsLogger {
  let log: RecordLog | undefined;
  let run: LoggedRun | undefined;
  let startedAt = 0;
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
      mkdirSync(folder, { recursive: true });
      log = new RecordLog(joinPath(folder, `run-${id}.wandb`));
      log.append([header(), runRecord(started, id, options)]);
      this.rows(started.earlier);
    },
    rows(rows) {
      if (rows.length === 0) return;
      const all = rows.map((row) => values(row, startedAt));
      // Record.history, and Record.summary with the last value of each metric.
      const history = all.map((row) => bytesField(2, join(items(row), bytesField(2, stepOf(row)))));
      log!.append([...history, bytesField(3, items(Object.assign({}, ...all)))]);
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

function values({ step, time, ...metrics }: MetricsRow, startedAt: number): Record<string, number> {
  return { ...metrics, _timestamp: startedAt / 1000 + (time ?? 0), _runtime: time ?? 0, _step: step! };
}

/** HistoryItem and SummaryItem alike: a key and its value as JSON, with NaN and infinities as Python writes them. */
function items(row: Record<string, number>): Uint8Array {
  return join(
    ...Object.entries(row).map(([key, value]) =>
      bytesField(1, join(bytesField(2, key), bytesField(16, String(value)))),
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
