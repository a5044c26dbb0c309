import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IThemeManager } from "@jupyterlab/apputils";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import { Signal } from "@lumino/signaling";
import { RunFeeds } from "../model/feeds.js";
import { IRunFeeds, IViewEnvironment } from "../tokens.js";
import type { ViewEnvironment } from "../widgets/environment.js";
import { FrameQueue } from "../widgets/frameQueue.js";

/** Gives the runs of each session's kernel. */
export const feedsPlugin: JupyterFrontEndPlugin<IRunFeeds> = {
  id: "@aronnax/lab:feeds",
  description: "Provides the metrics of the training runs in a session's kernel.",
  autoStart: true,
  provides: IRunFeeds,
  activate: (): IRunFeeds => {
    const feeds = new RunFeeds();
    window.addEventListener("pagehide", () => feeds.close());
    return feeds;
  },
};

/** Gives the views what they need of the application. */
export const environmentPlugin: JupyterFrontEndPlugin<ViewEnvironment> = {
  id: "@aronnax/lab:environment",
  description: "Provides translations, theme and drawing queue to the run views.",
  autoStart: true,
  provides: IViewEnvironment,
  optional: [ITranslator, IThemeManager],
  activate: (
    app: JupyterFrontEnd,
    translator: ITranslator | null,
    themes: IThemeManager | null,
  ): ViewEnvironment => ({
    trans: (translator ?? nullTranslator).load("aronnax_lab"),
    frames: new FrameQueue(),
    themeChanged: themes?.themeChanged ?? new Signal(app),
  }),
};
