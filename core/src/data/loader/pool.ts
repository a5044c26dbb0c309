/** Threads that decode items, and decoding in this thread behind the same face. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { batchInfoNames } from "../batch.js";
import { DataError } from "../errors.js";
import { Sfc32 } from "../random.js";
import type { Life } from "./ahead.js";
import { importName } from "./captured.js";
import {
  callDecode,
  type DecodeFailure,
  type DecodeReply,
  type DecodeTask,
  failureOf,
  ownSample,
  sampleProblem,
} from "./decoding.js";
import type { Decode, Sample } from "./types.js";
import { type DecodeRecipe, type WorkerReply, type WorkerRequest, workerProgram } from "./worker-program.js";

/** Decodes tasks in any order. */
export interface DecodePool {
  /** Tasks that keep it busy. */
  readonly width: number;
  /** Rejects only where no task can be decoded at all, and where nobody wants it any more. */
  decode(task: DecodeTask, life: Life): Promise<DecodeReply>;
  close(): void;
}

/** Decodes in this thread: some at a time, since decoding may wait for files, each begun in a turn of the event loop of its own. */
export function localPool(decode: Decode<unknown, Sample>, context: unknown, seed: number): DecodePool {
  const closing = new AbortController();
  const setup = { decode, context, seed, signal: closing.signal, Random: Sfc32 };
  let turn: Promise<unknown> = Promise.resolve();
  return {
    width: 1,
    async decode(task, life) {
      turn = turn.then(() => nextTurn());
      await turn;
      if (life.closed || closing.signal.aborted) throw closedError();
      try {
        const sample = await callDecode(setup, task);
        const problem = sampleProblem(sample, batchInfoNames);
        if (problem !== undefined) return { failure: { name: "DataError", ...problem } };
        return { sample: ownSample(sample, []) };
      } catch (error) {
        return { failure: failureOf(error) };
      }
    },
    close: () => closing.abort(),
  };
}

/** Tasks that a worker has at a time: the next one is there when it is done with one. */
const depth = 2;

function closedError(): DataError {
  return new DataError("The loader is closed.");
}

interface Assignment {
  readonly task: DecodeTask;
  readonly life: Life;
  readonly resolve: (reply: DecodeReply) => void;
  readonly reject: (error: Error) => void;
}

interface Member {
  readonly worker: Worker;
  readonly assigned: Assignment[];
  ready: boolean;
  /** What its thread threw outside of a decoding. */
  error?: Error & { code?: string };
}

export interface PoolOptions {
  readonly recipe: DecodeRecipe;
  readonly context: unknown;
  readonly seed: number;
  readonly workers: number;
  readonly workerMemory?: number;
}

/** Threads that are started as they are needed; one that ends is named with its item and replaced. */
export class WorkerPool implements DecodePool {
  readonly width: number;
  private readonly members = new Set<Member>();
  private readonly waiting: Assignment[] = [];
  private closed = false;
  private unusable: Error | undefined;

  constructor(private readonly options: PoolOptions) {
    this.width = options.workers * depth;
  }

  decode(task: DecodeTask, life: Life): Promise<DecodeReply> {
    return new Promise((resolve, reject) => {
      if (this.unusable !== undefined || this.closed) {
        reject(this.unusable ?? closedError());
        return;
      }
      this.waiting.push({ task, life, resolve, reject });
      this.assign();
    });
  }

  close(): void {
    this.closed = true;
    for (const member of [...this.members]) this.end(member);
    for (const { reject } of this.waiting.splice(0)) reject(closedError());
  }

  private end(member: Member): void {
    const { worker, assigned } = member;
    this.members.delete(member);
    worker.postMessage("close");
    // A moment for what hears of `signal`.
    setTimeout(() => void worker.terminate(), 20).unref();
    for (const { reject } of assigned.splice(0)) reject(closedError());
  }

  private assign(): void {
    while (this.waiting.length > 0) {
      if (this.waiting[0]!.life.closed) {
        this.waiting.shift()!.reject(closedError());
        continue;
      }
      let idlest: Member | undefined;
      for (const member of this.members)
        if (idlest === undefined || member.assigned.length < idlest.assigned.length) idlest = member;
      if (idlest === undefined || idlest.assigned.length > 0) {
        if (this.members.size < this.options.workers) idlest = this.start();
        else if (idlest!.assigned.length >= depth) return;
      }
      const next = this.waiting.shift()!;
      try {
        idlest!.worker.postMessage(next.task);
        idlest!.assigned.push(next);
      } catch (error) {
        // The item cannot be copied to another thread.
        next.resolve({ failure: failureOf(error) });
      }
    }
  }

  private start(): Member {
    const { recipe, context, seed, workerMemory } = this.options;
    const request: WorkerRequest = { recipe, context, seed, reserved: batchInfoNames, importName };
    let worker: Worker;
    try {
      worker = new Worker(workerProgram(), {
        eval: true,
        name: "aronnax-loader",
        workerData: request,
        ...(workerMemory !== undefined && { resourceLimits: { maxOldGenerationSizeMb: workerMemory } }),
      });
    } catch (error) {
      throw new DataError(
        `context cannot be copied to a worker thread: ${(error as Error).message}`,
        "give values that structuredClone copies; load modules inside `decode`",
        { cause: error },
      );
    }
    const member: Member = { worker, assigned: [], ready: false };
    this.members.add(member);
    worker.on("message", (reply: WorkerReply) => this.receive(member, reply));
    worker.on("error", (error: Error) => {
      member.error = error;
    });
    worker.on("exit", (code) => this.exited(member, code));
    // Work ahead does not keep the process alive; who waits for it does.
    worker.unref();
    return member;
  }

  private receive(member: Member, reply: WorkerReply): void {
    if ("ready" in reply) member.ready = true;
    else if ("unusable" in reply) this.fail(loadError(this.options.recipe, reply.unusable));
    else {
      member.assigned.shift()?.resolve(reply);
      this.assign();
    }
  }

  private exited(member: Member, code: number): void {
    if (!this.members.delete(member)) return;
    const memory = member.error?.code === "ERR_WORKER_OUT_OF_MEMORY";
    const why = memory ? "it had no memory left" : (member.error?.message ?? `exit code ${code}`);
    const [blamed, ...others] = member.assigned.splice(0);
    if (!member.ready) {
      this.fail(loadError(this.options.recipe, { name: "Error", message: `its thread ended: ${why}` }), [
        ...(blamed === undefined ? [] : [blamed]),
        ...others,
      ]);
      return;
    }
    this.waiting.unshift(...others);
    const fix = memory
      ? "give the workers more with `workerMemory` (MiB), or take fewer of them"
      : "look for process.exit() and for errors thrown in callbacks, in `decode` and what it calls";
    blamed?.resolve({ failure: { name: "DataError", message: `the worker thread ended (${why})`, fix } });
    this.assign();
  }

  /** For good: every worker would fail in the same way. */
  private fail(error: Error, more: readonly Assignment[] = []): void {
    this.unusable ??= error;
    const lost = [...more, ...this.waiting.splice(0)];
    for (const member of [...this.members]) {
      lost.push(...member.assigned.splice(0));
      this.end(member);
    }
    for (const { reject } of lost) reject(this.unusable);
  }
}

function loadError(recipe: DecodeRecipe, { message, fix }: DecodeFailure): DataError {
  const what = recipe.kind === "module" ? `${recipe.name} of ${recipe.url}` : "decode";
  return new DataError(`${what} cannot be loaded in a worker thread: ${message}`, fix);
}
