import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import { ICommandPalette, MainAreaWidget, WidgetTracker } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import { IDefaultFileBrowser } from "@jupyterlab/filebrowser";
import { ILauncher } from "@jupyterlab/launcher";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";
import { EXPORTS, type ExportKind, exportLabel } from "../export/kinds.js";
import { runsIcon } from "../icon.js";
import { DEFAULT_CHOICES, readChoices, type ViewChoices, ViewOptions } from "../model/viewOptions.js";
import { IRunFeeds, IViewEnvironment } from "../tokens.js";
import type { ViewEnvironment } from "../widgets/environment.js";
import type { PanelPlace, RunPanel } from "../widgets/runPanel.js";
import { SETTINGS_ID } from "./services.js";

export namespace CommandIDs {
  export const open = "aronnax:open-runs";
  export const openFolder = "aronnax:open-run-folder";
  export const compare = "aronnax:compare-runs";
  export const exportRun = "aronnax:export";
  export const resetZoom = "aronnax:reset-zoom";
}

/** The folder that runs are written to, beside a notebook. */
const RUNS = "runs";

/** Panels with the runs of a notebook's kernel or of a folder. */
export const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: SETTINGS_ID,
  description: "Panels with the training runs of a notebook's kernel or of a folder.",
  autoStart: true,
  requires: [IRunFeeds, IViewEnvironment],
  optional: [
    INotebookTracker,
    ILayoutRestorer,
    ICommandPalette,
    ISettingRegistry,
    ILauncher,
    ILabShell,
    IDefaultFileBrowser,
  ],
  activate: (
    app: JupyterFrontEnd,
    feeds: IRunFeeds,
    environment: ViewEnvironment,
    notebooks: INotebookTracker | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    settings: ISettingRegistry | null,
    launcher: ILauncher | null,
    labShell: ILabShell | null,
    browser: IDefaultFileBrowser | null,
  ) => {
    const { trans } = environment;
    const { commands } = app;
    const tracker = new WidgetTracker<MainAreaWidget<RunPanel>>({ namespace: "aronnax-runs" });
    let defaults: ViewChoices = DEFAULT_CHOICES;
    const loaded = settings?.load(SETTINGS_ID).then((registered) => {
      const read = () => {
        defaults = readChoices(registered.composite, DEFAULT_CHOICES);
      };
      read();
      registered.changed.connect(read);
    });

    // The views and what they read with are loaded with the first panel, not with JupyterLab.
    const loadViews = async () => {
      const [{ RunPanel: Panel }, { RunCatalog: Catalog }] = await Promise.all([
        import("../widgets/runPanel.js"),
        import("../model/catalog.js"),
      ]);
      return { Panel, Catalog };
    };

    const follow = async (panel: RunPanel) => {
      const { Catalog } = await loadViews();
      const { place } = panel;
      if ("folder" in place) {
        panel.showCatalog(new Catalog(feeds.places, place.folder));
        return;
      }
      const notebook = notebooks?.find(({ context }) => context.path === place.notebook);
      if (notebook) {
        const { context, sessionContext } = notebook;
        const root = PathExt.join(PathExt.dirname(context.path), RUNS);
        panel.follow(
          context,
          () => new Catalog(feeds.places, root, feeds.of(sessionContext), RUNS),
          () => feeds.devicesOf(sessionContext),
        );
      }
    };
    notebooks?.widgetAdded.connect(() => {
      tracker.forEach(({ content }) => {
        if ("notebook" in content.place) {
          void follow(content);
        }
      });
    });

    const show = async (place: PanelPlace, view: unknown, tab?: "compare") => {
      await loaded?.catch(() => undefined);
      const { Panel } = await loadViews();
      const key = JSON.stringify(place);
      const before = tracker.find(({ content }) => JSON.stringify(content.place) === key);
      if (before) {
        if (tab) {
          before.content.options.set({ tab });
        }
        app.shell.activateById(before.id);
        return before;
      }
      const choices = readChoices(view, defaults);
      const panel = new Panel(place, environment, new ViewOptions(tab ? { ...choices, tab } : choices));
      const widget = new MainAreaWidget({ content: panel });
      widget.id = `aronnax-runs-${"notebook" in place ? place.notebook : `folder-${place.folder}`}`;
      widget.title.icon = runsIcon;
      widget.title.closable = true;
      widget.toolbar.hide();
      const describe = () => {
        const { path } = panel;
        if ("notebook" in panel.place) {
          widget.title.label = trans.__("Runs: %1", PathExt.basename(path, ".ipynb"));
          widget.title.caption = trans.__("Training runs of %1", path);
        } else {
          widget.title.label = trans.__("Runs in %1", path === "" ? "/" : path);
          widget.title.caption = trans.__("Training runs in the folder %1", path);
        }
      };
      describe();
      panel.pathChanged.connect(() => {
        describe();
        void tracker.save(widget);
      });
      panel.options.changed.connect(() => {
        void tracker.save(widget);
        commands.notifyCommandChanged();
      });
      await tracker.add(widget);
      await follow(panel);
      const ref =
        "notebook" in place
          ? notebooks?.find(({ context }) => context.path === place.notebook)?.id
          : undefined;
      if (labShell || !notebooks?.currentWidget) {
        // Beside the notebook, which stays the one that the keyboard and the Run menu work on.
        app.shell.add(widget, "main", {
          mode: ref ? "split-right" : "tab-after",
          ref,
          activate: ref === undefined,
        });
      } else {
        // A page with one notebook has room for one thing in its middle.
        app.shell.add(widget, "right");
        app.shell.activateById(widget.id);
      }
      return widget;
    };

    const currentNotebook = () => notebooks?.currentWidget?.context.path;
    /** The runs beside the current notebook, else those in the folder that the file browser shows. */
    const currentFolder = async (): Promise<string> => {
      const notebook = currentNotebook();
      const folder = notebook === undefined ? (browser?.model.path ?? "") : PathExt.dirname(notebook);
      if (PathExt.basename(folder) === RUNS) {
        return folder;
      }
      const names = await feeds.places.names(folder);
      return names?.includes(RUNS) ? PathExt.join(folder, RUNS) : folder;
    };
    const viewArgument = {
      type: "object",
      description: trans.__("The choices of the view, as it was stored"),
    } as const;

    commands.addCommand(CommandIDs.open, {
      label: trans.__("Show Training Runs"),
      caption: trans.__("Show the training runs of this notebook's kernel, and those beside it"),
      icon: runsIcon,
      describedBy: {
        args: {
          type: "object",
          properties: {
            path: { type: "string", description: trans.__("The notebook; the current one when absent") },
            folder: { type: "string", description: trans.__("A folder of runs, in the place of a notebook") },
            view: viewArgument,
          },
        },
      },
      isEnabled: (args) =>
        typeof args.path === "string" || typeof args.folder === "string" || currentNotebook() !== undefined,
      execute: (args: ReadonlyPartialJSONObject) => {
        if (typeof args.folder === "string") {
          return show({ folder: args.folder }, args.view);
        }
        const path = typeof args.path === "string" ? args.path : currentNotebook();
        return path === undefined ? undefined : show({ notebook: path }, args.view);
      },
    });

    commands.addCommand(CommandIDs.openFolder, {
      label: (args) => (args.isLauncher ? trans.__("Training Runs") : trans.__("Open Run Dashboard")),
      caption: trans.__("Show all training runs in a folder"),
      icon: runsIcon,
      describedBy: {
        args: {
          type: "object",
          properties: {
            folder: {
              type: "string",
              description: trans.__("The folder; the current one's runs when absent"),
            },
            view: viewArgument,
          },
        },
      },
      execute: async (args: ReadonlyPartialJSONObject) =>
        show({ folder: typeof args.folder === "string" ? args.folder : await currentFolder() }, args.view),
    });

    commands.addCommand(CommandIDs.compare, {
      label: trans.__("Compare Training Runs"),
      caption: trans.__("Show the training runs in a folder as a table"),
      icon: runsIcon,
      describedBy: {
        args: {
          type: "object",
          properties: {
            folder: {
              type: "string",
              description: trans.__("The folder; the current one's runs when absent"),
            },
          },
        },
      },
      execute: async (args: ReadonlyPartialJSONObject) =>
        show(
          { folder: typeof args.folder === "string" ? args.folder : await currentFolder() },
          undefined,
          "compare",
        ),
    });

    commands.addCommand(CommandIDs.exportRun, {
      label: ({ kind }) => {
        const known = EXPORTS.find((one) => one === kind) ?? "csv";
        return trans.__("Export Training Run: %1", exportLabel(known, trans));
      },
      describedBy: {
        args: {
          type: "object",
          properties: {
            kind: { type: "string", enum: [...EXPORTS], description: trans.__("What to make of the run") },
          },
        },
      },
      isEnabled: () => (tracker.currentWidget?.content.shown.length ?? 0) > 0,
      execute: ({ kind }) =>
        tracker.currentWidget?.content.exportAs((EXPORTS.find((one) => one === kind) ?? "csv") as ExportKind),
    });

    commands.addCommand(CommandIDs.resetZoom, {
      label: trans.__("Reset Zoom of Training Charts"),
      describedBy: { args: { type: "object", properties: {} } },
      isEnabled: () => tracker.currentWidget !== null,
      execute: () => tracker.currentWidget?.content.options.resetZoom(),
    });

    const category = trans.__("Aronnax");
    for (const command of [
      CommandIDs.open,
      CommandIDs.openFolder,
      CommandIDs.compare,
      CommandIDs.resetZoom,
    ]) {
      palette?.addItem({ command, category });
    }
    for (const kind of EXPORTS) {
      palette?.addItem({ command: CommandIDs.exportRun, args: { kind }, category });
    }
    launcher?.add({ command: CommandIDs.openFolder, args: { isLauncher: true }, category, rank: 1 });
    if (restorer) {
      void restorer.restore(tracker, {
        command: CommandIDs.open,
        args: ({ content }) => ({
          ...("folder" in content.place ? { folder: content.path } : { path: content.path }),
          view: content.options.toJSON(),
        }),
        name: ({ content }) => `${"folder" in content.place ? "folder " : ""}${content.path}`,
      });
    }
  },
};
