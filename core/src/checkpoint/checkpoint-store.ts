import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, statfsSync } from "node:fs";
import { lstat, mkdir, open, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { syncFolder } from "../files/atomic.js";
import { type JsonValue, strictJson } from "../files/json.js";
import { isAlive, processPlace, processStart } from "../files/process.js";
import { CheckpointError } from "./errors.js";
import {
  fileChecksum,
  type NamedTensor,
  type SafetensorsFile,
  type WrittenFile,
  writeSafetensors,
} from "./safetensors-file.js";
import { layOut } from "./safetensors-header.js";
import {
  type Checkpoint,
  checkSizes,
  identityOf,
  type Manifest,
  manifestName,
  readCheckpoint,
  readManifest,
} from "./stored-checkpoint.js";
import type { TensorFiles } from "./tensor-files.js";

/** Tensors that another process writes, straight from the devices. */
export interface TensorFolder {
  /** Bytes that the disk must have for them. */
  readonly bytes: number;
  /**
   * Writes files into a folder that is there; resolves when they are on the disk. It is called at once, and whatever it is to write are the
   * values of that moment.
   */
  write(folder: string): Promise<void>;
}

/**
 * What a checkpoint holds. Lists of tensors are written as `<key>.safetensors`, folders as `<key>/`, `trainer` as `trainer.json`.
 */
export interface CheckpointContent {
  step: number;
  /** For example `{ model: [...], optimizer: [...] }`. */
  tensors: Readonly<Record<string, readonly NamedTensor[] | TensorFolder>>;
  /** Everything else that a resumed run needs: data position, random keys, schedule ... */
  trainer: JsonValue;
  /** Goes into the safetensors files. */
  metadata?: Readonly<Record<string, string>>;
  /** How good it is, less being better (a validation loss), for `keepBest`. */
  score?: number;
}

const finalName = /^step-(\d{6,})$/;
/**
 * `.tmp-` while it is written, `.old-` while another takes its place, `.del-` while it is deleted; by which process, of which host and
 * namespace (earlier releases did not say).
 */
const unfinishedName = /^\.(tmp|old|del)-(step-\d{6,})-(?:([0-9a-f]{12})-)?(\d+)\.(\d+)-/;
/** Milliseconds after which what a process of another host or namespace left unfinished is taken to be forgotten. */
const forgottenAfter = 24 * 3600e3;
/** Looks at a folder that another process changes meanwhile. */
const looks = 40;

/** A checkpoint folder under its final name, as far as its manifest and the sizes of its files tell. */
interface Found {
  step: number;
  folder: string;
  /** Which folder it is: another has taken its place if this is another. */
  identity: string | undefined;
  /** Milliseconds since the epoch. */
  savedAt: number;
  score?: number;
  damage?: CheckpointError;
}

export interface StoreOptions {
  /** Checkpoints to keep; older ones are deleted after each save. Default: all. */
  keep?: number;
  /** Of the older ones, keeps so many with the best scores as well. Default 0. */
  keepBest?: number;
  /** Told of each damaged or partial checkpoint that is passed over. Default: `console.warn`. */
  onWarning?: (warning: string) => void;
}

/**
 * A folder of checkpoints `step-000123/{model/, optimizer/, trainer.json, manifest.json}`. One is
 * written under a temporary name, fsynced, and renamed when it is whole, so that a crash at any moment leaves the
 * earlier ones and at most a leftover that the next save removes.
 */
export class CheckpointStore {
  readonly folder: string;
  private readonly keep: number;
  private readonly keepBest: number;
  private readonly warn: (warning: string) => void;
  private saving: Promise<unknown> = Promise.resolve();

  constructor(folder: string, options: StoreOptions = {}) {
    const { keep = Number.POSITIVE_INFINITY, keepBest = 0 } = options;
    if (!(keep >= 1)) throw new CheckpointError(`keep must be at least 1; it is ${keep}.`);
    if (!(keepBest >= 0)) throw new CheckpointError(`keepBest must be at least 0; it is ${keepBest}.`);
    this.keepBest = keepBest;
    this.folder = resolve(folder);
    this.keep = keep;
    this.warn = options.onWarning ?? ((warning) => console.warn(warning));
  }

  /**
   * Saves a checkpoint; they come into their places in the order of the calls. A checkpoint of the same step is replaced. Folders begin to
   * be written before this returns.
   */
  save(content: CheckpointContent): Promise<Checkpoint> {
    const draft = this.unfinished("tmp", content.step);
    let begun: Promise<void>;
    try {
      begun = this.begin(content, draft);
    } catch (error) {
      begun = Promise.reject(error);
    }
    begun.catch(() => {});
    const saved = this.saving.then(() => this.write(content, draft, begun));
    this.saving = saved.catch(() => {});
    return saved;
  }

  /**
   * The whole checkpoint that was saved last; damaged ones are passed over with a warning. Undefined if there is none.
   * The last saved need not have the highest step: a run may have been continued from an earlier one. Only reads, also beside a process
   * that saves.
   */
  async latest(): Promise<Checkpoint | undefined> {
    await this.saving;
    return this.firstWhole((found) => [...found].reverse());
  }

  /** The whole checkpoint with the lowest score. Undefined if none was saved with one. */
  async best(): Promise<Checkpoint | undefined> {
    await this.saving;
    return this.firstWhole(byScore);
  }

  private async firstWhole(order: (found: readonly Found[]) => Found[]): Promise<Checkpoint | undefined> {
    const warnings = new Set<string>();
    for (let look = 1; ; look++) {
      const candidates = order(await this.scan());
      let changed = false;
      for (const found of candidates) {
        try {
          const opened = await readCheckpoint(found.step, found.folder);
          for (const warning of warnings) this.warn(warning);
          return opened;
        } catch (error) {
          // A process that saves has deleted or replaced it: the next look shows what there is instead.
          changed = look < looks && (await this.hasMoved(found.step, found.folder, found.identity));
          if (changed) break;
          if (!(error instanceof CheckpointError)) throw error;
          warnings.add(`Checkpoint passed over: ${error.message}`);
        }
      }
      if (changed) {
        warnings.clear();
        await sleep(look);
        continue;
      }
      for (const warning of warnings) this.warn(warning);
      return undefined;
    }
  }

  /** The checkpoint of a step, after checking every byte of it against its manifest. */
  async open(step: number): Promise<Checkpoint> {
    const place = (await this.places()).get(step);
    if (place === undefined) {
      throw new CheckpointError(
        `${this.folder} has no checkpoint of step ${step}; it has: ${(await this.steps()).join(", ") || "none"}.`,
      );
    }
    return readCheckpoint(step, place);
  }

  /** The steps of the checkpoints whose files are all there, in the order of saving. */
  async steps(): Promise<number[]> {
    return (await this.scan()).filter((found) => found.damage === undefined).map((found) => found.step);
  }

  /** All checkpoint folders in the order of saving; looked at again where a process that saves changes them meanwhile. */
  private async scan(): Promise<Found[]> {
    for (let look = 1; ; look++) {
      const found: Found[] = [];
      let changed = false;
      for (const [step, folder] of await this.places()) {
        const identity = await identityOf(folder);
        try {
          const manifest = await readManifest(folder, step);
          await checkSizes(folder, manifest);
          found.push({ step, folder, identity, savedAt: manifest.savedAt, score: manifest.score });
        } catch (error) {
          if (!(error instanceof CheckpointError)) throw error;
          changed ||= await this.hasMoved(step, folder, identity);
          const savedAt = await stat(folder).then(
            ({ mtimeMs }) => mtimeMs,
            () => 0,
          );
          found.push({ step, folder, identity, savedAt, damage: error });
        }
      }
      if (changed && look < looks) {
        await sleep(look);
        continue;
      }
      return found.sort((a, b) => a.savedAt - b.savedAt || a.step - b.step);
    }
  }

  /** Whether a checkpoint is elsewhere by now: deleted, replaced, or stepped aside for one that has come. */
  private async hasMoved(step: number, folder: string, identity: string | undefined): Promise<boolean> {
    const final = join(this.folder, stepName(step));
    if (folder !== final && existsSync(final)) return true;
    return identity === undefined || (await identityOf(folder)) !== identity;
  }

  /**
   * The folder of each step. One that stepped aside for another, which never came, stands for its step: `recover` brings it back before the
   * next save.
   */
  private async places(): Promise<Map<number, string>> {
    for (let look = 1; ; look++) {
      const names = await this.settledNames();
      const places = new Map<number, string>();
      let onTheWay = false;
      for (const name of names) {
        const step = finalName.exec(name)?.[1];
        if (step !== undefined) places.set(Number(step), join(this.folder, name));
      }
      for (const name of names) {
        const [, kind, target] = unfinishedName.exec(name) ?? [];
        if (kind !== "old" || target === undefined) continue;
        const step = Number(finalName.exec(target)?.[1]);
        if (places.has(step)) continue;
        places.set(step, join(this.folder, name));
        // The other one takes its place in a moment, where its process lives.
        onTheWay = true;
      }
      if (!onTheWay || look === 5) return places;
      await sleep(4 * look);
    }
  }

  /** The names in the folder; one that is renamed while they are listed may be missed, so they are listed until they stay the same. */
  private async settledNames(): Promise<string[]> {
    let names = await this.names();
    for (let look = 1; look < looks; look++) {
      const again = await this.names();
      if (again.length === names.length && again.every((name, i) => name === names[i])) break;
      names = again;
    }
    return names;
  }

  private names(): Promise<string[]> {
    return readdir(this.folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
  }

  /** Starts the writing of folders; lists of tensors follow when it is their turn. */
  private begin({ step, tensors }: CheckpointContent, draft: string): Promise<void> {
    if (!Number.isSafeInteger(step) || step < 0) throw new CheckpointError(`The step ${step} is no step.`);
    for (const key of Object.keys(tensors)) {
      if (!/^[\w-]+$/.test(key))
        throw new CheckpointError(`A tensor file cannot be named ${JSON.stringify(key)}.`);
    }
    const folders = Object.entries(tensors).flatMap(([key, part]) =>
      "write" in part ? [{ key, part }] : [],
    );
    if (folders.length === 0) return Promise.resolve();
    mkdirSync(this.folder, { recursive: true });
    const { bavail, bsize } = statfsSync(this.folder);
    if (bavail * bsize < neededBytes(tensors)) throw noSpace(bavail * bsize);
    // Not one that lies there: its name is nobody else's.
    mkdirSync(draft);
    const writes = folders.map(({ key, part }) => {
      const folder = join(draft, key);
      mkdirSync(folder);
      return part.write(folder);
    });
    // All are waited for: what fails must not be removed while the others still write.
    return Promise.allSettled(writes).then((results) => {
      for (const result of results) if (result.status === "rejected") throw result.reason;
    });
  }

  private async write(content: CheckpointContent, draft: string, begun: Promise<void>): Promise<Checkpoint> {
    const { step, score } = content;
    const target = join(this.folder, stepName(step));
    let needed = 0;
    try {
      await begun;
      const trainer = Buffer.from(strictJson(content.trainer, "trainer", 2));
      needed = trainer.length + neededBytes(content.tensors, content.metadata);
      await mkdir(this.folder, { recursive: true });
      if (!Object.values(content.tensors).some((part) => "write" in part)) await mkdir(draft);
      await this.recover();
      const last = (await this.scan()).at(-1)?.savedAt ?? 0;
      await this.requireSpace(trainer.length + listBytes(content.tensors, content.metadata));
      // Later than the last one, even when the clock went back.
      const savedAt = Math.max(Date.now(), last + 1);
      // A diverged run has no score; NaN would be null in the file.
      const manifest: Manifest = {
        version: 1,
        step,
        savedAt,
        score: Number.isFinite(score) ? score : undefined,
        files: {},
      };
      for (const [key, part] of Object.entries(content.tensors)) {
        if ("write" in part) {
          Object.assign(manifest.files, await filesOf(join(draft, key), key));
          continue;
        }
        const name = `${key}.safetensors`;
        manifest.files[name] = await writeSafetensors(join(draft, name), part, content.metadata);
      }
      await writeSynced(join(draft, "trainer.json"), trainer);
      manifest.files["trainer.json"] = { bytes: trainer.length, crc32: crc32(trainer) };
      await writeSynced(join(draft, manifestName), Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
      await syncFolder(draft);
      await this.putInPlace(draft, target, step);
    } catch (error) {
      await rm(draft, { recursive: true, force: true }).catch(() => {});
      throw this.explain(error, target, needed || neededBytes(content.tensors, content.metadata));
    }
    await this.deleteOld();
    const files = Object.fromEntries(
      Object.entries(content.tensors).map(([key, part]) => [
        key,
        join(target, "write" in part ? key : `${key}.safetensors`),
      ]),
    );
    return { step, folder: target, trainer: content.trainer, score, files };
  }

  private async putInPlace(temporary: string, target: string, step: number): Promise<void> {
    // A folder cannot be replaced by a rename: the one there steps aside, and `recover` brings it back after a crash.
    const aside = existsSync(target) ? this.unfinished("old", step) : undefined;
    if (aside !== undefined) await rename(target, aside);
    await rename(temporary, target);
    await syncFolder(this.folder);
    if (aside !== undefined) await rm(aside, { recursive: true, force: true });
  }

  /** Deletes what is older than the last `keep` whole checkpoints and not among the best. */
  private async deleteOld(): Promise<void> {
    const found = (await this.scan()).reverse();
    const whole = found.filter(({ damage }) => damage === undefined);
    const kept = new Set([...whole.slice(0, this.keep), ...byScore(whole).slice(0, this.keepBest)]);
    // Damaged ones go as well, once enough newer ones are whole.
    if (whole.length < this.keep) return;
    const oldestRecent = found.indexOf(whole[this.keep - 1]!);
    for (const each of found.slice(oldestRecent + 1)) {
      if (kept.has(each)) continue;
      const { step } = each;
      // A crash during the deletion must not leave half a checkpoint under a final name.
      const aside = this.unfinished("del", step);
      try {
        await rename(each.folder, aside);
      } catch (error) {
        // Another process that saves here was faster.
        if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
        throw error;
      }
      await rm(aside, { recursive: true, force: true });
    }
  }

  /**
   * Removes what dead processes left, and brings back a checkpoint that was moved aside and never replaced. Of a process of another host or
   * namespace nobody here knows whether it lives: what it left is removed when nothing was written to it for a day.
   */
  private async recover(): Promise<void> {
    for (const name of await this.names()) {
      const [, kind, target, host, pid, start] = unfinishedName.exec(name) ?? [];
      if (kind === undefined || target === undefined) continue;
      const path = join(this.folder, name);
      if (host !== undefined && host !== processPlace()) {
        if (Date.now() - (await lastWrite(path)) < forgottenAfter) continue;
      } else if (isAlive(Number(pid)) && (processStart(Number(pid)) ?? "0") === start) continue;
      const final = join(this.folder, target);
      if (kind === "old" && !existsSync(final)) await rename(path, final);
      else await rm(path, { recursive: true, force: true });
    }
  }

  private async requireSpace(needed: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.folder);
    if (bavail * bsize < needed) throw noSpace(bavail * bsize);
  }

  private explain(error: unknown, target: string, needed: number): unknown {
    const { code, message } = error as NodeJS.ErrnoException;
    // What another process writes fails with its system's words only.
    const full = /No space left on device|Disk quota exceeded|File too large/.test(message);
    if (full || code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG") {
      return new CheckpointError(
        `The checkpoint ${target} needs ${needed} bytes and the disk is full (${message}). Earlier checkpoints are intact.`,
        "Free some space, keep fewer checkpoints (`keep`), or save to another disk.",
        { cause: error },
      );
    }
    // Only errors of the system have a code; ours name what was wrong already.
    if (code === undefined) return error;
    return new CheckpointError(`The checkpoint ${target} cannot be saved: ${message}`, undefined, {
      cause: error,
    });
  }

  private unfinished(kind: "tmp" | "old" | "del", step: number): string {
    const owner = `${processPlace()}-${process.pid}.${processStart(process.pid) ?? "0"}`;
    return join(this.folder, `.${kind}-${stepName(step)}-${owner}-${randomBytes(8).toString("hex")}`);
  }
}

/** Those with a score, the best first; of equal ones the later. */
function byScore(found: readonly Found[]): Found[] {
  return found
    .filter(({ score, damage }) => score !== undefined && damage === undefined)
    .sort((a, b) => a.score! - b.score! || b.savedAt - a.savedAt);
}

/** The tensors of safetensors files, to be read one by one: what `save` takes. */
export function tensorsOf(file: SafetensorsFile | TensorFiles): NamedTensor[] {
  return [...file.tensors.values()].map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape,
    bytes: () => file.read(name),
  }));
}

