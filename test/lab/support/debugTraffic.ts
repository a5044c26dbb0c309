import { setTimeout as wait } from "node:timers/promises";
import type { Page } from "playwright-core";

const POLL_MS = 50;
/** Longer than JupyterLab pauses between two requests of one exchange. */
const QUIET_MS = 750;

/** The debug requests of a tab and their replies, as they pass on the kernel's WebSocket. */
export class DebugTraffic {
  private requests = 0;
  private replies = 0;
  private lastAt = 0;

  /** @param page - a tab in which no notebook is open yet. */
  constructor(page: Page) {
    page.on("websocket", (socket) => {
      socket.on("framesent", ({ payload }) => {
        if (payload.includes('"debug_request"')) {
          this.requests += 1;
          this.lastAt = Date.now();
        }
      });
      socket.on("framereceived", ({ payload }) => {
        if (payload.includes('"debug_reply"')) {
          this.replies += 1;
          this.lastAt = Date.now();
        }
      });
      // What was asked on it is not answered any more.
      socket.on("close", () => {
        this.replies = this.requests;
      });
    });
  }

  /**
   * Waits until each request so far is answered and no other follows. JupyterLab asks the kernel about its debugger several times over
   * when a notebook opens, and meanwhile loses clicks on what it already shows.
   */
  async isQuiet(): Promise<void> {
    while (this.requests === 0 || this.replies < this.requests || Date.now() - this.lastAt < QUIET_MS) {
      await wait(POLL_MS);
    }
  }
}
