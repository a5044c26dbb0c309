import { constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { StringDecoder } from "node:string_decoder";
import { fenceOf } from "../link.js";
import { log } from "../log.js";

type Name = "stdout" | "stderr";

/** How long a fence may take to come out of a pipe, in ms; what waits for it then goes on. */
const PATIENCE = 5_000;

/** Reads the pipes that stand for descriptors 1 and 2 of the child processes of cells (engine/child-output.ts). */
export class ChildOutputReader {
  readonly #passed = new Map<string, number>();
  #changed: (() => void) | undefined;

  /** @param show - called with what a child of a run wrote. */
  constructor(private readonly show: (run: number, name: Name, text: string) => void) {}

  open(run: number, paths: Record<Name, string>): void {
    for (const name of ["stdout", "stderr"] as const) {
      try {
        this.#read(run, name, openSync(paths[name], constants.O_RDONLY | constants.O_NONBLOCK));
      } catch (error) {
        log(`the output of child processes cannot be read: ${error}`);
      }
    }
  }

  #read(run: number, name: Name, fd: number): void {
    const decoder = new StringDecoder("utf8");
    let rest = Buffer.alloc(0);
    const socket = new Socket({ fd, readable: true, writable: false });
    // What the main thread said before the child started is dealt with first.
    socket.on("data", (chunk: Buffer) =>
      setImmediate(() => {
        rest = this.#take(run, name, Buffer.concat([rest, chunk]), decoder);
      }),
    );
    socket.on("error", (error) => log(`the output of child processes cannot be read: ${error.message}`));
    socket.unref();
  }

  /** Shows what stands before, between and behind fences; returns what may be the beginning of one. */
  #take(run: number, name: Name, bytes: Buffer, decoder: StringDecoder): Buffer<ArrayBuffer> {
    let left = bytes;
    for (;;) {
      const at = left.indexOf(MARK);
      if (at < 0) break;
      const end = left.indexOf(0, at + MARK.length);
      this.#show(run, name, left.subarray(0, at), decoder);
      left = left.subarray(at);
      if (end < 0) return Buffer.from(left);
      this.#passed.set(`${run} ${name}`, Number(left.toString("latin1", MARK.length, end - at)));
      this.#changed?.();
      left = left.subarray(end - at + 1);
    }
    const cut = left.lastIndexOf(0);
    const isBegun = cut >= 0 && MARK.subarray(0, left.length - cut).equals(left.subarray(cut));
    this.#show(run, name, isBegun ? left.subarray(0, cut) : left, decoder);
    return Buffer.from(isBegun ? left.subarray(cut) : []);
  }

  #show(run: number, name: Name, bytes: Buffer, decoder: StringDecoder): void {
    const text = decoder.write(bytes);
    if (text !== "") this.show(run, name, text);
  }

  /** Resolves when a fence has come out of both pipes of a run. */
  async passed(run: number, number: number): Promise<void> {
    const end = performance.now() + PATIENCE;
    const isPassed = () =>
      (["stdout", "stderr"] as const).every((name) => (this.#passed.get(`${run} ${name}`) ?? 0) >= number);
    while (!isPassed() && performance.now() < end) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
        setTimeout(resolve, 100);
      });
    }
  }
}

/** How a fence begins: up to its number. */
const MARK = Buffer.from(fenceOf(0).slice(0, -2), "latin1");
