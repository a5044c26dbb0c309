import { constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { StringDecoder } from "node:string_decoder";
import { fenceOf } from "../link.js";
import { log } from "../log.js";

type Name = "stdout" | "stderr";

/** How long a fence may take to come out of a pipe, in ms; what waits for it then goes on. */
const PATIENCE = 5_000;

/** One of the pipes of a run. Behind a fence it is read no further until that is taken away. */
class Pipe {
  #bytes: Buffer = Buffer.alloc(0);
  readonly #decoder = new StringDecoder("utf8");
  /** The fence that it stands at, and the last that was taken away. */
  #at = 0;
  #away = 0;

  constructor(
    fd: number,
    private readonly show: (text: string) => void,
    private readonly stands: () => void,
  ) {
    const socket = new Socket({ fd, readable: true, writable: false });
    socket.on("data", (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#later();
    });
    socket.on("error", (error) => log(`the output of child processes cannot be read: ${error.message}`));
    socket.unref();
  }

  /** Whether all in front of a fence has been shown. */
  standsAt(fence: number): boolean {
    return this.#at >= fence;
  }

  takeAway(fence: number): void {
    this.#away = Math.max(this.#away, fence);
    this.#later();
  }

  /** What the main thread said before, such as before it started the child, is dealt with first. */
  #later(): void {
    setImmediate(() => this.#read());
  }

  #read(): void {
    while (this.#at <= this.#away) {
      const start = this.#bytes.indexOf(MARK);
      const end = start < 0 ? -1 : this.#bytes.indexOf(0, start + MARK.length);
      if (end < 0) {
        // What may be the beginning of a fence is left.
        const cut = start < 0 ? this.#bytes.lastIndexOf(0) : start;
        const isBegun =
          cut >= 0 &&
          MARK.subarray(0, this.#bytes.length - cut).equals(this.#bytes.subarray(cut, cut + MARK.length));
        this.#take(isBegun ? cut : this.#bytes.length);
        return;
      }
      const number = Number(this.#bytes.toString("latin1", start + MARK.length, end));
      this.#take(start);
      this.#bytes = this.#bytes.subarray(end - start + 1);
      this.#at = number;
      this.stands();
    }
  }

  #take(count: number): void {
    const text = this.#decoder.write(this.#bytes.subarray(0, count));
    this.#bytes = this.#bytes.subarray(count);
    if (text !== "") this.show(text);
  }
}

/** Reads the pipes that stand for descriptors 1 and 2 of the child processes of cells (engine/child-output.ts). */
export class ChildOutputReader {
  readonly #pipes = new Map<number, Pipe[]>();
  #changed: (() => void) | undefined;

  /** @param show - called with what a child of a run wrote. */
  constructor(private readonly show: (run: number, name: Name, text: string) => void) {}

  open(run: number, paths: Record<Name, string>): void {
    const pipes: Pipe[] = [];
    for (const name of ["stdout", "stderr"] as const) {
      try {
        const fd = openSync(paths[name], constants.O_RDONLY | constants.O_NONBLOCK);
        const show = (text: string) => this.show(run, name, text);
        pipes.push(new Pipe(fd, show, () => this.#changed?.()));
      } catch (error) {
        log(`the output of child processes cannot be read: ${error}`);
      }
    }
    this.#pipes.set(run, pipes);
  }

  /** Resolves when all in front of a fence has been shown. */
  async reached(run: number, fence: number): Promise<void> {
    const pipes = this.#pipes.get(run) ?? [];
    const end = performance.now() + PATIENCE;
    while (!pipes.every((pipe) => pipe.standsAt(fence)) && performance.now() < end) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
        setTimeout(resolve, 100);
      });
    }
  }

  takeAway(run: number, fence: number): void {
    for (const pipe of this.#pipes.get(run) ?? []) pipe.takeAway(fence);
  }
}

/** How a fence begins: up to its number. */
const MARK = Buffer.from(fenceOf(0).slice(0, -2), "latin1");
