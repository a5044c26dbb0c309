import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import { type CommMessage, KernelComm } from "./kernelComm.js";
import type { KernelHost } from "./kernelFeed.js";
import { type RuntimeState, readRuntimeState } from "./runtimeState.js";

export type RuntimeAction = "start" | "stop" | "restart" | "recover" | "logs";

export interface ActionResult {
  readonly ok: boolean;
  readonly text: string;
}

/** The runtime process, asked and told through a notebook's kernel. */
export class RuntimeLink implements IDisposable {
  constructor(host: KernelHost) {
    this.#comm = new KernelComm(host, "aronnax.runtime", { version: 1 });
    this.#comm.received.connect(this.#onReceived, this);
    this.#comm.ended.connect(this.#onEnded, this);
  }

  /** Null before the kernel has said anything. */
  get state(): RuntimeState | null {
    return this.#state;
  }

  /** Why the state is not known. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Whether a kernel answers. */
  get isConnected(): boolean {
    return this.#comm.isOpen;
  }

  /** Whether the kernel is one that knows no runtime: another language's, or an older one. */
  get isRefused(): boolean {
    return this.#comm.isRefused;
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  get isDisposed(): boolean {
    return this.#comm.isDisposed;
  }

  do(action: RuntimeAction): Promise<ActionResult> {
    const request = this.#requests++;
    return new Promise((resolve) => {
      this.#waiting.set(request, resolve);
      this.#comm.send({ type: "do", request, action });
    });
  }

  close(): void {
    this.#comm.close();
  }

  dispose(): void {
    if (!this.isDisposed) {
      this.#comm.dispose();
      this.#giveUp();
      Signal.clearData(this);
    }
  }

  #onReceived(_: unknown, { data }: CommMessage): void {
    if (data.type === "state") {
      this.#state = readRuntimeState(data.state);
      this.#problem = typeof data.problem === "string" ? data.problem : null;
      this.#changed.emit();
    } else if (data.type === "done" && typeof data.request === "number") {
      this.#waiting.get(data.request)?.({ ok: data.ok === true, text: String(data.text ?? "") });
      this.#waiting.delete(data.request);
    }
  }

  #onEnded(): void {
    this.#state = null;
    this.#problem = null;
    this.#giveUp();
    this.#changed.emit();
  }

  #giveUp(): void {
    for (const resolve of this.#waiting.values()) {
      resolve({ ok: false, text: "" });
    }
    this.#waiting.clear();
  }

  readonly #comm: KernelComm;
  readonly #changed = new Signal<this, void>(this);
  readonly #waiting = new Map<number, (result: ActionResult) => void>();
  #state: RuntimeState | null = null;
  #problem: string | null = null;
  #requests = 0;
}
