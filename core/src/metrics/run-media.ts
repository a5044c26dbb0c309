import { mkdirSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { JsonValue } from "../files/json.js";
import { ArgumentError } from "../graph/errors.js";
import { type AudioOptions, readAudio } from "../media/audio.js";
import type { Frames } from "../media/frames.js";
import { type HistogramOptions, readHistogram } from "../media/histogram.js";
import { type ImageOptions, readImage } from "../media/image.js";
import { encodePng } from "../media/png.js";
import { readTable, type TableOptions, type TableValue } from "../media/table.js";
import type { MediaValue } from "../media/values.js";
import { readVideo, type VideoOptions } from "../media/video.js";
import type { LoggedMedia } from "./loggers/logger.js";
import { appendToIndex, linesOfIndex, type MediaKind, type MediaRecord, mediaFolder } from "./media-index.js";

/** When it was made. */
export interface At {
  /** Default the step of the newest row. */
  step?: number;
}

export interface TextOptions {
  caption?: string;
}

export interface RunMediaSetup {
  /** For warnings. */
  run: string;
  folder: string;
  /** What the folder keeps of later steps is obsolete. */
  resumedAfter?: number;
  now(): { step: number; time: number };
  /** Told of each thing once it is on the disk. */
  keep(item: LoggedMedia): void;
}

/** What is to be kept, encoded. */
interface Content {
  extension?: string;
  file?: Uint8Array;
  record: Partial<MediaRecord> & Pick<MediaRecord, "mime">;
}

type Head = Pick<MediaRecord, "step" | "time" | "name" | "kind" | "caption">;

/** Things that wait for the device, the encoder or the disk at most. */
const maxWaiting = 256;
const maxTextLength = 1 << 20;
/** Data beyond this go to a file of their own. */
const maxInline = 16_384;

/**
 * Keeps images, sounds, videos, histograms, tables and texts with a run: files below `media/`, a line each in
 * `media/index.jsonl`, an event in the hub, and the loggers.
 *
 * What is given may be a Tensor or a typed array with its shape. A wrong shape is an error at once. Work on the device is
 * queued before a method returns, so that the training may take the Tensor over; the rest goes on beside the training, and
 * the promise resolves when it is on the disk. It never rejects: what fails then (the disk, the device) is a warning, and
 * does not stop the training.
 */
export class RunMedia {
  readonly #setup: RunMediaSetup;
  /** Numbers the lines of the index, and so the files. */
  #serial: number;
  #last: Promise<void> | undefined;
  #waiting = 0;
  #warned = false;

  constructor(setup: RunMediaSetup) {
    this.#setup = setup;
    this.#serial = linesOfIndex(setup.folder);
    if (setup.resumedAfter === undefined || this.#serial === 0) return;
    try {
      appendToIndex(setup.folder, { kind: "resume", step: setup.resumedAfter });
      this.#serial++;
    } catch (error) {
      this.#warn("The media", error);
    }
  }

  /** An image [h, w] or [h, w, c], or a batch [n, h, w, c] as a grid, as PNG. Ranges and NaN: see `ImageOptions.range`. */
  image(name: string, value: MediaValue, options: ImageOptions & At = {}): Promise<void> {
    return this.#keep("image", name, options, () =>
      readImage(value, options).then((frames) => this.#picture(frames)),
    );
  }

  /** A sound [samples] or [samples, channels], as WAV. */
  audio(name: string, value: MediaValue, options: AudioOptions & At): Promise<void> {
    return this.#keep("audio", name, options, () =>
      readAudio(value, options).then(({ wav, samples, channels, sampleRate, nan, clipped }) => ({
        extension: "wav",
        file: wav,
        record: {
          mime: "audio/wav",
          sampleRate,
          channels,
          seconds: samples / sampleRate,
          ...counted(nan, clipped),
        },
      })),
    );
  }

  /** Frames [t, h, w, c], as animated PNG. */
  video(name: string, value: MediaValue, options: VideoOptions & At = {}): Promise<void> {
    const { fps = 8 } = options;
    return this.#keep("video", name, options, () =>
      readVideo(value, options).then((frames) => this.#picture(frames, fps)),
    );
  }

  /** How often numbers lie in each of some bins; they are counted on the device. */
  histogram(name: string, value: MediaValue, options: HistogramOptions & At = {}): Promise<void> {
    return this.#keep("histogram", name, options, () =>
      readHistogram(value, options).then((histogram) =>
        data("application/vnd.aronnax.histogram+json", { ...histogram }),
      ),
    );
  }

  /** Records, or `{ columns, rows }`; up to 10,000 rows are kept. */
  table(name: string, value: TableValue, options: TableOptions & At = {}): Promise<void> {
    return this.#keep("table", name, options, () => {
      const { columns, rows, omitted } = readTable(value);
      const content = data("application/vnd.aronnax.table+json", { columns, rows });
      if (omitted > 0) content.record.omitted = omitted;
      return content;
    });
  }

  text(name: string, value: string, options: TextOptions & At = {}): Promise<void> {
    return this.#keep("text", name, options, () => {
      if (typeof value !== "string") {
        throw new ArgumentError(`text ${JSON.stringify(name)} is a ${typeof value}`, "give a string");
      }
      return value.length > maxInline
        ? {
            extension: "txt",
            file: Buffer.from(value.slice(0, maxTextLength)),
            record: { mime: "text/plain" },
          }
        : { record: { mime: "text/plain", data: value } };
    });
  }

  /** Resolves when all that was given so far is on the disk, or was given up with a warning. */
  async settled(): Promise<void> {
    while (this.#last !== undefined) await this.#last;
  }

  async #picture(frames: Frames, fps?: number): Promise<Content> {
    const { width, height, count, nan, clipped } = frames;
    return {
      extension: "png",
      file: await encodePng(frames, fps),
      record: {
        mime: fps === undefined ? "image/png" : "image/apng",
        width,
        height,
        ...(fps !== undefined && { frames: count, fps, seconds: count / fps }),
        ...counted(nan, clipped),
      },
    };
  }

  #keep(
    kind: MediaKind,
    name: string,
    { step, caption }: At & { caption?: string },
    read: () => Content | Promise<Content>,
  ): Promise<void> {
    if (typeof name !== "string" || name === "" || name.length > 256) {
      throw new ArgumentError(`${kind}: the name is ${JSON.stringify(name)}`, "give 1 to 256 characters");
    }
    if (step !== undefined && !Number.isInteger(step)) {
      throw new ArgumentError(`${kind} ${JSON.stringify(name)}: step is ${step}`, "give a whole number");
    }
    if (this.#waiting >= maxWaiting) {
      this.#warn(
        `${kind} ${JSON.stringify(name)}`,
        new Error(`${maxWaiting} things wait to be written; await some`),
      );
      return Promise.resolve();
    }
    const now = this.#setup.now();
    const head = {
      step: step ?? now.step,
      time: now.time,
      name,
      kind,
      ...(caption !== undefined && { caption }),
    };
    const content = read();
    if (!(content instanceof Promise) && this.#last === undefined) {
      // On the disk before this returns: the process may end.
      this.#write(head, content, (path, file) => writeFileSync(path, file));
      return Promise.resolve();
    }
    this.#waiting++;
    // A failure is heard where it is awaited below, after what came before.
    if (content instanceof Promise) content.catch(() => {});
    const done: Promise<void> = this.#writeAfter(this.#last, head, content).finally(() => {
      this.#waiting--;
      if (this.#last === done) this.#last = undefined;
    });
    this.#last = done;
    return done;
  }

  async #writeAfter(
    before: Promise<void> | undefined,
    head: Head,
    content: Content | Promise<Content>,
  ): Promise<void> {
    await before;
    try {
      await this.#write(head, await content, (path, file) => writeFile(path, file));
    } catch (error) {
      this.#warn(`${head.kind} ${JSON.stringify(head.name)}`, error);
    }
  }

  /** Writes the file, then its line; with a `write` that waits for nothing, neither does this. */
  #write(
    head: Head,
    { extension, file: content, record: more }: Content,
    write: (path: string, file: Uint8Array) => Promise<void> | void,
  ): Promise<void> | void {
    const { folder } = this.#setup;
    const serial = this.#serial++;
    const record: MediaRecord = { ...head, ...more };
    const finish = () => {
      appendToIndex(folder, record);
      this.#warned = false;
      this.#setup.keep({ record, ...(content && { content }) });
    };
    const failed = (error: unknown) => this.#warn(`${head.kind} ${JSON.stringify(head.name)}`, error);
    try {
      if (content === undefined) return finish();
      const place = `${mediaFolder}/${head.kind}`;
      mkdirSync(join(folder, place), { recursive: true });
      record.file = `${place}/${fileName(head.name, head.step, serial)}.${extension}`;
      record.bytes = content.length;
      const written = write(join(folder, record.file), content);
      return written === undefined ? finish() : written.then(finish).catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  #warn(what: string, error: unknown): void {
    if (this.#warned) return;
    this.#warned = true;
    console.warn(
      `${what} of run "${this.#setup.run}" cannot be kept: ${(error as Error).message}. ` +
        "Training goes on; there is no further warning until something can be kept again.",
    );
  }
}

function counted(nan: number, clipped: number): Pick<MediaRecord, "nan" | "clipped"> {
  return { ...(nan > 0 && { nan }), ...(clipped > 0 && { clipped }) };
}

function data(mime: string, value: JsonValue): Content {
  const text = JSON.stringify(value);
  return text.length > maxInline
    ? { extension: "json", file: Buffer.from(text), record: { mime } }
    : { record: { mime, data: value } };
}

/** A name for a file that every system takes, and that no two have. */
function fileName(name: string, step: number, serial: number): string {
  const safe = name
    .replaceAll(/[^\p{L}\p{N}.-]+/gu, "_")
    .replace(/^\.+/, "_")
    .slice(0, 64);
  return `${safe}-${String(step).padStart(8, "0")}-${serial}`;
}
