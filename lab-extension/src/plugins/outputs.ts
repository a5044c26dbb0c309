import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { PathExt } from "@jupyterlab/coreutils";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import type { CommandRegistry } from "@lumino/commands";
import type { PartialJSONObject } from "@lumino/coreutils";
import type { Widget } from "@lumino/widgets";
import { FileSource } from "../model/fileSource.js";
import { RUN_MIME_TYPE } from "../model/mimeTypes.js";
import type { RunPlaces } from "../model/runPlaces.js";
import { RunStates } from "../model/runStates.js";
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
    { commands }: JupyterFrontEnd,
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
      const lookup = feeds && notebookLookup(notebook, feeds, commands);
      if (lookup) {
        notebook.content.rendermime.addFactory(factory(lookup), RANK);
      }
      notebook.content.rendermime.addFactory(inputFactory(notebook), RANK);
    });
  },
};

function notebookLookup(notebook: NotebookPanel, feeds: IRunFeeds, commands: CommandRegistry): RunLookup {
  let states: RunStates | undefined;
  notebook.disposed.connect(() => states?.dispose());
  return {
    get live() {
      return feeds.of(notebook.sessionContext);
    },
    ready: notebook.sessionContext.ready,
    stored: (path) => loadRun(feeds.places, notebook.context.path, path),
    record: (path, run) => loadRecord(feeds.places, notebook.context.path, path, run),
    isGone: (path, run) => {
      states ??= new RunStates(notebook.sessionContext);
      return states.isGone(path, run);
    },
    draw: (html, trusted) => drawHtml(notebook.content.rendermime, html, trusted),
    open: () => void commands.execute(OPEN_RUNS, { path: notebook.context.path }),
  };
}

const OPEN_RUNS = "aronnax:open-runs";
const RECORD = "record.json";

async function drawHtml(rendermime: IRenderMimeRegistry, html: string, trusted: boolean): Promise<Widget> {
  const renderer = rendermime.createRenderer("text/html");
  await renderer.renderModel(rendermime.createModel({ data: { "text/html": html }, trusted }));
  return renderer;
}

function folderOf(runPath: string): string {
  return runPath.endsWith(".arrow") ? PathExt.dirname(runPath) : runPath;
}

/** A run's files by the path that the kernel knows one of them by: relative to the notebook, or absolute below the server's root. */
async function loadRun(places: RunPlaces, notebookPath: string, runPath: string): Promise<RunSource | null> {
  const place = await places.find(folderOf(runPath), notebookPath);
  if (!place) {
    return null; // no such folder: the output's text is what is left
  }
  const source = new FileSource(place);
  await source.refresh();
  return source.state === "stored" ? source : null;
}

/** The `record.json` beside a run's files, if it is of this run. */
async function loadRecord(
  places: RunPlaces,
  notebookPath: string,
  runPath: string,
  run: string,
): Promise<PartialJSONObject | null> {
  const place = await places.find(folderOf(runPath), notebookPath);
  // Of an earlier version there is none, and asking for it would be an error in the browser's console.
  if (!place || !(await places.names(place.path))?.includes(RECORD)) {
    return null;
  }
  try {
    const path = PathExt.join(place.path, RECORD);
    const { content } = await places.contents.get(path, { type: "file", format: "text", content: true });
    const { id, bundle } = JSON.parse(content as string) as { id?: unknown; bundle?: unknown };
    return id === run && typeof bundle === "object" ? (bundle as PartialJSONObject) : null;
  } catch {
    return null; // moved away meanwhile
  }
}
