/** What a loader's workers do with pictures; a subpath export of its own, so that they load little. */
import { open } from "node:fs/promises";
import { decode } from "./decode.js";
import { type Geometry, prepared } from "./geometry.js";
import type { Picture } from "./picture.js";

/** Where the bytes of a picture lie. */
export type PictureBytes =
  | { readonly path: string; readonly offset?: number; readonly length?: number }
  | { readonly bytes: Uint8Array };

/** The picture of an item, as a processor prepares it. */
export async function readPicture(
  from: PictureBytes,
  { name, geometry, maxPixels }: { name: string; geometry: Geometry; maxPixels?: number },
): Promise<Picture> {
  const source = "bytes" in from ? from.bytes : from.offset === undefined ? from.path : await part(from);
  return prepared(await decode(source, { name, maxPixels }), geometry);
}

async function part({ path, offset = 0, length = 0 }: { path: string; offset?: number; length?: number }) {
  const file = await open(path, "r");
  try {
    const bytes = new Uint8Array(length);
    const { bytesRead } = await file.read(bytes, 0, length, offset);
    return bytes.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
