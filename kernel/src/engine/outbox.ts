import { Shared, type ToMessaging } from "../link.js";
import { ownRun } from "./owner.js";

/** More than this under way makes the sender wait: a cell that shows things without end must not fill the memory. */
const IN_FLIGHT = 8 * 1024 * 1024;
/** What a message counts at least, and at most, for the count has 32 bits. */
const LEAST = 16 * 1024;
const MOST = 64 * 1024 * 1024;

/** The way from the main thread to the messaging thread, with back-pressure for what cells can send without end. */
export class Outbox {
  constructor(
    private readonly shared: Int32Array,
    private readonly post: (message: ToMessaging) => void,
  ) {}

  readonly tell = (message: ToMessaging): void => {
    const size = Math.min(sizeOf(message), MOST);
    const run = message.run ?? ownRun();
    this.post(size === 0 ? message : { ...message, size, ...(run === undefined ? {} : { run }) });
    if (size === 0) return;
    Atomics.add(this.shared, Shared.outputPending, size);
    for (;;) {
      const pending = Atomics.load(this.shared, Shared.outputPending);
      if (pending <= IN_FLIGHT) return;
      Atomics.wait(this.shared, Shared.outputPending, pending, 20);
    }
  };
}

function sizeOf(message: ToMessaging): number {
  switch (message.type) {
    case "stream":
      return message.text.length;
    case "display":
    case "result": {
      const buffers = message.type === "display" ? message.buffers : undefined;
      return LEAST + lengthOf(Object.values(message.bundle.data)) + lengthOf(buffers ?? []);
    }
    case "comm":
    case "broadcast":
      return LEAST + lengthOf(message.buffers);
    case "clear":
    case "metrics":
    case "telemetry":
      return LEAST;
    default:
      return 0;
  }
}

function lengthOf(parts: unknown[]): number {
  let length = 0;
  for (const part of parts) {
    if (typeof part === "string") length += part.length;
    else if (part instanceof Uint8Array) length += part.byteLength;
  }
  return length;
}
