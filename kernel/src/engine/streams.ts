import { Console } from "node:console";
import type { ToMessaging } from "../link.js";
import { native } from "./native-timers.js";
import { ownRun } from "./owner.js";

/** Writes go out at once up to a burst of this many, which refills at so many a second; beyond, they are joined. */
const BURST = 50;
const REFILL = 100;
/** Joined writes go out when they are this long, or this old (ms), or when the event loop turns. */
const CHUNK = 64 * 1024;
const AGE = 40;

type Name = "stdout" | "stderr";

/** Takes what cells write to stdout and stderr, joins small writes, and passes them on in order. */
export class OutputStreams {
  #parts: { name: Name; text: string; run: number | undefined }[] = [];
  #size = 0;
  #flushedAt = 0;
  #allowance = BURST;
  #scheduled = false;

  constructor(private readonly tell: (message: ToMessaging) => void) {}

  /** Replaces the writers of this process and the global console. */
  install(): void {
    for (const name of ["stdout", "stderr"] as const) {
      const stream = process[name];
      const decoder = new TextDecoder();
      stream.write = ((chunk: string | Uint8Array, encoding?: unknown, callback?: unknown) => {
        this.write(name, typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true }));
        const done = typeof encoding === "function" ? encoding : callback;
        if (typeof done === "function") process.nextTick(done as () => void);
        return true;
      }) as typeof stream.write;
    }
    // The global console also reports to the inspector, which keeps the last 1,000 arguments alive.
    const plain = new Console({ stdout: process.stdout, stderr: process.stderr, groupIndentation: 2 });
    for (const key of Object.keys(plain) as (keyof Console)[]) {
      if (typeof plain[key] === "function" && key !== "Console")
        Object.assign(console, { [key]: plain[key] });
    }
  }

  write(name: Name, text: string): void {
    if (text === "") return;
    const last = this.#parts.at(-1);
    const run = ownRun();
    if (last?.name === name && last.run === run) last.text += text;
    else this.#parts.push({ name, text, run });
    this.#size += text.length;
    const now = performance.now();
    const since = now - this.#flushedAt;
    this.#allowance = Math.min(BURST, this.#allowance + (since * REFILL) / 1_000);
    if (this.#allowance >= 1 || this.#size >= CHUNK || since > AGE) this.flush(now);
    else if (!this.#scheduled) {
      this.#scheduled = true;
      native.setTimeout(() => {
        this.#scheduled = false;
        this.flush();
      }, 5);
    }
  }

  flush(now = performance.now()): void {
    this.#flushedAt = now;
    const parts = this.#parts;
    this.#allowance = Math.max(0, this.#allowance - parts.length);
    this.#parts = [];
    this.#size = 0;
    for (const { name, text, run } of parts)
      this.tell({ type: "stream", name, text, ...(run === undefined ? {} : { run }) });
  }
}
