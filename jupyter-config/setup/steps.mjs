// The lines that the user sees: one a step, with how far it is and how long it took.
import { appendFileSync } from "node:fs";

/** @param {number} milliseconds */
export function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

const TITLE_WIDTH = 22;
const DETAIL_WIDTH = 44;
const QUIET_MS = 10_000;

/** One step while it runs. On a terminal its line is rewritten; elsewhere it appears every ten seconds, and at the end. */
export class Step {
  #started = performance.now();
  #shown = this.#started;
  #heading;

  /**
   * @param {string} place such as "[2/5]"
   * @param {string} title
   * @param {string} detail
   */
  constructor(place, title, detail) {
    this.title = title;
    this.#heading = `${place} ${title.padEnd(TITLE_WIDTH)}`;
    this.#draw(detail);
  }

  /** @param {string} detail how far the step is */
  progress(detail) {
    if (process.stdout.isTTY) this.#draw(detail);
    else if (performance.now() - this.#shown > QUIET_MS) {
      this.#shown = performance.now();
      process.stdout.write(`${this.#heading} ${detail}\n`);
    }
  }

  /** @param {string} detail what is there now */
  done(detail) {
    const end = process.stdout.isTTY ? "\r\x1b[K" : "";
    const time = seconds(performance.now() - this.#started);
    process.stdout.write(`${end}${this.#heading} ${detail.padEnd(DETAIL_WIDTH)} ${time.padStart(8)}\n`);
  }

  /** Leaves the line as it is and goes to the next, for the error that follows. */
  failed() {
    if (process.stdout.isTTY) process.stdout.write("\n");
  }

  /** @param {string} detail */
  #draw(detail) {
    if (!process.stdout.isTTY) return;
    const room = Math.max(20, (process.stdout.columns || 80) - 1);
    process.stdout.write(`\r\x1b[K${`${this.#heading} ${detail}`.slice(0, room)}`);
  }
}

/** The file that keeps everything that npm, pip and the build print. */
export class Log {
  /** @param {string} path */
  constructor(path) {
    this.path = path;
  }

  /** @param {string | Uint8Array} text */
  write(text) {
    appendFileSync(this.path, text);
  }
}
