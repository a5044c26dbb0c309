import type { ISessionContext } from "@jupyterlab/apputils";
import { Token } from "@lumino/coreutils";
import type { IDisposable } from "@lumino/disposable";
import type { RunSource } from "./model/source.js";
import type { ViewEnvironment } from "./widgets/environment.js";

/** Gives the runs of a kernel. */
export interface IRunFeeds {
  /** The runs of the session's kernel, live, through restarts and changes of the kernel. */
  of(context: ISessionContext): RunSource;
  /** The hosts and devices of the kernel's runtime, sampled until the result is disposed. */
  devicesOf(context: ISessionContext): RunSource & IDisposable;
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
