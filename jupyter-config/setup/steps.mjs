// The lines that the user sees: one a step, with how far it is and how long it took.
import { appendFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";

/** @param {number} milliseconds */
export function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

const TITLE_WIDTH = 22;
const DETAIL_WIDTH = 44;
const QUIET_MS = 10_000;
const TICK_MS = 1_000;

/**
 * Why a step takes longer than it usually does.
 * @param {{ waited: number, usual: number, silent: number, from: string, load?: number, cores?: number }} step `waited` and
 *   `usual` in seconds, `silent` since its last sign of progress, `from` what it gets its work from
 */
export function reasonForWaiting({
  waited,
  usual,
  silent,
  from,
  load = loadavg()[0] ?? 0,
  cores = availableParallelism(),
}) {
  // The step itself keeps one processor busy.
  if (waited > usual && load > cores + 1)
    return `the machine is busy: about ${Math.round(load)} processes want its ${cores} processors`;
  return silent >= 10 ? `waiting for ${from}, silent for ${Math.round(silent)} s` : "";
}

/** One step while it runs. On a terminal its line is rewritten; elsewhere it appears every ten seconds, and at the end. */
export class Step {
  #started = performance.now();
  #shown = this.#started;
  #heard = this.#started;
  #heading;
  #detail;
  #usual;
  #from;
  #timer;

  /**
   * @param {string} place such as "[2/5]"
   * @param {string} title
   * @param {string} detail
   * @param {{ usual?: number, from?: string }} [expected] seconds on an idle machine, and what it waits for
   */
  constructor(place, title, detail, { usual = 0, from = "its command" } = {}) {
    this.title = title;
    this.#heading = `${place} ${title.padEnd(TITLE_WIDTH)}`;
    this.#detail = detail;
    this.#usual = usual;
    this.#from = from;
    this.#show();
    this.#timer = setInterval(() => this.#show(), TICK_MS);
    this.#timer.unref();
  }

  /** @param {string} detail how far the step is */
  progress(detail) {
    if (detail !== this.#detail) this.#heard = performance.now();
    this.#detail = detail;
    this.#show();
  }

  #show() {
    const now = performance.now();
    if (!process.stdout.isTTY && now - this.#shown < QUIET_MS) return;
    this.#shown = now;
    const line = this.#line(now);
    if (process.stdout.isTTY) this.#draw(line);
    else process.stdout.write(`${this.#heading} ${line}\n`);
  }

  /** @param {number} now */
  #line(now) {
    const waited = (now - this.#started) / 1000;
    if (waited < 5) return this.#detail;
    const usual = this.#usual > 0 ? `, usually ${this.#usual} s` : "";
    const silent = (now - this.#heard) / 1000;
    const why = reasonForWaiting({ waited, usual: this.#usual, silent, from: this.#from });
    return `${this.#detail || "at work"} (${Math.round(waited)} s${usual}${why && `; ${why}`})`;
  }

  /** @param {string} detail what is there now */
  done(detail) {
    clearInterval(this.#timer);
    const end = process.stdout.isTTY ? "\r\x1b[K" : "";
    const time = seconds(performance.now() - this.#started);
    process.stdout.write(`${end}${this.#heading} ${detail.padEnd(DETAIL_WIDTH)} ${time.padStart(8)}\n`);
  }

  /** Leaves the line as it is and goes to the next, for the error that follows. */
  failed() {
    clearInterval(this.#timer);
    if (process.stdout.isTTY) process.stdout.write("\n");
  }

  /** @param {string} detail */
  #draw(detail) {
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
