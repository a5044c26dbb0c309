import { appendFileSync, mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { join as joinPath } from "node:path";
import type { MetricsRow } from "../hub.js";
import { crc32c } from "./crc32c.js";
import type { MetricsLogger } from "./logger.js";
import { bytesField, doubleField, floatField, integerField, join } from "./protobuf.js";

export interface TensorBoardOptions {
  /** Default: `tensorboard` in the run's folder. */
  folder?: string;
}

let files = 0;

/**
 * TensorBoard event files, a scalar a metric: `tensorboard --logdir runs`. Each start writes a further file, which tells
 * TensorBoard to forget the steps that are computed again: all of them, unless the run is resumed.
 */
export function tensorBoardLogger(options: TensorBoardOptions = {}): MetricsLogger {
  let path = "";
  let startedAt = 0;
  return {
    name: "TensorBoard",
    start(run) {
      const folder = options.folder ?? joinPath(run.folder, "tensorboard");
      mkdirSync(folder, { recursive: true });
      const seconds = Math.floor(Date.now() / 1000);
      path = joinPath(folder, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.${files++}`);
      startedAt = run.startedAt - 1000 * (run.earlier.at(-1)?.time ?? 0);
      const wallTime = run.startedAt / 1000;
      const firstStep = run.earlier.length > 0 ? run.earlier.at(-1)!.step! + 1 : 0;
      appendFileSync(
        path,
        join(
          record(event({ wallTime }, bytesField(3, "brain.Event:2"))),
          // SessionLog START: what earlier files in the folder say from this step on is obsolete.
          record(event({ wallTime, step: firstStep }, bytesField(7, integerField(1, 1)))),
        ),
      );
    },
    rows(rows) {
      if (rows.length > 0) appendFileSync(path, join(...rows.map((row) => record(scalars(row, startedAt)))));
    },
    status() {},
  };
}

/** `Event` of event.proto with a summary of all the row's values but step and time. */
function scalars(row: MetricsRow, startedAt: number): Uint8Array {
  const values = Object.entries(row)
    .filter(([tag]) => tag !== "step" && tag !== "time")
    .map(([tag, value]) => bytesField(1, join(bytesField(1, tag), floatField(2, value))));
  const wallTime = startedAt / 1000 + (row.time ?? 0);
  return event({ wallTime, step: row.step }, bytesField(5, join(...values)));
}

function event({ wallTime, step }: { wallTime: number; step?: number }, content: Uint8Array): Uint8Array {
  return join(doubleField(1, wallTime), ...(step ? [integerField(2, step)] : []), content);
}

/** TFRecord framing: length, its checksum, data, their checksum. */
function record(data: Uint8Array): Uint8Array {
  const head = new Uint8Array(12);
  const view = new DataView(head.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, masked(head.subarray(0, 8)), true);
  const foot = new Uint8Array(4);
  new DataView(foot.buffer).setUint32(0, masked(data), true);
  return join(head, data, foot);
}

function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return ((((crc >>> 15) | (crc << 17)) >>> 0) + 0xa282ead8) >>> 0;
}
