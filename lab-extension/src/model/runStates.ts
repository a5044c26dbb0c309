import { PathExt } from "@jupyterlab/coreutils";
import type { IDisposable } from "@lumino/disposable";
import { KernelComm } from "./kernelComm.js";
import type { KernelHost } from "./kernelFeed.js";

const PATIENCE_MS = 10_000;

interface ListedRun {
  readonly id: string;
  readonly stale?: boolean;
}

/** Asks a notebook's kernel what has become of runs of other processes, such as kernels before it. */
export class RunStates implements IDisposable {
  constructor(host: KernelHost) {
    this.#comm = new KernelComm(host, "aronnax.files", { version: 2 });
  }

  get isDisposed(): boolean {
    return this.#comm.isDisposed;
  }

  dispose(): void {
    this.#comm.dispose();
  }

  /**
   * Whether the process of a run is gone; null where that cannot be told: there is no kernel, the run lies elsewhere than below its folder, or
   * on another host.
   *
   * @param path - the run's first metrics file, relative to the kernel's folder.
   */
  async isGone(path: string, run: string): Promise<boolean | null> {
    const root = PathExt.dirname(PathExt.dirname(path));
    if (path.startsWith("/") || root === "" || !(await this.#isReady())) {
      return null;
    }
    for (let from: number | null = 0; from !== null; ) {
      const answer: { runs?: ListedRun[]; next?: number | null } | null = await this.#list(root, from);
      const found = answer?.runs?.find(({ id }) => id === run);
      if (found) {
        return found.stale ?? null;
      }
      from = answer?.next ?? null;
    }
    return null;
  }

  async #isReady(): Promise<boolean> {
    return this.#comm.isOpen || (await this.#next((data) => data.type === "ready")) !== null;
  }

  #list(root: string, from: number): Promise<{ runs?: ListedRun[]; next?: number | null } | null> {
    const request = ++this.#requests;
    const answer = this.#next((data) => data.request === request);
    this.#comm.send({ type: "runs", request, root, from });
    return answer;
  }

  /** The next message that fits, null where none comes. */
  #next(fits: (data: { readonly [field: string]: unknown }) => boolean): Promise<object | null> {
    return new Promise((resolve) => {
      const end = (found: object | null) => {
        clearTimeout(timer);
        this.#comm.received.disconnect(onReceived);
        resolve(found);
      };
      const onReceived = (_: unknown, { data }: { data: object }) => {
        if (fits(data as { readonly [field: string]: unknown })) {
          end(data);
        }
      };
      const timer = setTimeout(() => end(null), PATIENCE_MS);
      this.#comm.received.connect(onReceived);
    });
  }

  readonly #comm: KernelComm;
  #requests = 0;
}
