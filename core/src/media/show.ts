import { type AudioOptions, readAudio } from "./audio.js";
import type { Frames, RangeOptions } from "./frames.js";
import { type ImageOptions, readImage } from "./image.js";
import { encodePng } from "./png.js";
import type { MediaValue } from "./values.js";
import { readVideo, type VideoOptions } from "./video.js";

/** Something that shows in a notebook where it is a cell's value, or given to `display`. */
export class DisplayedMedia {
  readonly #bundle: Promise<Record<string, unknown>>;

  /** @param file - the encoded file */
  constructor(
    readonly mime: string,
    readonly file: Promise<Uint8Array>,
    bundle: Promise<Record<string, unknown>>,
  ) {
    this.#bundle = bundle;
    // What failed is told to whoever shows or takes it.
    for (const promise of [file, bundle]) promise.catch(() => {});
  }

  [Symbol.for("Jupyter.display")](): Promise<Record<string, unknown>> {
    return this.#bundle;
  }
}

/**
 * An image, or a batch as a grid. It is scaled to bytes on the device at once, so that the Tensor may be donated afterwards.
 *
 * @param value - [h, w], [h, w, c] or [n, h, w, c], c 1 (gray), 3 (RGB) or 4 (RGBA); floats from 0 to 1, integers from 0 to
 * 255 (see `range`); a pixel with a NaN is magenta
 * @throws ArgumentError for another shape
 */
export function image(value: MediaValue, options: ImageOptions = {}): DisplayedMedia {
  return picture("image", readImage(value, options), options);
}

/** Frames [t, h, w, c] as an animation (animated PNG), under the rules of `image`. @throws ArgumentError for another shape */
export function video(value: MediaValue, options: VideoOptions = {}): DisplayedMedia {
  return picture("video", readVideo(value, options), options, options.fps ?? 8);
}

/**
 * A sound with a player.
 *
 * @param value - [samples] or [samples, channels]; floats from -1 to 1, or int16
 * @throws ArgumentError for another shape, or without a sample rate
 */
export function audio(value: MediaValue, options: AudioOptions): DisplayedMedia {
  const sound = readAudio(value, options);
  const { caption } = options;
  const bundle = sound.then(({ wav, samples, channels, sampleRate, nan, clipped }) => {
    const seconds = (samples / sampleRate).toFixed(2);
    const text = `audio, ${seconds} s, ${channels === 1 ? "mono" : `${channels} channels`}, ${sampleRate} Hz${problems(nan, clipped, "[-1, 1]", "silent")}`;
    const data = Buffer.from(wav.buffer, wav.byteOffset, wav.byteLength).toString("base64");
    return {
      "text/html":
        `<figure style="margin: 0"><audio controls src="data:audio/wav;base64,${data}"></audio>` +
        `<figcaption>${escaped(caption ?? "")}<small>${text}</small></figcaption></figure>`,
      "text/plain": caption === undefined ? text : `${caption}: ${text}`,
    };
  });
  return new DisplayedMedia(
    "audio/wav",
    sound.then(({ wav }) => wav),
    bundle,
  );
}

function picture(
  what: string,
  frames: Promise<Frames>,
  { caption, range }: RangeOptions & { caption?: string },
  fps?: number,
): DisplayedMedia {
  const file = frames.then((read) => encodePng(read, fps));
  const bundle = Promise.all([frames, file]).then(
    ([{ count, width, height, channels, nan, clipped }, png]) => {
      const colours = { 1: "gray", 3: "RGB", 4: "RGBA" }[channels];
      const limits = range === undefined || range === "auto" ? "the range" : `[${range.join(", ")}]`;
      const text = `${what} ${width} × ${height}, ${colours}${count > 1 ? `, ${count} frames` : ""}${problems(nan, clipped, limits, "magenta")}`;
      return { "image/png": png, "text/plain": caption === undefined ? text : `${caption}: ${text}` };
    },
  );
  return new DisplayedMedia("image/png", file, bundle);
}

function problems(nan: number, clipped: number, range: string, shownAs: string): string {
  return (nan > 0 ? `; ${nan} NaN (${shownAs})` : "") + (clipped > 0 ? `; ${clipped} outside ${range}` : "");
}

function escaped(text: string): string {
  const safe = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return safe === "" ? "" : `${safe} `;
}
