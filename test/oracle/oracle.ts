/** The client of oracle.py: jax's answers to compare with. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { Packr, unpack } from "msgpackr";
import { afterAll, expect } from "vitest";
import { compiledModules } from "../support/runtime.js";
import type { HostArray } from "./arrays.js";

const here = dirname(fileURLToPath(import.meta.url));
const python = process.env.ARONNAX_PYTHON ?? join(here, "..", "..", ".venv", "bin", "python");
const packr = new Packr({ useRecords: false });

/** A Python expression over named arrays, with `jax`, `jnp`, `lax`, `nn`, `np` and `jsp` in scope. */
export interface Expression {
  readonly code: string;
  readonly inputs: Readonly<Record<string, HostArray>>;
}

export type Answer = { readonly values: readonly HostArray[] } | { readonly error: string };

class Oracle {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: ((reply: { result?: unknown; error?: string }) => void)[] = [];
  #received = Buffer.alloc(0);

  constructor() {
    this.#process = spawn(python, [join(here, "oracle.py")], { stdio: ["pipe", "pipe", "inherit"] });
    this.#process.stdout.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#process.on("exit", (code) => {
      for (const done of this.#waiting.splice(0)) done({ error: `the oracle ended with ${code}` });
    });
  }

  #receive(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    while (this.#received.length >= 4) {
      const end = 4 + this.#received.readUInt32LE(0);
      if (this.#received.length < end) return;
      const reply = unpack(this.#received.subarray(4, end)) as { result?: unknown; error?: string };
      this.#received = this.#received.subarray(end);
      this.#waiting.shift()?.(reply);
    }
  }

  async request(body: object): Promise<unknown> {
    const packed = packr.pack(body);
    const header = Buffer.alloc(4);
    header.writeUInt32LE(packed.length);
    this.#process.stdin.write(Buffer.concat([header, packed]));
    const reply = await new Promise<{ result?: unknown; error?: string }>((done) => this.#waiting.push(done));
    if (reply.error !== undefined) throw new Error(reply.error);
    return reply.result;
  }

  end(): void {
    this.#process.stdin.end();
  }
}

let oracle: Oracle | undefined;

function shared(): Oracle {
  oracle ??= new Oracle();
  return oracle;
}

export interface AskOptions {
  /** Whether jax computes with 64-bit types. */
  x64?: boolean;
  /** Whether the expressions are compiled as one program (default), or run one by one. */
  jit?: boolean;
}

export async function ask(
  expressions: readonly Expression[],
  { x64 = false, jit = true }: AskOptions = {},
): Promise<Answer[]> {
  return (await shared().request({ operation: "evaluate", expressions, x64, jit })) as Answer[];
}

/** The values of one expression; its error is thrown. */
export async function askOne(
  code: string,
  inputs: Readonly<Record<string, HostArray>> = {},
  options: AskOptions = {},
): Promise<readonly HostArray[]> {
  const [answer] = await ask([{ code, inputs }], options);
  if (answer === undefined || "error" in answer) throw new Error(`${code}: ${answer?.error}`);
  return answer.values;
}

/** What jaxlib's MLIR finds wrong with each module. */
export async function verifyModules(modules: readonly string[]): Promise<(string | null)[]> {
  return (await shared().request({ operation: "verify", modules })) as (string | null)[];
}

/** Registers the check that every module this file compiled parses and verifies, and ends the oracle after it. */
export function verifyAtEnd(): void {
  afterAll(async () => {
    const texts = [...compiledModules];
    const found = texts.length === 0 ? [] : await verifyModules(texts);
    oracle?.end();
    oracle = undefined;
    expect(found.filter((problem) => problem !== null)).toEqual([]);
  });
}
