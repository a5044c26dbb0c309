import type { TranslationBundle } from "@jupyterlab/translation";
import type { ISignal } from "@lumino/signaling";
import type { FrameQueue } from "./frameQueue.js";

/** What the views share. */
export interface ViewEnvironment {
  readonly trans: TranslationBundle;
  /** One queue a page, so that all charts together draw once a frame. */
  readonly frames: FrameQueue;
  /** The theme changed: colours have to be read again. */
  readonly themeChanged: ISignal<unknown, unknown>;
}
