/** Lists of pictures with labels and captions: folders, Parquet and Arrow tables, webdataset's tar files. */
import { readdir, readFile } from "node:fs/promises";
import { basename, join, relative, sep } from "node:path";
import { DataError } from "../data/errors.js";
import { arrowRows, parquetRows } from "../data/text/table-files.js";
import type { PictureBytes } from "./pictures.js";
import { readEntry, tarEntries } from "./tar.js";

/** A picture that was not decoded yet. */
export interface PictureItem {
  /** Said in errors. */
  readonly name: string;
  readonly picture: PictureBytes;
  /** Number of its class. */
  readonly label?: number;
  readonly caption?: string;
}

export interface PictureList {
  readonly items: readonly PictureItem[];
  /** Names of the classes, by number; undefined where there are none. */
  readonly classes?: readonly string[];
}

const pictureName = /\.(png|jpe?g|webp|gif|tiff?|avif|svg|bmp)$/i;

export interface FolderOptions {
  /** Names of the classes, in their order. Default the names of the folders within, sorted. */
  classes?: readonly string[];
  /** Whether folders are classes. Default true; without, all pictures below the folder, with captions of a `metadata.jsonl`, or files `.txt`, beside them. */
  labelled?: boolean;
}

/**
 * Pictures of a folder: each folder within it is a class. With `labelled: false` captions are those of `metadata.jsonl` (`file_name` and `text`,
 * as Hugging Face's image folders), or of a text file of the picture's name.
 *
 * @throws DataError for a folder without classes or pictures
 */
export async function folder(
  path: string,
  { classes: given, labelled = true }: FolderOptions = {},
): Promise<PictureList> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
    throw new DataError(
      `The folder ${path} cannot be read: ${(error as Error).message}`,
      "Give the path of a folder.",
      {
        cause: error,
      },
    );
  });
  const files = entries
    .filter((each) => each.isFile())
    .map((each) => join(each.parentPath, each.name))
    .sort();
  const found = files.filter((file) => pictureName.test(file));
  if (found.length === 0)
    throw new DataError(
      `The folder ${path} holds no pictures.`,
      "It looks for .png, .jpg, .webp, .gif, .tiff, .avif, .svg and .bmp.",
    );
  if (!labelled) return { items: await captioned(path, found, new Set(files)) };
  const classOf = (file: string) => {
    const parts = relative(path, file).split(sep);
    return parts.length > 1 ? parts[0] : undefined;
  };
  const loose = found.find((file) => classOf(file) === undefined);
  if (loose !== undefined)
    throw new DataError(
      `The folder ${path} has no classes: ${basename(loose)} lies beside none.`,
      "Put the pictures of each class into a folder of its name, or give `labelled: false`.",
    );
  const classes = given ?? [...new Set(found.map((file) => classOf(file)!))].sort();
  const items = found.map((file) => {
    const label = classes.indexOf(classOf(file)!);
    if (label < 0)
      throw new DataError(
        `${file} is of the class "${classOf(file)}".`,
        `The classes are ${classes.join(", ")}.`,
      );
    return { name: file, picture: { path: file }, label };
  });
  return { items, classes };
}

async function captioned(
  path: string,
  found: readonly string[],
  files: ReadonlySet<string>,
): Promise<PictureItem[]> {
  const metadata = join(path, "metadata.jsonl");
  const captions = new Map<string, string>();
  if (files.has(metadata)) {
    for (const [i, line] of (await readFile(metadata, "utf8")).split("\n").entries()) {
      if (line.trim() === "") continue;
      let row: { file_name?: unknown; text?: unknown };
      try {
        row = JSON.parse(line) as typeof row;
      } catch (error) {
        throw new DataError(`${metadata}, line ${i + 1}: ${(error as Error).message}`, undefined, {
          cause: error,
        });
      }
      if (typeof row.file_name !== "string" || typeof row.text !== "string")
        throw new DataError(
          `${metadata}, line ${i + 1} has no file_name and text.`,
          'Write {"file_name": …, "text": …}.',
        );
      captions.set(join(path, row.file_name), row.text);
    }
  }
  return Promise.all(
    found.map(async (file) => {
      const beside = file.replace(/\.[^.]+$/, ".txt");
      const caption =
        captions.get(file) ?? (files.has(beside) ? (await readFile(beside, "utf8")).trim() : undefined);
      return { name: file, picture: { path: file }, ...(caption !== undefined && { caption }) };
    }),
  );
}

