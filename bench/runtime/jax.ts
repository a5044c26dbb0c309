/** jax in a process of its own, which takes turns with the runtime: bench/runtime/jax_figures.py. */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { createInterface, type Interface } from "node:readline";
import { pythonCommand } from "../../core/dist/runtime/locate.js";

export class Jax {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  /** `environment` is added to that of this process. */
  constructor(environment: Record<string, string>) {
    this.#child = spawn(pythonCommand(), [path.resolve("bench/runtime/jax_figures.py")], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, ...environment },
    });
    this.#reader = createInterface({ input: this.#child.stdout! });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** One request, carried out after those before it. */
  async ask<Answer>(what: string, fields: object = {}): Promise<Answer> {
    this.#child.stdin!.write(`${JSON.stringify({ do: what, ...fields })}\n`);
    const line = await this.#lines.next();
    if (line.done) throw new Error("jax's process ended");
    const answer = JSON.parse(line.value) as Answer & { error?: string };
    if (answer.error !== undefined) throw new Error(`jax: ${answer.error}`);
    return answer;
  }

  close(): void {
    this.#reader.close();
    this.#child.kill("SIGKILL");
  }
}
