/** How long to leave the page alone after a draw, as a multiple of what the draw took. */
const REST = 1.5;

/**
 * Draws one chart at a time, each in an animation frame of its own, and leaves the page most of the time between them.
 * A draw of plotly's costs about 16 ms whatever it shows: eight charts at ten batches a second would take all of it, and
 * on a slow machine more than there is. Charts that ask again while they wait are drawn once, with the newest rows.
 */
export class FrameQueue {
  /** Asks for `draw` to be called in a frame to come; asking again before that changes nothing. */
  request(draw: () => Promise<void>): void {
    this.#waiting.add(draw);
    this.#schedule(0);
  }

  cancel(draw: () => Promise<void>): void {
    this.#waiting.delete(draw);
  }

  #schedule(rest: number): void {
    if (!this.#isScheduled && this.#waiting.size > 0) {
      this.#isScheduled = true;
      setTimeout(() => requestAnimationFrame(() => void this.#next()), rest);
    }
  }

  async #next(): Promise<void> {
    const [draw] = this.#waiting;
    let spent = 0;
    if (draw) {
      this.#waiting.delete(draw);
      const start = performance.now();
      try {
        await draw();
      } catch (error) {
        console.error(error);
      }
      spent = performance.now() - start;
    }
    this.#isScheduled = false;
    this.#schedule(REST * spent);
  }

  readonly #waiting = new Set<() => Promise<void>>();
  #isScheduled = false;
}
