import { existsSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, stat, statfs } from "node:fs/promises";
import { join, resolve } from "node:path";
import { crc32 } from "node:zlib";
import { syncFolder } from "../files/atomic.js";
import { type JsonValue, strictJson } from "../files/json.js";
import { isAlive } from "../files/process.js";
import { CheckpointError, SafetensorsError } from "./errors.js";
import {
  fileChecksum,
  type NamedTensor,
  type SafetensorsFile,
  type WrittenFile,
  writeSafetensors,
} from "./safetensors-file.js";
import { layOut } from "./safetensors-header.js";

/** What a checkpoint holds. Tensor files are written as `<key>.safetensors`, `trainer` as `trainer.json`. */
export interface CheckpointContent {
  step: number;
  /** For example `{ model: [...], optimizer: [...] }`. */
  tensors: Readonly<Record<string, readonly NamedTensor[]>>;
  /** Everything else that a resumed run needs: data position, random keys, schedule ... */
  trainer: JsonValue;
  /** Goes into the safetensors files. */
  metadata?: Readonly<Record<string, string>>;
}

/** A checkpoint on disk that was found whole. */
export interface Checkpoint {
  readonly step: number;
  readonly folder: string;
  readonly trainer: JsonValue;
  /** Paths of the tensor files by key. */
  readonly files: Readonly<Record<string, string>>;
}

interface Manifest {
  version: 1;
  step: number;
  /** Milliseconds since the epoch. */
  savedAt: number;
  files: Record<string, WrittenFile>;
}

const manifestName = "manifest.json";
const finalName = /^step-(\d{6,})$/;
/** `.tmp-` while it is written, `.old-` while another takes its place or it is deleted; then the owner's process id. */
const unfinishedName = /^\.(tmp|old)-(step-\d{6,})-(\d+)-/;

export interface StoreOptions {
  /** Checkpoints to keep; older ones are deleted after each save. Default: all. */
  keep?: number;
  /** Told of each damaged or partial checkpoint that is passed over. Default: `console.warn`. */
  onWarning?: (warning: string) => void;
}

/**
 * A folder of checkpoints `step-000123/{model.safetensors, optimizer.safetensors, trainer.json, manifest.json}`. One is
 * written under a temporary name, fsynced, and renamed when it is whole, so that a crash at any moment leaves the
 * earlier ones and at most a leftover that the next save removes.
 */
export class CheckpointStore {
  readonly folder: string;
  private readonly keep: number;
  private readonly warn: (warning: string) => void;
  private saving: Promise<unknown> = Promise.resolve();
  private counter = 0;

  constructor(folder: string, options: StoreOptions = {}) {
    const { keep = Number.POSITIVE_INFINITY } = options;
    if (!(keep >= 1)) throw new CheckpointError(`keep must be at least 1; it is ${keep}.`);
    this.folder = resolve(folder);
    this.keep = keep;
    this.warn = options.onWarning ?? ((warning) => console.warn(warning));
  }

  /** Saves a checkpoint; one at a time, in the order of the calls. A checkpoint of the same step is replaced. */
  save(content: CheckpointContent): Promise<Checkpoint> {
    const saved = this.saving.then(() => this.write(content));
    this.saving = saved.catch(() => {});
    return saved;
  }

  /** The newest whole checkpoint; damaged ones are passed over with a warning. Undefined if there is none. */
  async latest(): Promise<Checkpoint | undefined> {
    for (const step of (await this.steps()).reverse()) {
      try {
        return await this.open(step);
      } catch (error) {
        if (!(error instanceof CheckpointError)) throw error;
        this.warn(`Checkpoint passed over: ${error.message}`);
      }
    }
    return undefined;
  }

  /** The checkpoint of a step, after checking every byte of it against its manifest. */
  async open(step: number): Promise<Checkpoint> {
    const folder = join(this.folder, stepName(step));
    const manifest = await readManifest(folder, step);
    const files: Record<string, string> = {};
    let trainer: JsonValue | undefined;
    for (const [name, expected] of Object.entries(manifest.files)) {
      const path = join(folder, name);
      const size = await stat(path).then(
        (stats) => stats.size,
        () => undefined,
      );
      if (size === undefined) throw new CheckpointError(`${folder} is damaged: ${name} is missing.`);
      if (size !== expected.bytes) {
        throw new CheckpointError(
          `${folder} is damaged: ${name} has ${size} bytes instead of ${expected.bytes}.`,
        );
      }
      if ((await fileChecksum(path)) !== expected.crc32) {
        throw new CheckpointError(
          `${folder} is damaged: the content of ${name} does not match its checksum.`,
        );
      }
      if (name === "trainer.json") trainer = JSON.parse(await readFile(path, "utf8")) as JsonValue;
      else files[name.replace(/\.safetensors$/, "")] = path;
    }
    if (trainer === undefined) throw new CheckpointError(`${folder} is damaged: it has no trainer.json.`);
    return { step, folder, trainer, files };
  }

