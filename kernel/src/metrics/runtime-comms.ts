import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { Json } from "../protocol/wire.js";

export const RUNTIME_TARGET = "aronnax.runtime";

/** How long the watcher goes on after the last comm closed, in ms: a page that is reloaded finds it. */
const LINGER = 30_000;
/** Between an end of the watcher and the next, in ms. */
const AGAIN = 5_000;
/** The most that an action may take, in ms: a runtime starts within two minutes. */
const PATIENCE = 180_000;
const LOG_LINES = "400";

/** What a front end may ask for, as arguments of `aronnax runtime`. */
const ACTIONS: Record<string, string[]> = {
  start: ["start"],
  stop: ["stop"],
  restart: ["restart"],
  recover: ["recover"],
  logs: ["logs", "-n", LOG_LINES],
};

type Send = (commId: string, data: Json, buffers: Uint8Array[]) => void;

/**
 * The state of the runtime process, and its start and stop, for panels (docs/contracts.md §2). It is asked by processes of the framework's own
 * command, from the messaging thread: a cell that keeps the main thread busy, or that never used the framework, changes nothing.
 */
export class RuntimeComms {
  readonly #open = new Set<string>();
  #state: Json | undefined;
  #watcher: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #problem: string | undefined;

  /** @param telemetry - takes the samples that the watcher brings. */
  constructor(
    private readonly send: Send,
    private readonly telemetry: (event: unknown) => void,
    /** The framework's command; undefined where there is no framework. */
    private readonly command = findCommand(),
  ) {}

  open(commId: string): void {
    this.#open.add(commId);
    this.#tell(commId);
    clearTimeout(this.#timer);
    if (this.command !== undefined) this.#watch();
  }

  message(commId: string, { type, request, action }: Json): void {
    if (type !== "do" || !this.#open.has(commId)) return;
    const args = Object.hasOwn(ACTIONS, String(action)) ? ACTIONS[String(action)] : undefined;
    const answer = (ok: boolean, text: string) => {
      if (this.#open.has(commId))
        this.send(commId, { version: 1, type: "done", request, action, ok, text }, []);
    };
    if (!args) answer(false, `there is no action ${JSON.stringify(action)}`);
    else if (this.command === undefined) answer(false, MISSING);
    else {
      const options = { timeout: PATIENCE, maxBuffer: 4 << 20 };
      execFile(process.execPath, [this.command, "runtime", ...args], options, (error, stdout, stderr) => {
        const text = [stdout, stderr].map((part) => part.trim()).filter((part) => part !== "");
        answer(error === null, text.join("\n") || (error?.message ?? ""));
      });
    }
  }

  close(commId: string): void {
    this.#open.delete(commId);
    if (this.#open.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end(), LINGER).unref();
  }

  /** Ends the watcher. */
  end(): void {
    clearTimeout(this.#timer);
    this.#watcher?.kill();
    this.#watcher = undefined;
    this.#state = undefined;
  }

  #watch(): void {
    if (this.#watcher) return;
    const watcher = spawn(process.execPath, [this.command!, "runtime", "watch"], {
      // Its input ends with this process, however that ends.
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#watcher = watcher;
    let complaint = "";
    watcher.stderr.on("data", (chunk: Buffer) => {
      complaint = `${complaint}${chunk}`.slice(-2_000);
    });
    createInterface({ input: watcher.stdout }).on("line", (line) => this.#hear(line));
    const ended = (why: string) => {
      if (this.#watcher !== watcher) return;
      this.#watcher = undefined;
      this.#state = undefined;
      this.#problem = complaint.trim() || why;
      for (const commId of this.#open) this.#tell(commId);
      this.#timer = setTimeout(() => {
        if (this.#open.size > 0) this.#watch();
      }, AGAIN).unref();
    };
    watcher.on("error", (error) => ended(error.message));
    watcher.on("exit", (code, signal) => ended(`the watcher of the runtime ended with ${code ?? signal}`));
    watcher.unref();
  }

  #hear(line: string): void {
    let message: Json;
    try {
      message = JSON.parse(line) as Json;
    } catch {
      return; // Something that was printed.
    }
    if (message.type === "telemetry") this.telemetry(message.event);
    if (message.type !== "state") return;
    this.#state = message;
    this.#problem = undefined;
    for (const commId of this.#open) this.#tell(commId);
  }

  #tell(commId: string): void {
    const problem = this.command === undefined ? MISSING : (this.#problem ?? null);
    const { time = null, state = null } = this.#state ?? {};
    this.send(commId, { version: 1, type: "state", time, state, problem }, []);
  }
}

const MISSING = "the package aronnax is not found from the notebook's folder";

/** `bin/aronnax.js` of the framework that cells import. */
function findCommand(): string | undefined {
  const places = [join(process.cwd(), "notebook.js"), import.meta.filename];
  for (const place of places) {
    try {
      const entry = createRequire(place).resolve("aronnax");
      const command = join(dirname(dirname(entry)), "bin", "aronnax.js");
      if (existsSync(command)) return command;
    } catch {
      // The next place.
    }
  }
  return undefined;
}