export interface TableOptions {
  /** Column of the pictures: their bytes, or a struct of `bytes` and `path`, as Hugging Face keeps them. Default "image". */
  image?: string;
  /** Column of the classes' numbers. Default "label" where there is one. */
  label?: string;
  /** Column of the texts. Default the first of "text" and "caption" that is there. */
  caption?: string;
  classes?: readonly string[];
}

/** Rows of Parquet (`.parquet`) and Arrow files, whose encoded pictures stay in memory. */
export async function table(
  paths: string | readonly string[],
  options: TableOptions = {},
): Promise<PictureList> {
  const { image: column = "image", classes } = options;
  const items: PictureItem[] = [];
  for (const path of typeof paths === "string" ? [paths] : paths) {
    const rows = path.endsWith(".parquet") ? parquetRows(path, undefined, { utf8: false }) : arrowRows(path);
    for await (const { record, row } of rows) {
      const name = `${path}, row ${row}`;
      if (!(column in record))
        throw new DataError(
          `${path} has no column "${column}".`,
          `It has: ${Object.keys(record).join(", ")}. Pass \`image\`.`,
        );
      const caption = record[options.caption ?? ("text" in record ? "text" : "caption")];
      const label = record[options.label ?? "label"];
      items.push({
        name,
        picture: bytesOf(record[column], name),
        ...(label !== undefined && label !== null && { label: Number(label) }),
        ...(typeof caption === "string" && { caption }),
      });
    }
  }
  return { items, ...(classes !== undefined && { classes }) };
}

function bytesOf(value: unknown, name: string): PictureBytes {
  if (value instanceof Uint8Array) return { bytes: value };
  const { bytes, path } = (typeof value === "object" && value !== null ? value : {}) as {
    bytes?: unknown;
    path?: unknown;
  };
  if (bytes instanceof Uint8Array) return { bytes };
  if (typeof path === "string") return { path };
  throw new DataError(
    `${name}: the picture is ${value === null ? "null" : typeof value}.`,
    "Keep its encoded bytes, or { bytes, path }.",
  );
}

/**
 * Tar files of webdataset: files of one name up to its first dot are a sample, such as `0001.jpg`, `0001.cls` (the class's number), `0001.txt` (the
 * caption) and `0001.json` (`label`, `caption` or `text`). Pictures stay in the file until they are decoded.
 */
export async function tar(
  paths: string | readonly string[],
  { classes }: { classes?: readonly string[] } = {},
): Promise<PictureList> {
  const items: PictureItem[] = [];
  for (const path of typeof paths === "string" ? [paths] : paths) {
    const samples = new Map<string, { picture?: PictureBytes; label?: number; caption?: string }>();
    for await (const entry of tarEntries(path)) {
      const folderEnd = entry.name.lastIndexOf("/") + 1;
      const dot = entry.name.indexOf(".", folderEnd);
      if (dot < 0) continue;
      const [key, kind] = [entry.name.slice(0, dot), entry.name.slice(dot + 1).toLowerCase()];
      const sample = samples.get(key) ?? {};
      samples.set(key, sample);
      const text = async () => Buffer.from(await readEntry(path, entry)).toString("utf8");
      if (pictureName.test(`.${kind}`)) sample.picture = { path, offset: entry.offset, length: entry.length };
      else if (kind === "cls") sample.label = Number((await text()).trim());
      else if (kind === "txt") sample.caption = (await text()).trim();
      else if (kind === "json") {
        const { label, caption, text: words } = JSON.parse(await text()) as Record<string, unknown>;
        if (typeof label === "number") sample.label = label;
        const said = caption ?? words;
        if (typeof said === "string") sample.caption = said;
      }
    }
    for (const [key, { picture, ...rest }] of samples)
      if (picture !== undefined) items.push({ name: `${path}: ${key}`, picture, ...rest });
  }
  if (items.length === 0)
    throw new DataError(
      "The tar files hold no pictures.",
      "Samples are files of one name: 0001.jpg, 0001.cls, 0001.txt.",
    );
  return { items, ...(classes !== undefined && { classes }) };
}
