/**
 * Draws one chart an animation frame. A draw of plotly's costs about 16 ms whatever it shows: eight charts in one frame
 * make a page of 12 frames a second, one a frame keeps it at 60.
 */
export class FrameQueue {
  /** Asks for `draw` to be called in a frame to come; asking again before that changes nothing. */
  request(draw: () => void): void {
    this.#waiting.add(draw);
    if (this.#frame === 0) {
      this.#frame = requestAnimationFrame(() => this.#next());
    }
  }

  cancel(draw: () => void): void {
    this.#waiting.delete(draw);
  }

  #next(): void {
    this.#frame = 0;
    const [draw] = this.#waiting;
    if (!draw) {
      return;
    }
    this.#waiting.delete(draw);
    if (this.#waiting.size > 0) {
      this.#frame = requestAnimationFrame(() => this.#next());
    }
    draw();
  }

  readonly #waiting = new Set<() => void>();
  #frame = 0;
}
