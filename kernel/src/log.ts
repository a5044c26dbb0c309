import { writeSync } from "node:fs";

/**
 * A line in the log of the Jupyter server. It is written straight to the descriptor: a worker's `process.stderr` passes
 * through the main thread, which a cell may keep busy, and would end up in the notebook.
 */
export function log(text: string): void {
  try {
    writeSync(2, `aronnax kernel: ${text}\n`);
  } catch {
    // Nobody reads the log any more.
  }
}
