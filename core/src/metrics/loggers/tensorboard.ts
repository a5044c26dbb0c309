import { appendFileSync, mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { join as joinPath } from "node:path";
import type { MetricsRow } from "../hub.js";
import { crc32c } from "./crc32c.js";
import type { LoggedMedia, MetricsLogger } from "./logger.js";
import { contentOf, type KeptHistogram, type KeptTable } from "./media-values.js";
import { bytesField, doubleField, doublesField, floatField, integerField, join } from "./protobuf.js";

export interface TensorBoardOptions {
  /** Default: `tensorboard` in the run's folder. */
  folder?: string;
}

let files = 0;

/**
 * TensorBoard event files, a scalar a metric, with the run's media (videos as animated images, tables as texts in
 * Markdown): `tensorboard --logdir runs`. Each start writes a further file, which tells
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
    media(item) {
      const wallTime = startedAt / 1000 + item.record.time;
      const value = join(bytesField(1, item.record.name), ...summaryOf(item));
      appendFileSync(
        path,
        record(event({ wallTime, step: item.record.step }, bytesField(5, bytesField(1, value)))),
      );
    },
    status() {},
  };
}

/** The fields of `Summary.Value` (summary.proto) after its tag. */
function summaryOf({ record, content }: LoggedMedia): Uint8Array[] {
  switch (record.kind) {
    case "image":
    case "video":
      return [
        bytesField(
          4,
          join(
            integerField(1, record.height!),
            integerField(2, record.width!),
            // RGB; what the picture really has, it says itself.
            integerField(3, 3),
            bytesField(4, content!),
          ),
        ),
      ];
    case "audio":
      return [
        bytesField(
          6,
          join(
            floatField(1, record.sampleRate!),
            integerField(2, record.channels!),
            integerField(3, Math.round(record.seconds! * record.sampleRate!)),
            bytesField(4, content!),
            bytesField(5, "audio/wav"),
          ),
        ),
      ];
    case "histogram": {
      const { edges, counts, count, sum, sumOfSquares } = contentOf({ record, content }) as KeptHistogram;
      return [
        bytesField(
          5,
          join(
            doubleField(1, edges[0]!),
            doubleField(2, edges.at(-1)!),
            doubleField(3, count),
            doubleField(4, sum),
            doubleField(5, sumOfSquares),
            doublesField(6, edges.slice(1)),
            doublesField(7, counts),
          ),
        ),
      ];
    }
    case "table":
      return text(markdown(contentOf({ record, content }) as KeptTable));
    case "text":
      return text(contentOf({ record, content }) as string);
  }
}

/** A tensor of one string for the text plugin. */
function text(content: string): Uint8Array[] {
  const [stringType, shape] = [7, bytesField(2, integerField(1, 1))];
  return [
    bytesField(8, join(integerField(1, stringType), bytesField(2, shape), bytesField(8, content))),
    bytesField(9, bytesField(1, bytesField(1, "text"))),
  ];
}

function markdown({ columns, rows }: KeptTable): string {
  const line = (cells: readonly unknown[]) =>
    `| ${cells
      .map((cell) =>
        String(cell ?? "")
          .replaceAll("|", "\\|")
          .replaceAll("\n", " "),
      )
      .join(" | ")} |`;
  return [line(columns), line(columns.map(() => "---")), ...rows.map(line)].join("\n");
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