function noSpace(free: number): Error {
  return Object.assign(new Error(`${free} bytes are free`), { code: "ENOSPC" });
}

/** Bytes of the lists of tensors as files. */
function listBytes(
  tensors: CheckpointContent["tensors"],
  metadata?: Readonly<Record<string, string>>,
): number {
  return Object.values(tensors).reduce(
    (sum, part) => sum + ("write" in part ? 0 : layOut(part, metadata).fileSize),
    0,
  );
}

function neededBytes(
  tensors: CheckpointContent["tensors"],
  metadata?: Readonly<Record<string, string>>,
): number {
  const folders = Object.values(tensors).reduce((sum, part) => sum + ("write" in part ? part.bytes : 0), 0);
  return folders + listBytes(tensors, metadata);
}

/** What is in a folder that another process wrote, for the manifest. */
async function filesOf(folder: string, key: string): Promise<Record<string, WrittenFile>> {
  const files: Record<string, WrittenFile> = {};
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    files[`${key}/${name}`] = { bytes: (await stat(path)).size, crc32: await fileChecksum(path) };
  }
  await syncFolder(folder);
  return files;
}

function stepName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

/** When something in a folder was written last, in milliseconds since the epoch. */
async function lastWrite(folder: string): Promise<number> {
  const times = [
    folder,
    ...(await readdir(folder, { recursive: true }).catch(() => [])).map((name) => join(folder, name)),
  ].map((path) =>
    lstat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    ),
  );
  return Math.max(...(await Promise.all(times)));
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
