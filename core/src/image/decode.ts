import { readFile } from "node:fs/promises";
import { DataError } from "../data/errors.js";
import type { Picture } from "./picture.js";

export interface DecodeOptions {
  /** Pictures of more pixels are refused before they are unpacked. Default 2^28, as many as Pillow lets pass. */
  maxPixels?: number;
  /** Said of the picture in errors; default the path, or "the picture". */
  name?: string;
}

/** Twice what Pillow warns of: `Image.MAX_IMAGE_PIXELS`. */
const mostPixels = 178_956_970;

/**
 * A picture from a file or its bytes: PNG, JPEG, WebP, GIF (the first frame), TIFF, AVIF or SVG, turned as its EXIF data say, as 8-bit sRGB
 * without transparency (the colours stay as they are, as in Pillow's `convert("RGB")`). The decoder is sharp (libvips), loaded when it is first
 * used.
 *
 * @throws DataError for what is no picture, broken, or too large, by name
 */
export async function decode(source: string | Uint8Array, options: DecodeOptions = {}): Promise<Picture> {
  const { maxPixels = mostPixels } = options;
  const name = options.name ?? (typeof source === "string" ? source : "the picture");
  let bytes: Uint8Array;
  try {
    bytes = typeof source === "string" ? await readFile(source) : source;
  } catch (error) {
    throw new DataError(
      `The picture ${name} cannot be read: ${(error as Error).message}`,
      "Give a file's path or its bytes.",
      { cause: error },
    );
  }
  if (!(bytes instanceof Uint8Array) || bytes.length === 0)
    throw new DataError(`The picture ${name} is empty.`, "Give a file's path or its bytes.");
  const { default: sharp } = await import("sharp");
  try {
    const reader = sharp(bytes, { limitInputPixels: maxPixels, failOn: "truncated", pages: 1 });
    const { data, info } = await reader
      .rotate()
      .toColourspace("srgb")
      .removeAlpha()
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    return { data: threeChannels(data, info.channels), width: info.width, height: info.height };
  } catch (error) {
    const { message } = error as Error;
    const large = /pixel limit/.test(message);
    throw new DataError(
      large
        ? `The picture ${name} has more than ${maxPixels} pixels.`
        : `The picture ${name} cannot be decoded: ${message.split("\n")[0]}`,
      large
        ? "Raise `maxPixels` if it is meant to be so large, or reduce it first."
        : "Leave it out, or save it anew as PNG or JPEG.",
      { cause: error },
    );
  }
}

function threeChannels(data: Uint8Array, channels: number): Uint8Array {
  if (channels === 3) return data;
  const out = new Uint8Array(3 * (data.length / channels));
  for (let i = 0; i < out.length; i++)
    out[i] = data[channels * Math.floor(i / 3) + (channels > 2 ? i % 3 : 0)]!;
  return out;
}
