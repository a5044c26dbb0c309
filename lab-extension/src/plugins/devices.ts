import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { devicesIcon } from "../icon.js";
import type { RuntimeAction } from "../model/runtimeLink.js";
import { IRunFeeds, IViewEnvironment } from "../tokens.js";
import { DevicesSidebar } from "../widgets/devicesSidebar.js";
import type { ViewEnvironment } from "../widgets/environment.js";

export namespace DevicesCommandIDs {
  export const open = "aronnax:open-devices";
  export const start = "aronnax:start-runtime";
  export const stop = "aronnax:stop-runtime";
  export const restart = "aronnax:restart-runtime";
}

/** The sidebar with the devices and the runtime of the notebook's kernel. */
export const devicesPlugin: JupyterFrontEndPlugin<void> = {
  id: "@aronnax/lab:devices",
  description: "A sidebar with the devices and the runtime process of a notebook's kernel.",
  autoStart: true,
  requires: [IRunFeeds, IViewEnvironment],
  optional: [INotebookTracker, ILayoutRestorer, ICommandPalette],
  activate: (
    { commands, shell }: JupyterFrontEnd,
    feeds: IRunFeeds,
    environment: ViewEnvironment,
    notebooks: INotebookTracker | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
  ) => {
    const { trans } = environment;
    const panel = new DevicesSidebar(environment, (context) => feeds.devicesOf(context));
    panel.id = "aronnax-devices";
    panel.title.icon = devicesIcon;
    panel.title.caption = trans.__("Devices");
    panel.node.setAttribute("role", "region");
    panel.node.setAttribute("aria-label", trans.__("Devices"));
    shell.add(panel, "left", { rank: 650, type: "Devices" });
    restorer?.add(panel, panel.id);
    window.addEventListener("pagehide", () => panel.leave());

    // The notebook that is worked on; one that is closed gives way to another.
    const follow = () => {
      const current: NotebookPanel | null = notebooks?.currentWidget ?? null;
      panel.context = current && !current.isDisposed ? current.sessionContext : null;
    };
    notebooks?.currentChanged.connect(follow);
    follow();

    commands.addCommand(DevicesCommandIDs.open, {
      label: trans.__("Show Devices"),
      caption: trans.__("Show the devices and the runtime of the notebook's kernel"),
      icon: devicesIcon,
      describedBy: { args: { type: "object", properties: {} } },
      execute: () => shell.activateById(panel.id),
    });
    const act = (command: string, action: RuntimeAction, label: string) =>
      commands.addCommand(command, {
        label,
        describedBy: { args: { type: "object", properties: {} } },
        isEnabled: () => panel.context !== null,
        execute: async () => {
          shell.activateById(panel.id);
          await panel.act(action);
        },
      });
    act(DevicesCommandIDs.start, "start", trans.__("Start the Runtime"));
    act(DevicesCommandIDs.stop, "stop", trans.__("Stop the Runtime"));
    act(DevicesCommandIDs.restart, "restart", trans.__("Restart the Runtime"));
    for (const command of Object.values(DevicesCommandIDs)) {
      palette?.addItem({ command, category: trans.__("Aronnax") });
    }
  },
};
