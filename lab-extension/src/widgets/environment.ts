import type { TranslationBundle } from "@jupyterlab/translation";
import type { ISignal } from "@lumino/signaling";
import type { Explored } from "../explore/exploreWidget.js";
import type { AlertRules } from "../model/alerts.js";
import type { FrameQueue } from "./frameQueue.js";

/** What the views share. */
export interface ViewEnvironment {
  readonly trans: TranslationBundle;
  /** One queue a page, so that all charts together leave the page its time. */
  readonly frames: FrameQueue;
  /** The theme changed: colours have to be read again. */
  readonly themeChanged: ISignal<unknown, unknown>;
  /** What is to be told of a run, as the settings have it now. */
  readonly alertRules?: () => AlertRules;
  /** Tells the user outside of the view. */
  readonly notify?: (message: string) => void;
  /** Opens a chart on its own. */
  readonly explore?: (explored: Explored) => void;
}
