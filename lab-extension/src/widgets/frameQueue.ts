/** Of each frame's 16 ms, how many are spent on drawing: what is left is the page's, which scrolls and answers meanwhile. */
const BUDGET_MS = 7;

/**
 * Draws what asked for it in animation frames, in the order it was asked for, as many as there is time for in a frame; the others are
 * drawn in the frames after. Who asks again while he waits is drawn once, with the newest rows.
 */
export class FrameQueue {
  /** Asks for `draw` to be called in a frame to come; asking again before that changes nothing. */
  request(draw: () => void): void {
    this.#waiting.add(draw);
    if (this.#frame === 0) {
      this.#frame = requestAnimationFrame(this.#drawFrame);
    }
  }

  cancel(draw: () => void): void {
    this.#waiting.delete(draw);
  }

  readonly #drawFrame = (): void => {
    this.#frame = 0;
    const start = performance.now();
    for (const draw of [...this.#waiting]) {
      if (!this.#waiting.delete(draw)) {
        continue; // cancelled by one before
      }
      try {
        draw();
      } catch (error) {
        console.error(error);
      }
      if (performance.now() - start > BUDGET_MS) {
        break;
      }
    }
    if (this.#waiting.size > 0 && this.#frame === 0) {
      this.#frame = requestAnimationFrame(this.#drawFrame);
    }
  };

  readonly #waiting = new Set<() => void>();
  #frame = 0;
}
