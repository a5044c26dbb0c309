import { ArgumentError } from "../graph/errors.js";

/** Pixels of 8-bit RGB: `height` rows of `width` pixels, three bytes each. */
export interface Picture {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** @throws ArgumentError where the bytes are not those of the size */
export function checkPicture(what: string, { data, width, height }: Picture): void {
  for (const [name, side] of Object.entries({ width, height }))
    if (!Number.isInteger(side) || side < 1)
      throw new ArgumentError(`${what}: the picture's ${name} is ${side}`, "give whole numbers from 1");
  if (!(data instanceof Uint8Array) || data.length !== 3 * width * height)
    throw new ArgumentError(
      `${what}: a picture of ${width} x ${height} has ${data?.length ?? "no"} bytes in place of ${3 * width * height}`,
      "give RGB, three bytes a pixel",
    );
}

/** The part of a picture; what lies outside of it is black. */
export function crop(picture: Picture, left: number, top: number, width: number, height: number): Picture {
  checkPicture("crop", picture);
  const out = new Uint8Array(3 * width * height);
  const from = Math.max(0, left);
  const to = Math.min(picture.width, left + width);
  for (let y = Math.max(0, top); to > from && y < Math.min(picture.height, top + height); y++) {
    const row = picture.data.subarray(3 * (y * picture.width + from), 3 * (y * picture.width + to));
    out.set(row, 3 * ((y - top) * width + from - left));
  }
  return { data: out, width, height };
}

/** The middle of a picture, as transformers' `center_crop`: a picture that is smaller lies in the middle of black. */
export function centerCrop(picture: Picture, width: number, height: number): Picture {
  // Of an odd remainder the larger half is kept above and left of a crop, and of black.
  const place = (have: number, want: number) =>
    want <= have ? Math.floor((have - want) / 2) : -Math.ceil((want - have) / 2);
  return crop(picture, place(picture.width, width), place(picture.height, height), width, height);
}

/** A picture in the middle of a square of one colour, as LLaVA takes it. */
export function padToSquare(picture: Picture, colour: readonly [number, number, number]): Picture {
  checkPicture("padToSquare", picture);
  const side = Math.max(picture.width, picture.height);
  const left = Math.floor((side - picture.width) / 2);
  const top = Math.floor((side - picture.height) / 2);
  const data = new Uint8Array(3 * side * side);
  for (let i = 0; i < data.length; i++) data[i] = colour[i % 3]!;
  for (let y = 0; y < picture.height; y++)
    data.set(
      picture.data.subarray(3 * y * picture.width, 3 * (y + 1) * picture.width),
      3 * ((top + y) * side + left),
    );
  return { data, width: side, height: side };
}
