import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { PathExt } from "@jupyterlab/coreutils";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import { FileSource } from "../model/fileSource.js";
import { RUN_MIME_TYPE } from "../model/mimeTypes.js";
import type { RunPlaces } from "../model/runPlaces.js";
import type { RunSource } from "../model/source.js";
import { IRunFeeds, IViewEnvironment } from "../tokens.js";
import { CellInputOutput, INPUT_MIME_TYPE } from "../widgets/cellInput.js";
import type { ViewEnvironment } from "../widgets/environment.js";
import { LazyRenderer } from "../widgets/lazyRenderer.js";
import type { RunLookup } from "../widgets/runOutput.js";

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
    _: JupyterFrontEnd,
    rendermime: IRenderMimeRegistry,
    environment: ViewEnvironment,
    notebooks: INotebookTracker | null,
    feeds: IRunFeeds | null,
  ) => {
    const factory = (lookup: RunLookup): IRenderMime.IRendererFactory => ({
      safe: true,
      mimeTypes: [RUN_MIME_TYPE],
      createRenderer: () =>
        new LazyRenderer(async () => {
          const { RunOutput } = await import("../widgets/runOutput.js");
          return new RunOutput(lookup, environment);
        }),
    });
    const inputFactory = (notebook: NotebookPanel | null): IRenderMime.IRendererFactory => ({
      safe: true,
      mimeTypes: [INPUT_MIME_TYPE],
      createRenderer: () => new CellInputOutput(() => notebook?.sessionContext ?? null, environment),
    });
    rendermime.addFactory(inputFactory(null), RANK);
    const withoutKernel: RunLookup = { live: null, ready: Promise.resolve(), stored: async () => null };
    rendermime.addFactory(factory(withoutKernel), RANK);
    // A renderer does not know its kernel: each notebook gets a factory of its own, which does.
    notebooks?.widgetAdded.connect((_, notebook) => {
      const lookup = feeds && notebookLookup(notebook, feeds);
      if (lookup) {
        notebook.content.rendermime.addFactory(factory(lookup), RANK);
      }
      notebook.content.rendermime.addFactory(inputFactory(notebook), RANK);
    });
  },
};

function notebookLookup(notebook: NotebookPanel, feeds: IRunFeeds): RunLookup {
  return {
    get live() {
      return feeds.of(notebook.sessionContext);
    },
    ready: notebook.sessionContext.ready,
    stored: (path) => loadRun(feeds.places, notebook.context.path, path),
  };
}

/** A run's files by the path that the kernel knows one of them by: relative to the notebook, or absolute below the server's root. */
async function loadRun(places: RunPlaces, notebookPath: string, runPath: string): Promise<RunSource | null> {
  const folder = runPath.endsWith(".arrow") ? PathExt.dirname(runPath) : runPath;
  const place = await places.find(folder, notebookPath);
  if (!place) {
    return null; // no such folder: the output's text is what is left
  }
  const source = new FileSource(place);
  await source.refresh();
  return source.state === "stored" ? source : null;
}
