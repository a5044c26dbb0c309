import { randomUUID } from "node:crypto";
import type { ToMain, ToMessaging } from "../link.js";
import type { Json } from "../protocol/wire.js";
import { asJson, asJsonObject } from "./json.js";

export interface CommOptions {
  metadata?: Json;
  buffers?: ArrayBufferView[];
}

export interface CommMessage {
  data: unknown;
  metadata: Json;
  buffers: Uint8Array[];
}

/** One end of a comm, in the hands of a cell. */
export class Comm {
  onmessage: ((message: CommMessage) => void) | undefined;
  onclose: ((data: unknown) => void) | undefined;

  constructor(
    readonly id: string,
    readonly target: string,
    private readonly tell: (message: ToMessaging) => void,
    private readonly forget: () => void,
  ) {}

  send(data: unknown, options: CommOptions = {}): void {
    this.tell(toMessage("msg", { comm_id: this.id }, data, options));
  }

  close(data: unknown = {}): void {
    this.forget();
    this.tell(toMessage("close", { comm_id: this.id }, data, {}));
  }
}

type Opened = (comm: Comm, data: unknown, buffers: Uint8Array[]) => void;

/** The comms of cells, opened from either side. */
export class Comms {
  readonly #targets = new Map<string, Opened>();
  readonly #comms = new Map<string, Comm>();

  constructor(private readonly tell: (message: ToMessaging) => void) {}

  readonly register = (target: string, opened: Opened): (() => void) => {
    this.#targets.set(target, opened);
    this.#tellTargets();
    return () => {
      if (this.#targets.get(target) === opened) this.#targets.delete(target);
      this.#tellTargets();
    };
  };

  readonly open = (target: string, data: unknown = {}, options: CommOptions = {}): Comm => {
    const comm = this.#add(randomUUID(), target);
    this.tell(toMessage("open", { comm_id: comm.id, target_name: target }, data, options));
    return comm;
  };

  receive({ kind, content, metadata, buffers }: Extract<ToMain, { type: "comm" }>): void {
    const id = String(content.comm_id);
    if (kind === "open") {
      const target = String(content.target_name);
      this.#targets.get(target)?.(this.#add(id, target), content.data, buffers);
      return;
    }
    const comm = this.#comms.get(id);
    if (kind === "msg") comm?.onmessage?.({ data: content.data, metadata, buffers });
    else {
      this.#comms.delete(id);
      comm?.onclose?.(content.data);
    }
  }

  #add(id: string, target: string): Comm {
    const comm = new Comm(id, target, this.tell, () => this.#comms.delete(id));
    this.#comms.set(id, comm);
    return comm;
  }

  #tellTargets(): void {
    this.tell({ type: "targets", names: [...this.#targets.keys()] });
  }
}

function toMessage(
  kind: "open" | "msg" | "close",
  ids: Json,
  data: unknown,
  { metadata = {}, buffers = [] }: CommOptions,
): ToMessaging {
  const content = { ...ids, data: asJson(data) ?? {} };
  return { type: "comm", kind, content, metadata: asJsonObject(metadata), buffers: buffers.map(asBytes) };
}

export function asBytes(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
