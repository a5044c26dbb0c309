import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { WidgetTracker } from "@jupyterlab/apputils";
import { ABCWidgetFactory, type DocumentRegistry, DocumentWidget } from "@jupyterlab/docregistry";
import type { Contents } from "@jupyterlab/services";
import { Poll } from "@lumino/polling";
import { runsIcon } from "../icon.js";
import { FileSource } from "../model/fileSource.js";
import { ViewOptions } from "../model/viewOptions.js";
import { IViewEnvironment } from "../tokens.js";
import type { ViewEnvironment } from "../widgets/environment.js";
import { RunView } from "../widgets/runView.js";

const FILE_TYPE = "aronnax-run";
const REFRESH_MS = 2000;
const FACTORY = "Training run";

type RunDocument = DocumentWidget<RunView, DocumentRegistry.IModel>;

/** Opens a run's `metrics.arrow`. */
export const filesPlugin: JupyterFrontEndPlugin<void> = {
  id: "@aronnax/lab:files",
  description: "Opens the metrics file of a training run.",
  autoStart: true,
  requires: [IViewEnvironment],
  optional: [ILayoutRestorer],
  activate: (app: JupyterFrontEnd, environment: ViewEnvironment, restorer: ILayoutRestorer | null) => {
    const { trans } = environment;
    const { docRegistry } = app;
    docRegistry.addFileType({
      name: FILE_TYPE,
      displayName: trans.__("Training run"),
      extensions: [".arrow"],
      mimeTypes: ["application/vnd.apache.arrow.stream"],
      contentType: "file",
      fileFormat: "base64",
      icon: runsIcon,
    });
    const factory = new RunDocumentFactory(environment, app.serviceManager.contents, {
      name: FACTORY,
      label: trans.__("Training run"),
      modelName: "base64",
      fileTypes: [FILE_TYPE],
      defaultFor: [FILE_TYPE],
      readOnly: true,
    });
    const tracker = new WidgetTracker<RunDocument>({ namespace: "aronnax-run-files" });
    factory.widgetCreated.connect((_, widget) => {
      widget.title.icon = runsIcon;
      widget.context.pathChanged.connect(() => void tracker.save(widget));
      void tracker.add(widget);
    });
    docRegistry.addWidgetFactory(factory);
    if (restorer) {
      void restorer.restore(tracker, {
        command: "docmanager:open",
        args: ({ context }) => ({ path: context.path, factory: FACTORY }),
        name: ({ context }) => context.path,
      });
    }
  },
};

class RunDocumentFactory extends ABCWidgetFactory<RunDocument, DocumentRegistry.IModel> {
  constructor(
    private readonly environment: ViewEnvironment,
    private readonly contents: Contents.IManager,
    options: DocumentRegistry.IWidgetFactoryOptions<RunDocument>,
  ) {
    super(options);
  }

  protected createNewWidget(context: DocumentRegistry.IContext<DocumentRegistry.IModel>): RunDocument {
    const content = new RunView(this.environment, new ViewOptions());
    const source = new FileSource(this.contents);
    const load = () => void source.load(context.path, context.model.toString());
    content.source = source;
    void context.ready.then(() => {
      load();
      context.model.contentChanged.connect(load);
    });
    // The run may still be going, in another notebook or without one.
    const poll = new Poll({
      auto: true,
      factory: async () => {
        const isRunning = source.store.runs[0]?.info.status === "running";
        if (isRunning && content.isVisible && !context.isDisposed) {
          const { path } = context;
          const before = context.contentsModel?.last_modified;
          const { last_modified } = await this.contents.get(path, { content: false });
          await (last_modified === before ? source.refreshState(path) : context.revert());
        }
      },
      frequency: { interval: REFRESH_MS, backoff: true, max: 10 * REFRESH_MS },
      standby: "when-hidden",
    });
    content.disposed.connect(() => poll.dispose());
    return new DocumentWidget({ content, context });
  }
}
