import type { ISessionContext } from "@jupyterlab/apputils";
import { Token } from "@lumino/coreutils";
import type { RunSource } from "./model/source.js";
import type { ViewEnvironment } from "./widgets/environment.js";

/** Gives the runs of a kernel. */
export interface IRunFeeds {
  /** The runs of the session's kernel, live, through restarts and changes of the kernel. */
  of(context: ISessionContext): RunSource;
}

export const IRunFeeds = new Token<IRunFeeds>(
  "@aronnax/lab:IRunFeeds",
  "The metrics of the training runs in a session's kernel.",
);

/** What views need of the application. */
export const IViewEnvironment = new Token<ViewEnvironment>(
  "@aronnax/lab:IViewEnvironment",
  "Translations, theme and drawing queue of the run views.",
);
