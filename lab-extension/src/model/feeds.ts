import type { ISessionContext } from "@jupyterlab/apputils";
import type { IDisposable } from "@lumino/disposable";
import { KernelFeed } from "./kernelFeed.js";
import { DEVICES } from "./protocol.js";
import type { RunPlaces } from "./runPlaces.js";
import type { RunSource } from "./source.js";

/** One feed a session, however many views show it: the kernel sends each batch to this page once. */
export class RunFeeds {
  /** @param places - finds the folders of runs on the server. */
  constructor(readonly places: RunPlaces) {}

  of(context: ISessionContext): KernelFeed {
    let feed = this.#feeds.get(context);
    if (!feed) {
      feed = new KernelFeed(context, undefined, (run) => this.places.ofRun(run.info, context.path));
      this.#feeds.set(context, feed);
      context.disposed.connect(() => {
        this.#feeds.get(context)?.dispose();
        this.#feeds.delete(context);
      });
    }
    return feed;
  }

  /** A feed of the caller's own: telemetry is sampled for as long as it is not disposed. */
  devicesOf(context: ISessionContext): RunSource & IDisposable {
    const feed = new KernelFeed(context, DEVICES);
    for (const other of this.#devices) {
      if (other.isDisposed) {
        this.#devices.delete(other);
      }
    }
    this.#devices.add(feed);
    return feed;
  }

  /** Closes every comm: the page goes away, and the kernel should not go on sending to it. */
  close(): void {
    for (const feed of [...this.#feeds.values(), ...this.#devices]) {
      feed.close();
    }
  }

  readonly #devices = new Set<KernelFeed>();
  readonly #feeds = new Map<ISessionContext, KernelFeed>();
}
