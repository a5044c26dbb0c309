import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, MainAreaWidget, WidgetTracker } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { runsIcon } from "../icon.js";
import { DEFAULT_CHOICES, readChoices, type ViewChoices, ViewOptions } from "../model/viewOptions.js";
import { IRunFeeds, IViewEnvironment } from "../tokens.js";
import type { ViewEnvironment } from "../widgets/environment.js";
import { RunPanel } from "../widgets/runPanel.js";

export namespace CommandIDs {
  export const open = "aronnax:open-runs";
  export const exportCsv = "aronnax:export-csv";
}

const PLUGIN_ID = "@aronnax/lab:panel";

/** The panel with the runs of a notebook's kernel. */
export const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN_ID,
  description: "A panel with the training runs of a notebook's kernel.",
  autoStart: true,
  requires: [IRunFeeds, IViewEnvironment, INotebookTracker],
  optional: [ILayoutRestorer, ICommandPalette, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    feeds: IRunFeeds,
    environment: ViewEnvironment,
    notebooks: INotebookTracker,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    settings: ISettingRegistry | null,
  ) => {
    const { trans } = environment;
    const tracker = new WidgetTracker<MainAreaWidget<RunPanel>>({ namespace: "aronnax-runs" });
    let defaults: ViewChoices = DEFAULT_CHOICES;
    const loaded = settings?.load(PLUGIN_ID).then((registered) => {
      const read = () => {
        defaults = readChoices(registered.composite, DEFAULT_CHOICES);
      };
      read();
      registered.changed.connect(read);
    });

    const follow = (panel: RunPanel) => {
      const notebook = notebooks.find(({ context }) => context.path === panel.path);
      if (notebook) {
        const { context, sessionContext } = notebook;
        panel.follow(context, feeds.of(sessionContext), () => feeds.devicesOf(sessionContext));
      }
    };
    notebooks.widgetAdded.connect(() => {
      tracker.forEach(({ content }) => {
        follow(content);
      });
    });

    app.commands.addCommand(CommandIDs.open, {
      label: trans.__("Show Training Runs"),
      caption: trans.__("Show the training runs of this notebook's kernel"),
      icon: runsIcon,
      describedBy: {
        args: {
          type: "object",
          properties: {
            path: { type: "string", description: trans.__("The notebook; the current one when absent") },
            view: { type: "object", description: trans.__("The choices of the view, as it was stored") },
          },
        },
      },
      isEnabled: (args) => typeof args.path === "string" || notebooks.currentWidget !== null,
      execute: async (args) => {
        await loaded?.catch(() => undefined);
        const path = typeof args.path === "string" ? args.path : notebooks.currentWidget?.context.path;
        if (path === undefined) {
          return undefined;
        }
        let widget = tracker.find(({ content }) => content.path === path);
        if (!widget) {
          const panel = new RunPanel(path, environment, new ViewOptions(readChoices(args.view, defaults)));
          widget = new MainAreaWidget({ content: panel });
          widget.id = `aronnax-runs-${path}`;
          widget.title.icon = runsIcon;
          widget.title.closable = true;
          widget.toolbar.hide();
          const opened = widget;
          const describe = () => {
            opened.title.label = trans.__("Runs: %1", PathExt.basename(panel.path, ".ipynb"));
            opened.title.caption = trans.__("Training runs of %1", panel.path);
          };
          describe();
          panel.pathChanged.connect(() => {
            describe();
            void tracker.save(opened);
          });
          panel.options.changed.connect(() => void tracker.save(opened));
          await tracker.add(widget);
          follow(panel);
          const ref = notebooks.find(({ context }) => context.path === path)?.id;
          // Beside the notebook, which stays the one that the keyboard and the Run menu work on.
          app.shell.add(widget, "main", { mode: "split-right", ref, activate: ref === undefined });
        } else {
          app.shell.activateById(widget.id);
        }
        return widget;
      },
    });

    app.commands.addCommand(CommandIDs.exportCsv, {
      label: trans.__("Export Training Metrics as CSV"),
      describedBy: { args: { type: "object", properties: {} } },
      isEnabled: () => (tracker.currentWidget?.content.shown.length ?? 0) > 0,
      execute: () => tracker.currentWidget?.content.exportCsv(),
    });

    for (const command of Object.values(CommandIDs)) {
      palette?.addItem({ command, category: trans.__("Aronnax") });
    }
    if (restorer) {
      void restorer.restore(tracker, {
        command: CommandIDs.open,
        args: ({ content }) => ({ path: content.path, view: content.options.toJSON() }),
        name: ({ content }) => content.path,
      });
    }
  },
};
