import type { ISessionContext } from "@jupyterlab/apputils";
import { KernelFeed } from "./kernelFeed.js";
import type { RunSource } from "./source.js";

/** One feed a session, however many views show it: the kernel sends each batch to this page once. */
export class RunFeeds {
  of(context: ISessionContext): RunSource {
    let feed = this.#feeds.get(context);
    if (!feed) {
      feed = new KernelFeed(context);
      this.#feeds.set(context, feed);
      context.disposed.connect(() => {
        this.#feeds.get(context)?.dispose();
        this.#feeds.delete(context);
      });
    }
    return feed;
  }

  /** Closes every comm: the page goes away, and the kernel should not go on sending to it. */
  close(): void {
    for (const feed of this.#feeds.values()) {
      feed.close();
    }
  }

  readonly #feeds = new Map<ISessionContext, KernelFeed>();
}