  /** The steps of all checkpoints, whole or not, ascending. */
  async steps(): Promise<number[]> {
    await this.recover();
    const names = await readdir(this.folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    return names.flatMap((name) => finalName.exec(name)?.slice(1, 2).map(Number) ?? []).sort((a, b) => a - b);
  }

  private async write(content: CheckpointContent): Promise<Checkpoint> {
    const { step } = content;
    if (!Number.isSafeInteger(step) || step < 0) throw new CheckpointError(`The step ${step} is no step.`);
    const trainer = Buffer.from(strictJson(content.trainer, "trainer", 2));
    const parts = Object.entries(content.tensors).map(([key, tensors]) => {
      if (!/^[\w-]+$/.test(key))
        throw new CheckpointError(`A tensor file cannot be named ${JSON.stringify(key)}.`);
      return { key, tensors, bytes: layOut(tensors, content.metadata).fileSize };
    });
    const needed = trainer.length + parts.reduce((sum, part) => sum + part.bytes, 0);
    const target = join(this.folder, stepName(step));
    const temporary = this.unfinished("tmp", step);
    try {
      await mkdir(this.folder, { recursive: true });
      await this.recover();
      await this.requireSpace(needed);
      await mkdir(temporary);
      const manifest: Manifest = { version: 1, step, savedAt: Date.now(), files: {} };
      for (const { key, tensors } of parts) {
        const name = `${key}.safetensors`;
        manifest.files[name] = await writeSafetensors(join(temporary, name), tensors, content.metadata);
      }
      await writeSynced(join(temporary, "trainer.json"), trainer);
      manifest.files["trainer.json"] = { bytes: trainer.length, crc32: crc32(trainer) };
      await writeSynced(join(temporary, manifestName), Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
      await syncFolder(temporary);
      await this.putInPlace(temporary, target, step);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true }).catch(() => {});
      throw this.explain(error, target, needed);
    }
    await this.deleteOld();
    const files = Object.fromEntries(parts.map(({ key }) => [key, join(target, `${key}.safetensors`)]));
    return { step, folder: target, trainer: content.trainer, files };
  }

  private async putInPlace(temporary: string, target: string, step: number): Promise<void> {
    // A folder cannot be replaced by a rename: the one there steps aside, and `recover` brings it back after a crash.
    const aside = existsSync(target) ? this.unfinished("old", step) : undefined;
    if (aside !== undefined) await rename(target, aside);
    await rename(temporary, target);
    await syncFolder(this.folder);
    if (aside !== undefined) await rm(aside, { recursive: true, force: true });
  }

  /** Deletes the oldest checkpoints beyond `keep`. Only whole ones count as kept. */
  private async deleteOld(): Promise<void> {
    let kept = 0;
    for (const step of (await this.steps()).reverse()) {
      if (kept < this.keep) {
        const whole = await readManifest(join(this.folder, stepName(step)), step).catch(() => undefined);
        if (whole !== undefined) kept++;
        continue;
      }
      const aside = this.unfinished("old", step);
      // A crash during the deletion must not leave half a checkpoint under a final name.
      await rename(join(this.folder, stepName(step)), aside);
      await rm(aside, { recursive: true, force: true });
    }
  }

  /** Removes what dead processes left, and brings back a checkpoint that was moved aside and never replaced. */
  private async recover(): Promise<void> {
    const names = await readdir(this.folder).catch(() => []);
    for (const name of names) {
      const match = unfinishedName.exec(name);
      if (match === null || isAlive(Number(match[3]))) continue;
      const path = join(this.folder, name);
      const target = join(this.folder, match[2]!);
      const wasReplaced = existsSync(target);
      if (match[1] === "old" && !wasReplaced && existsSync(join(path, manifestName)))
        await rename(path, target);
      else await rm(path, { recursive: true, force: true });
    }
  }

  private async requireSpace(needed: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.folder);
    if (bavail * bsize < needed) {
      throw Object.assign(new Error(`${bavail * bsize} bytes are free`), { code: "ENOSPC" });
    }
  }

  private explain(error: unknown, target: string, needed: number): unknown {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG") {
      return new CheckpointError(
        `The checkpoint ${target} needs ${needed} bytes and the disk is full (${message}). Earlier checkpoints are intact.`,
        "Free some space, keep fewer checkpoints (`keep`), or save to another disk.",
        { cause: error },
      );
    }
    if (error instanceof CheckpointError || error instanceof SafetensorsError || error instanceof TypeError)
      return error;
    if (code === undefined) return error;
    return new CheckpointError(`The checkpoint ${target} cannot be saved: ${message}`, undefined, {
      cause: error,
    });
  }

  private unfinished(kind: "tmp" | "old", step: number): string {
    return join(this.folder, `.${kind}-${stepName(step)}-${process.pid}-${this.counter++}`);
  }
}

/** The tensors of a safetensors file, to be read one by one: what `save` takes. */
export function tensorsOf(file: SafetensorsFile): NamedTensor[] {
  return [...file.tensors.values()].map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape,
    bytes: () => file.read(name),
  }));
}

function stepName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

async function readManifest(folder: string, step: number): Promise<Manifest> {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(await readFile(join(folder, manifestName), "utf8")) as Manifest;
  } catch (error) {
    throw new CheckpointError(
      `${folder} is damaged: its ${manifestName} cannot be read (${(error as Error).message}).`,
      undefined,
      { cause: error },
    );
  }
  const { version, files } = manifest;
  if (version !== 1) {
    throw new CheckpointError(`${folder} has the format version ${version}; this program reads version 1.`);
  }
  const wellFormed =
    manifest.step === step &&
    typeof files === "object" &&
    files !== null &&
    Object.entries(files).every(
      ([name, file]) => /^[\w-]+\.\w+$/.test(name) && file.bytes >= 0 && file.crc32 >= 0,
    );
  if (!wellFormed)
    throw new CheckpointError(`${folder} is damaged: its ${manifestName} does not describe it.`);
  return manifest;
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "wx");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}
