/** Batches of decoded pictures: uint8 to the device, decoded in worker threads. */
import type { ShapedArray } from "../data/batch.js";
import { DataError } from "../data/errors.js";
import { type Loader, loader } from "../data/loader/index.js";
import { refuseUnknown } from "../graph/spelling.js";
import type { ImageProcessor } from "./processor.js";
import type { PictureItem, PictureList } from "./sources.js";

export interface PictureBatchOptions {
  /** How pictures get their common size: a processor of a fixed size, or a size that they are squashed to (bilinear). */
  size: ImageProcessor | { width: number; height: number };
  batchSize: number;
  /** What happens to pictures that cannot be decoded: refused by name (default), or left out, counted and named in the loader's `skipped`. */
  broken?: "refuse" | "skip";
  /** Makes tokens of captions: the field `tokens`, filled up or cut to `length`. A picture without caption is refused. */
  tokens?: { encode: (caption: string) => readonly number[]; length: number; padId?: number };
  /** Pictures of more pixels are refused before they are unpacked. */
  maxPixels?: number;
  /** The share held out, or a list of its own. */
  validation?: number | PictureList;
  seed?: number;
  shuffle?: boolean;
  epochs?: number;
  workers?: number;
  prefetch?: number;
}

/** Fields of a batch. */
export interface PictureFields {
  /** uint8 [batch, height, width, 3]. */
  readonly image: ShapedArray;
  /** uint32 [batch]: what augmentation draws from, another for each picture in each epoch; 0 in the validation. */
  readonly seed: ShapedArray;
  /** int32 [batch], of lists with labels. */
  readonly label: ShapedArray;
  /** int32 [batch, length], with `tokens`. */
  readonly tokens: ShapedArray;
}

/** A loader, whose `skipped` counts and names what it left out. */
export type PictureBatches = Loader<PictureFields> & { readonly classes: readonly string[] | undefined };

interface Row extends PictureItem {
  readonly tokens?: Int32Array;
}

const known = [
  ...["size", "batchSize", "broken", "tokens", "maxPixels", "validation", "seed"],
  ...["shuffle", "epochs", "workers", "prefetch"],
];

/**
 * Batches of the pictures of a list. Only the encoded bytes pass to the workers, and only bytes of the common size come back.
 *
 * @throws DataError for labels outside of the classes, captions that are missing, a size that is none
 */
export function batches(list: PictureList, options: PictureBatchOptions): PictureBatches {
  refuseUnknown("image.batches: there is no option", Object.keys(options), known);
  const { size, broken = "refuse", maxPixels, validation, tokens, ...rest } = options;
  if (broken !== "refuse" && broken !== "skip")
    throw new DataError(`broken is ${JSON.stringify(broken)}.`, 'Give "refuse" or "skip".');
  const labelled = list.items.some(({ label }) => label !== undefined);
  const rows = (of: PictureList): Row[] =>
    of.items.map((item) => rowOf(item, list.classes, labelled, tokens));
  const geometry =
    "prepare" in size
      ? size.config
      : { do_resize: true, size: { ...size }, resample: 2, image_mean: [0, 0, 0] };
  if ("prepare" in size && size.size === undefined)
    throw new DataError(
      "The processor gives pictures of many sizes.",
      "Give one of a fixed size, or { width, height }.",
    );
  const source = loader({
    items: rows(list),
    context: { geometry, ...(maxPixels !== undefined && { maxPixels }) },
    decode: async (row: Row, { context, seed, training }) => {
      const name = "aronnax/pictures";
      const { readPicture } = await import(name);
      const picture = await readPicture(row.picture, { ...context, name: row.name });
      return {
        image: {
          data: picture.data as Uint8Array,
          shape: [picture.height as number, picture.width as number, 3],
        },
        seed: training ? seed : 0,
        ...(row.label !== undefined && { label: row.label }),
        ...(row.tokens !== undefined && { tokens: row.tokens }),
      };
    },
    dtypes: { label: "int32", seed: "uint32" },
    ...rest,
    ...(validation !== undefined && {
      validation: typeof validation === "number" ? validation : rows(validation),
    }),
    onError: broken === "refuse" ? "throw" : "skip",
  }) as unknown as Loader<PictureFields>;
  return Object.assign(source, { classes: list.classes });
}

function rowOf(
  item: PictureItem,
  classes: readonly string[] | undefined,
  labelled: boolean,
  tokens: PictureBatchOptions["tokens"],
): Row {
  const { label, caption, name } = item;
  if (labelled && label === undefined)
    throw new DataError(`${name} has no label, others have.`, "Label all pictures, or none.");
  const count = classes?.length ?? Number.POSITIVE_INFINITY;
  if (label !== undefined && !(Number.isInteger(label) && label >= 0 && label < count))
    throw new DataError(
      `${name} has the label ${label}.`,
      classes === undefined
        ? "Labels are whole numbers from 0."
        : `There are ${count} classes: give 0 to ${count - 1}.`,
    );
  if (tokens === undefined) return item;
  if (caption === undefined)
    throw new DataError(`${name} has no caption.`, "Give every picture a text, or no `tokens`.");
  const row = new Int32Array(tokens.length).fill(tokens.padId ?? 0);
  row.set(tokens.encode(caption).slice(0, tokens.length));
  return { ...item, tokens: row };
}
