import childProcess, { type ChildProcess } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fenceOf, type ToMessaging } from "../link.js";
import { ownRun } from "./owner.js";
import type { OutputStreams } from "./streams.js";

type Call = (...args: unknown[]) => unknown;

/** Pipes that take what the child processes of a run write to the descriptors that they inherit. */
interface Pipes {
  folder: string;
  stdout: number;
  stderr: number;
  /** Whether the messaging thread reads them. */
  isRead: boolean;
  isOver: boolean;
}

/**
 * Output of child processes that inherit descriptors 1 and 2. These are the log's; a child gets pipes in their place, which
 * the messaging thread reads, also while this one waits for the child.
 */
export class ChildOutput {
  readonly #pipes = new Map<number, Pipes>();
  #fences = 0;
  #run = 0;
  readonly #spawnSync = childProcess.spawnSync;

  constructor(
    private readonly streams: OutputStreams,
    private readonly tell: (message: ToMessaging) => void,
  ) {}

  install(): void {
    const { prototype } = childProcess.ChildProcess as unknown as { prototype: { spawn: Call } };
    const spawn = prototype.spawn;
    const { redirect, fence } = this;
    prototype.spawn = function (this: ChildProcess, options: unknown, ...rest: unknown[]) {
      const { given, run } = redirect(options);
      // What it wrote comes before what is printed once it has ended.
      if (run !== undefined) this.prependOnceListener("exit", () => fence(run));
      return spawn.call(this, given, ...rest);
    };
    for (const name of ["spawnSync", "execFileSync", "execSync"] as const) {
      const original = childProcess[name] as Call;
      const call = (...args: unknown[]) => {
        const at = args.findIndex((one) => typeof one === "object" && one !== null && !Array.isArray(one));
        if (at < 0) return original(...args);
        const { given, run } = redirect(args[at]);
        try {
          return original(...args.with(at, given));
        } finally {
          if (run !== undefined) fence(run);
        }
      };
      Object.assign(childProcess, { [name]: Object.defineProperty(call, "name", { value: name }) });
    }
    syncBuiltinESMExports();
  }

  /** A run starts. */
  begin(run: number): void {
    this.#run = run;
  }

  /** It ends: what its children have written by now is shown before. */
  end(run: number): void {
    const pipes = this.#pipes.get(run);
    if (!pipes) return;
    this.fence(run);
    pipes.isOver = true;
    this.#close(run, pipes);
  }

  /** The messaging thread has opened the pipes of a run. */
  opened(run: number): void {
    const pipes = this.#pipes.get(run);
    if (!pipes) return;
    pipes.isRead = true;
    this.#close(run, pipes);
  }

  /** Closes this end, so that the other ends with the last child. */
  #close(run: number, { isRead, isOver, folder, stdout, stderr }: Pipes): void {
    if (!isRead) return;
    rmSync(folder, { recursive: true, force: true });
    if (!isOver) return;
    this.#pipes.delete(run);
    closeSync(stdout);
    closeSync(stderr);
  }

  /** What is told from here on waits until all that is in the pipes now has been read. */
  readonly fence = (run: number): void => {
    const pipes = this.#pipes.get(run);
    if (!pipes) return;
    this.streams.flush();
    const number = ++this.#fences;
    for (const name of ["stdout", "stderr"] as const) writeSync(pipes[name], fenceOf(number));
    this.tell({ type: "fence", run, number });
  };

  /** Gives the options of a child pipes where it would inherit the log's descriptors. */
  readonly redirect = (options: unknown): { given: unknown; run?: number } => {
    const stdio = (options as { stdio?: unknown } | undefined)?.stdio;
    const list = stdio === "inherit" ? [stdio, stdio, stdio] : Array.isArray(stdio) ? stdio : [];
    const targets = list.map(targetOf);
    if (targets.every((one) => one === undefined)) return { given: options };
    const run = ownRun() ?? this.#run;
    const pipes = this.#pipes.get(run) ?? this.#open(run);
    if (!pipes) return { given: options };
    this.streams.flush();
    const given = list.map((one, index) => (targets[index] ? pipes[targets[index]] : one));
    return { given: { ...(options as object), stdio: given }, run };
  };

  #open(run: number): Pipes | undefined {
    const folder = mkdtempSync(join(tmpdir(), "aronnax-output-"));
    const paths = { stdout: join(folder, "stdout"), stderr: join(folder, "stderr") };
    const { status } = this.#spawnSync("mkfifo", ["-m", "600", paths.stdout, paths.stderr], {
      stdio: "ignore",
    });
    if (status !== 0) {
      rmSync(folder, { recursive: true, force: true });
      return undefined;
    }
    // Open for both, so that it need not wait for a reader; children write as to any pipe.
    const [stdout, stderr] = [
      openSync(paths.stdout, constants.O_RDWR),
      openSync(paths.stderr, constants.O_RDWR),
    ];
    const pipes = { folder, stdout, stderr, isRead: false, isOver: false };
    this.#pipes.set(run, pipes);
    this.tell({ type: "pipes", run, paths });
    return pipes;
  }
}

/** The stream that an entry of `stdio` makes a child share with this process. */
function targetOf(entry: unknown, index: number): "stdout" | "stderr" | undefined {
  const fd =
    entry === "inherit" ? index : typeof entry === "number" ? entry : (entry as { fd?: unknown } | null)?.fd;
  return fd === 1 ? "stdout" : fd === 2 ? "stderr" : undefined;
}
