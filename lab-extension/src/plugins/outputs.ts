import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { PageConfig, PathExt } from "@jupyterlab/coreutils";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import type { Contents } from "@jupyterlab/services";
import type { CommandRegistry } from "@lumino/commands";
import type { PartialJSONObject } from "@lumino/coreutils";
import type { Widget } from "@lumino/widgets";
import { FileSource } from "../model/fileSource.js";
import { RunStates } from "../model/runStates.js";
import type { RunSource } from "../model/source.js";
import { IRunFeeds, IViewEnvironment } from "../tokens.js";
import { CellInputOutput, INPUT_MIME_TYPE } from "../widgets/cellInput.js";
import type { ViewEnvironment } from "../widgets/environment.js";
import { RUN_MIME_TYPE, type RunLookup, RunOutput } from "../widgets/runOutput.js";

// Before text/html (50), which the run brings along for front ends without this extension.
const RANK = 10;

/** Draws runs and inputs inside the outputs of cells. */
export const outputsPlugin: JupyterFrontEndPlugin<void> = {
  id: "@aronnax/lab:outputs",
  description: "Draws training runs and inputs inside the outputs of cells.",
  autoStart: true,
  requires: [IRenderMimeRegistry, IViewEnvironment],
  optional: [INotebookTracker, IRunFeeds],
  activate: (
    app: JupyterFrontEnd,
    rendermime: IRenderMimeRegistry,
    environment: ViewEnvironment,
    notebooks: INotebookTracker | null,
    feeds: IRunFeeds | null,
  ) => {
    const { contents } = app.serviceManager;
    const factory = (lookup: RunLookup): IRenderMime.IRendererFactory => ({
      safe: true,
      mimeTypes: [RUN_MIME_TYPE],
      createRenderer: () => new RunOutput(lookup, environment),
    });
    const inputFactory = (notebook: NotebookPanel | null): IRenderMime.IRendererFactory => ({
      safe: true,
      mimeTypes: [INPUT_MIME_TYPE],
      createRenderer: () => new CellInputOutput(() => notebook?.sessionContext ?? null, environment),
    });
    rendermime.addFactory(inputFactory(null), RANK);
    const withoutKernel: RunLookup = {
      live: null,
      ready: Promise.resolve(),
      stored: async () => null,
      record: async () => null,
      isGone: async () => null,
      draw: (html, trusted) => drawHtml(rendermime, html, trusted),
      open: undefined,
    };
    rendermime.addFactory(factory(withoutKernel), RANK);
    // A renderer does not know its kernel: each notebook gets a factory of its own, which does.
    notebooks?.widgetAdded.connect((_, notebook) => {
      const lookup = feeds && notebookLookup(notebook, feeds, contents, app.commands);
      if (lookup) {
        notebook.content.rendermime.addFactory(factory(lookup), RANK);
      }
      notebook.content.rendermime.addFactory(inputFactory(notebook), RANK);
    });
  },
};

function notebookLookup(
  notebook: NotebookPanel,
  feeds: IRunFeeds,
  contents: Contents.IManager,
  commands: CommandRegistry,
): RunLookup {
  let states: RunStates | undefined;
  notebook.disposed.connect(() => states?.dispose());
  return {
    get live() {
      return feeds.of(notebook.sessionContext);
    },
    ready: notebook.sessionContext.ready,
    stored: (path) => loadRun(contents, notebook.context.path, path),
    record: (path, run) => loadRecord(contents, notebook.context.path, path, run),
    isGone: (path, run) => {
      states ??= new RunStates(notebook.sessionContext);
      return states.isGone(path, run);
    },
    draw: (html, trusted) => drawHtml(notebook.content.rendermime, html, trusted),
    open: () => void commands.execute(OPEN_RUNS, { path: notebook.context.path }),
  };
}

const OPEN_RUNS = "aronnax:open-runs";

async function drawHtml(rendermime: IRenderMimeRegistry, html: string, trusted: boolean): Promise<Widget> {
  const renderer = rendermime.createRenderer("text/html");
  await renderer.renderModel(rendermime.createModel({ data: { "text/html": html }, trusted }));
  return renderer;
}

/** A run's file by the path that the kernel knows it by: relative to the notebook, or absolute below the server's root. */
function serverPath(notebookPath: string, runPath: string): string | null {
  const root = PageConfig.getOption("serverRoot");
  const below = root && runPath.startsWith(`${root}/`) ? runPath.slice(root.length + 1) : null;
  if (below === null && runPath.startsWith("/")) {
    return null;
  }
  return below ?? PathExt.join(PathExt.dirname(notebookPath), runPath);
}

async function loadRun(
  contents: Contents.IManager,
  notebookPath: string,
  runPath: string,
): Promise<RunSource | null> {
  const path = serverPath(notebookPath, runPath);
  if (path === null) {
    return null;
  }
  const file = path.endsWith(".arrow") ? path : PathExt.join(path, "metrics.arrow");
  try {
    const model = await contents.get(file, { type: "file", format: "base64", content: true });
    const source = new FileSource(contents);
    await source.load(file, model.content as string);
    return source.state === "stored" ? source : null;
  } catch {
    return null; // no such file: the output's text is what is left
  }
}

/** The `record.json` beside a run's files, if it is of this run. */
async function loadRecord(
  contents: Contents.IManager,
  notebookPath: string,
  runPath: string,
  run: string,
): Promise<PartialJSONObject | null> {
  const path = serverPath(notebookPath, runPath);
  if (path === null) {
    return null;
  }
  const folder = path.endsWith(".arrow") ? PathExt.dirname(path) : path;
  try {
    const file = PathExt.join(folder, "record.json");
    const { content } = await contents.get(file, { type: "file", format: "text", content: true });
    const { id, bundle } = JSON.parse(content as string) as { id?: unknown; bundle?: unknown };
    return id === run && typeof bundle === "object" ? (bundle as PartialJSONObject) : null;
  } catch {
    return null; // of an earlier version, or moved away
  }
}
