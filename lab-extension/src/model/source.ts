import type { ISignal } from "@lumino/signaling";
import type { RunStore } from "./runStore.js";

/**
 * What a source is doing: `idle` has no kernel, `connecting` awaits the first snapshot, `live` receives, `unsupported`
 * has a kernel that publishes no metrics, `lost` had a kernel that died or a connection that broke, `stored` reads a
 * file, `failed` could not read it.
 */
export type SourceState = "idle" | "connecting" | "live" | "unsupported" | "lost" | "stored" | "failed";

/** Where a view's runs come from: a kernel or a file. */
export interface RunSource {
  readonly store: RunStore;
  readonly state: SourceState;
  /** Why the state is `failed`. */
  readonly problem: string | undefined;
  readonly stateChanged: ISignal<RunSource, void>;
  /** Interrupts what runs now, where that can be done from here. */
  readonly interrupt?: () => Promise<void>;
}
