/** Checkpoints in several files: whether all are there. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { listTensors } from "../array/storage.js";
import { readRegularSync } from "../files/regular.js";
import { InvalidArgument, StorageError } from "../runtime/errors.js";
import { CheckpointError } from "./errors.js";

const piece = /^(.+)-(\d{5})-of-(\d{5})\.safetensors$/;

/**
 * Refuses a folder whose files are a part of a checkpoint: pieces without the index that says what there was, or an index without all of
 * its pieces. A folder with none of them, a file, and what does not exist pass.
 *
 * @throws CheckpointError with the files that are missing
 */
export function refuseLoosePieces(path: string): void {
  if (!existsSync(path) || !statSync(path).isDirectory()) {
    if (path.endsWith(".index.json") && existsSync(path)) refuseMissing(path);
    return;
  }
  const names = readdirSync(path);
  const index = names.find((name) => name.endsWith(".safetensors.index.json"));
  if (names.includes("model.safetensors")) return;
  if (index !== undefined) {
    refuseMissing(join(path, index));
    return;
  }
  const found = names.flatMap((name) => {
    const [, base, number, count] = piece.exec(name) ?? [];
    return base === undefined ? [] : [{ base, number: Number(number), count: Number(count) }];
  });
  const [first] = found;
  if (first === undefined) return;
  const { base, count } = first;
  const there = new Set(found.filter((each) => each.base === base).map(({ number }) => number));
  const missing = Array.from({ length: count }, (_, i) => i + 1).filter((number) => !there.has(number));
  const files = missing.map(
    (number) => `${base}-${String(number).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.safetensors`,
  );
  throw new CheckpointError(
    `${path} holds ${there.size} of the ${count} files of a checkpoint, and no index that says what is in them`,
    // The runtime's own files have the save's number in their names.
    `fetch ${[`${base.replace(/-[0-9a-f]{8}$/, "")}.safetensors.index.json`, ...listed(files)].join(", ")} into the same folder`,
  );
}

/**
 * What a file, an index or a folder with either holds, by name.
 *
 * @throws CheckpointError with the file that is missing, damaged or of another save
 */
export async function listFiles(path: string): ReturnType<typeof listTensors> {
  refuseLoosePieces(path);
  try {
    return await listTensors(path);
  } catch (error) {
    if (!(error instanceof InvalidArgument || error instanceof StorageError)) throw error;
    throw new CheckpointError(
      `${path} cannot be opened: ${error.message}`,
      "fetch the file that it names, or all of them, again: those of several saves do not go together",
      { cause: error },
    );
  }
}

function refuseMissing(index: string): void {
  let map: unknown;
  try {
    map = (JSON.parse(readRegularSync(index)) as { weight_map?: unknown } | null)?.weight_map;
  } catch {
    // Whoever reads it says what is wrong with it.
    return;
  }
  if (typeof map !== "object" || map === null) return;
  const files = [...new Set(Object.values(map))].filter(
    (file): file is string => typeof file === "string" && file === basename(file),
  );
  const missing = files.filter((file) => !existsSync(join(dirname(index), file))).sort();
  if (missing.length === 0) return;
  throw new CheckpointError(
    `${index} lists ${files.length} files, and ${missing.length} of them are missing: ${listed(missing).join(", ")}`,
    `fetch the missing files into ${dirname(index)}; those of another save do not go with this index`,
  );
}

function listed(names: readonly string[]): string[] {
  return names.length <= 5 ? [...names] : [...names.slice(0, 5), `${names.length - 5} more`];
}
