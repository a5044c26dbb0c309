import { once } from "node:events";
import type { ServerResponse } from "node:http";

/** Server-sent events. A client that reads slowly is waited for; one that is gone ends the waiting. */
export class EventStream {
  private begun = false;

  constructor(
    private readonly response: ServerResponse,
    private readonly signal: AbortSignal,
  ) {}

  async send(data: unknown, event?: string): Promise<void> {
    this.begin();
    const text = typeof data === "string" ? data : JSON.stringify(data);
    const whole = `${event === undefined ? "" : `event: ${event}\n`}data: ${text}\n\n`;
    if (this.signal.aborted) return;
    if (!this.response.write(whole))
      await once(this.response, "drain", { signal: this.signal }).catch(() => {});
  }

  get started(): boolean {
    return this.begun;
  }

  end(): void {
    this.response.end();
  }

  private begin(): void {
    if (this.begun) return;
    this.begun = true;
    this.response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      // nginx would keep the events back.
      "x-accel-buffering": "no",
    });
  }
}
