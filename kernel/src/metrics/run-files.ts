import { constants } from "node:fs";
import { open, readdir, readFile, realpath, stat } from "node:fs/promises";
import { isAbsolute, join, resolve, sep } from "node:path";
import type { Json } from "../protocol/wire.js";
import { isStale } from "./stale.js";

/** The most that one answer carries. */
const CHUNK = 1 << 20;
/** Requests of one client that wait; more are refused. */
const WAITING = 64;

/** Runs in one answer, and what a `run.json` may have to be among them. */
const PAGE = 200;
const MOST_STATE = 1 << 20;

export type Answer = (content: Json, buffers: Uint8Array[]) => void;

/**
 * The runs below the kernel's folder, and ranges of the files of runs, for front ends whose server does not serve those folders. Files outside of them
 * are refused, whatever names or links lead there. The requests of a client are answered one after another.
 */
export class RunFiles {
  readonly #clients = new Map<string, { waiting: number; last: Promise<void> }>();
  /** Folders of runs that were listed, by run id. */
  readonly #listed = new Map<string, string>();

  /** @param folderOf - the folder of a run, undefined for one that the kernel does not know. */
  constructor(private readonly folderOf: (run: string) => string | undefined) {}

  forget(client: string): void {
    this.#clients.delete(client);
  }

  /** Answers `{ request, run, file, offset, length }`: `bytes` with the range, or `refused` with the reason. */
  read(client: string, { request, run, file, offset, length }: Json, answer: Answer): void {
    this.#inTurn(client, { request, run, file }, answer, async () => {
      const { size, bytes } = await this.#range(run, file, offset, length);
      answer({ type: "bytes", request, run, file, offset, length: bytes.length, size }, [bytes]);
    });
  }

  /**
   * Answers `{ request, root, from }` with the runs in a folder below the kernel's, by what their `run.json` say: also those
   * of earlier kernels and other processes, whose files can be read from then on.
   */
  list(client: string, { request, root = "runs", from = 0 }: Json, answer: Answer): void {
    this.#inTurn(client, { request, root }, answer, async () => {
      if (!isInside(root) || !isCount(from))
        throw new Error(`${JSON.stringify(root)} is no folder below the kernel's`);
      const place = resolve(root);
      const names = (await readdir(place).catch(() => [] as string[])).sort();
      const runs: Json[] = [];
      let next = from;
      for (; next < names.length && runs.length < PAGE; next += 1) {
        const folder = join(place, names[next]!);
        const state = await readState(join(folder, "run.json"));
        if (!state) continue;
        this.#listed.set(String(state.id), folder);
        const stale = state.status === "running" ? isStale(state) : undefined;
        runs.push({ ...state, folder, ...(stale !== undefined && { stale }) });
      }
      answer({ type: "runs", request, root, runs, next: next < names.length ? next : null }, []);
    });
  }

  /** After what the client asked for before; what fails is refused. */
  #inTurn(client: string, about: Json, answer: Answer, work: () => Promise<void>): void {
    const refuse = (reason: string) => answer({ type: "refused", ...about, reason }, []);
    const queue = this.#clients.get(client) ?? { waiting: 0, last: Promise.resolve() };
    this.#clients.set(client, queue);
    if (queue.waiting >= WAITING) {
      refuse(`${WAITING} requests wait already`);
      return;
    }
    queue.waiting += 1;
    queue.last = queue.last
      .then(work)
      .catch((error: unknown) => refuse(error instanceof Error ? error.message : String(error)))
      .finally(() => {
        queue.waiting -= 1;
      });
  }

  async #range(run: unknown, file: unknown, offset: unknown, length: unknown) {
    const folder = typeof run === "string" ? (this.folderOf(run) ?? this.#listed.get(run)) : undefined;
    if (folder === undefined) throw new Error(`there is no run ${JSON.stringify(run)} with a folder here`);
    if (!isInside(file)) throw new Error(`${JSON.stringify(file)} is no file of a run's folder`);
    if (!isCount(offset) || !isCount(length))
      throw new Error("offset and length must be whole numbers from 0");
    const root = await realpath(folder);
    const path = await realpath(join(root, file)).catch((error: NodeJS.ErrnoException) => {
      throw new Error(`${file} cannot be read: ${error.code}`);
    });
    if (!path.startsWith(root.endsWith(sep) ? root : root + sep)) {
      throw new Error(`${file} leads out of the run's folder`);
    }
    // A pipe must not hold the thread, and a link that takes the file's place meanwhile is not followed.
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
    const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const stat = await handle.stat();
      if (!stat.isFile()) throw new Error(`${file} is not a file`);
      const wanted = Math.max(0, Math.min(length, CHUNK, stat.size - offset));
      const { buffer, bytesRead } = await handle.read(new Uint8Array(wanted), 0, wanted, offset);
      return { size: stat.size, bytes: buffer.subarray(0, bytesRead) };
    } finally {
      await handle.close();
    }
  }
}

/** What a `run.json` says; undefined where there is none, or it is something else. */
async function readState(path: string): Promise<Json | undefined> {
  try {
    if ((await stat(path)).size > MOST_STATE) return undefined;
    const state: unknown = JSON.parse(await readFile(path, "utf8"));
    return typeof (state as Json | null)?.id === "string" ? (state as Json) : undefined;
  } catch {
    return undefined;
  }
}

/** Whether it is a name below a folder, by its text. */
function isInside(file: unknown): file is string {
  return (
    typeof file === "string" &&
    file !== "" &&
    !isAbsolute(file) &&
    !/[\0\\]/.test(file) &&
    file.split("/").every((part) => part !== "" && part !== "." && part !== "..")
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
