import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IThemeManager, MainAreaWidget, Notification } from "@jupyterlab/apputils";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import { Signal } from "@lumino/signaling";
import { runsIcon } from "../icon.js";
import { DEFAULT_RULES, readRules } from "../model/alerts.js";
import { RunFeeds } from "../model/feeds.js";
import { RunPlaces } from "../model/runPlaces.js";
import { IRunFeeds, IViewEnvironment } from "../tokens.js";
import type { ViewEnvironment } from "../widgets/environment.js";
import { FrameQueue } from "../widgets/frameQueue.js";

/** Of the extension's settings; they are those of the panel. */
export const SETTINGS_ID = "@aronnax/lab:panel";

/** Gives the runs of each session's kernel. */
export const feedsPlugin: JupyterFrontEndPlugin<IRunFeeds> = {
  id: "@aronnax/lab:feeds",
  description: "Provides the metrics of the training runs in a session's kernel.",
  autoStart: true,
  provides: IRunFeeds,
  activate: ({ serviceManager }: JupyterFrontEnd): IRunFeeds => {
    const { contents, serverSettings } = serviceManager;
    const feeds = new RunFeeds(new RunPlaces(contents, serverSettings));
    window.addEventListener("pagehide", () => feeds.close());
    return feeds;
  },
};

/** Gives the views what they need of the application. */
export const environmentPlugin: JupyterFrontEndPlugin<ViewEnvironment> = {
  id: "@aronnax/lab:environment",
  description: "Provides translations, theme, drawing queue and alerts to the run views.",
  autoStart: true,
  provides: IViewEnvironment,
  optional: [ITranslator, IThemeManager, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    translator: ITranslator | null,
    themes: IThemeManager | null,
    settings: ISettingRegistry | null,
  ): ViewEnvironment => {
    let rules = DEFAULT_RULES;
    settings?.load(SETTINGS_ID).then(
      (registered) => {
        const read = () => {
          rules = readRules(registered.composite.alerts);
        };
        read();
        registered.changed.connect(read);
      },
      () => undefined, // without settings the defaults hold
    );
    const trans = (translator ?? nullTranslator).load("aronnax_lab");
    const themeChanged = themes?.themeChanged ?? new Signal(app);
    let explored = 0;
    return {
      trans,
      frames: new FrameQueue(),
      themeChanged,
      alertRules: () => rules,
      notify: (message) => {
        Notification.warning(message, { autoClose: 15_000 });
      },
      // plotly is loaded with the first chart that is explored.
      explore: (chart) => {
        void import("../explore/exploreWidget.js").then(({ ExploreWidget }) => {
          const widget = new MainAreaWidget({ content: new ExploreWidget(chart, trans, themeChanged) });
          widget.id = `aronnax-explore-${explored++}`;
          widget.title.icon = runsIcon;
          widget.title.closable = true;
          widget.title.label = trans.__("%1: %2", chart.runs[0]?.info.name ?? "", chart.spec.title);
          widget.toolbar.hide();
          app.shell.add(widget, "main", { mode: "tab-after" });
          app.shell.activateById(widget.id);
        });
      },
    };
  },
};
