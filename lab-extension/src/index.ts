import type { JupyterFrontEndPlugin } from "@jupyterlab/application";
import { cellsPlugin } from "./plugins/cells.js";
import { devicesPlugin } from "./plugins/devices.js";
import { filesPlugin } from "./plugins/files.js";
import { outputsPlugin } from "./plugins/outputs.js";
import { panelPlugin } from "./plugins/panel.js";
import { environmentPlugin, feedsPlugin } from "./plugins/services.js";

const plugins: JupyterFrontEndPlugin<unknown>[] = [
  feedsPlugin,
  environmentPlugin,
  panelPlugin,
  outputsPlugin,
  cellsPlugin,
  devicesPlugin,
  filesPlugin,
];

export default plugins;
