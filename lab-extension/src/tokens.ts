import type { ISessionContext } from "@jupyterlab/apputils";
import { Token } from "@lumino/coreutils";
import type { IDisposable } from "@lumino/disposable";
import type { KernelFeed } from "./model/kernelFeed.js";
import type { RunPlaces } from "./model/runPlaces.js";
import type { RunSource } from "./model/source.js";
import type { ViewEnvironment } from "./widgets/environment.js";

/** Gives the runs of a kernel. */
export interface IRunFeeds {
  /** The runs of the session's kernel, live, through restarts and changes of the kernel. */
  of(context: ISessionContext): KernelFeed;
  /** The hosts and devices of the kernel's runtime, sampled until the result is disposed. */
  devicesOf(context: ISessionContext): RunSource & IDisposable;
  /** Where the files of runs are on the server. */
  readonly places: RunPlaces;
}

export const IRunFeeds = new Token<IRunFeeds>(
  "@aronnax/lab:IRunFeeds",
  "The metrics of the training runs in a session's kernel, and the files of runs.",
);

/** What views need of the application. */
export const IViewEnvironment = new Token<ViewEnvironment>(
  "@aronnax/lab:IViewEnvironment",
  "Translations, theme, drawing queue and alerts of the run views.",
);
