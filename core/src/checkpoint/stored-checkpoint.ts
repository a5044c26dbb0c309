/** Reading one checkpoint from its folder, with every claim of its manifest checked. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { JsonValue } from "../files/json.js";
import { readRegular } from "../files/regular.js";
import { CheckpointError } from "./errors.js";
import { fileChecksum, type WrittenFile } from "./safetensors-file.js";

/** A checkpoint on disk that was found whole. */
export interface Checkpoint {
  readonly step: number;
  readonly folder: string;
  readonly trainer: JsonValue;
  readonly score?: number;
  /** Paths of the tensor files, or of their folders, by key. */
  readonly files: Readonly<Record<string, string>>;
}

export interface Manifest {
  version: 1;
  step: number;
  /** Milliseconds since the epoch. */
  savedAt: number;
  score?: number;
  files: Record<string, WrittenFile>;
}

export const manifestName = "manifest.json";
/** Which folder it is; undefined for none. */
export function identityOf(folder: string): Promise<string | undefined> {
  return stat(folder, { bigint: true }).then(
    // The number of a folder that is deleted goes to the next that is made.
    ({ ino, birthtimeNs, mtimeNs }) => `${ino} ${birthtimeNs} ${mtimeNs}`,
    () => undefined,
  );
}

/** A checkpoint, every byte of it checked against its manifest. @throws CheckpointError for whatever is wrong with it */
export async function readCheckpoint(step: number, folder: string): Promise<Checkpoint> {
  const manifest = await readManifest(folder, step);
  const files: Record<string, string> = {};
  let trainer: JsonValue | undefined;
  await checkSizes(folder, manifest);
  for (const [name, expected] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    if ((await read(path, () => fileChecksum(path))) !== expected.crc32) {
      throw new CheckpointError(`${folder} is damaged: the content of ${name} does not match its checksum.`);
    }
    const [key, ...below] = name.split("/") as [string, ...string[]];
    if (name === "trainer.json") {
      trainer = await read(path, async () => JSON.parse(await readRegular(path)) as JsonValue);
    } else if (below.length > 0) files[key] = join(folder, key);
    else files[key.replace(/\.safetensors$/, "")] = path;
  }
  if (trainer === undefined) throw new CheckpointError(`${folder} is damaged: it has no trainer.json.`);
  return { step, folder, trainer, score: manifest.score, files };
}

/** What a file of a checkpoint gives. @throws CheckpointError */
async function read<T>(path: string, get: () => Promise<T>): Promise<T> {
  try {
    return await get();
  } catch (error) {
    throw new CheckpointError(`${path} cannot be read: ${(error as Error).message}`, undefined, {
      cause: error,
    });
  }
}

/** @throws CheckpointError */
export async function readManifest(folder: string, step: number): Promise<Manifest> {
  let manifest: Partial<Manifest> | null;
  try {
    manifest = JSON.parse(await readRegular(join(folder, manifestName))) as Partial<Manifest> | null;
  } catch (error) {
    throw new CheckpointError(
      `${folder} is damaged: its ${manifestName} cannot be read (${(error as Error).message}).`,
      undefined,
      { cause: error },
    );
  }
  const version = manifest?.version;
  if (typeof version === "number" && version !== 1) {
    throw new CheckpointError(`${folder} has the format version ${version}; this program reads version 1.`);
  }
  const wellFormed =
    version === 1 &&
    manifest?.step === step &&
    Number.isFinite(manifest.savedAt) &&
    Math.abs(manifest.savedAt!) < Number.MAX_SAFE_INTEGER &&
    typeof manifest.files === "object" &&
    manifest.files !== null &&
    !Array.isArray(manifest.files) &&
    Object.entries(manifest.files).every(
      ([name, file]) =>
        /^(?:[\w-]+\/)?[\w-]+(?:\.[\w-]+)+$/.test(name) && file?.bytes >= 0 && file?.crc32 >= 0,
    );
  if (!wellFormed) {
    throw new CheckpointError(`${folder} is damaged: its ${manifestName} does not describe it.`);
  }
  return manifest as Manifest;
}

/** @throws CheckpointError for a file that is not there, or has another size. */
export async function checkSizes(folder: string, manifest: Manifest): Promise<void> {
  for (const [name, expected] of Object.entries(manifest.files)) {
    const stats = await stat(join(folder, name)).catch(() => undefined);
    const size = stats?.size;
    if (stats?.isFile() === false) {
      throw new CheckpointError(`${folder} is damaged: ${name} is no regular file.`);
    }
    if (size === undefined) throw new CheckpointError(`${folder} is damaged: ${name} is missing.`);
    if (size !== expected.bytes) {
      throw new CheckpointError(
        `${folder} is damaged: ${name} has ${size} bytes instead of ${expected.bytes}.`,
      );
    }
  }
}
