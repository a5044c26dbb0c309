import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { WidgetTracker } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import {
  ABCWidgetFactory,
  Base64ModelFactory,
  type DocumentRegistry,
  DocumentWidget,
} from "@jupyterlab/docregistry";
import { Signal } from "@lumino/signaling";
import { Panel } from "@lumino/widgets";
import { runsIcon } from "../icon.js";
import { FIRST_SEGMENT } from "../model/runFiles/runState.js";
import { IRunFeeds, IViewEnvironment } from "../tokens.js";
import type { ViewEnvironment } from "../widgets/environment.js";

const FILE_TYPE = "aronnax-run";
const MODEL = "aronnax-run";
const FACTORY = "Training run";

type RunDocument = DocumentWidget<Panel, DocumentRegistry.IModel>;

/** A file that the view reads itself, by ranges: JupyterLab would load all of it as one text. */
class RunModelFactory extends Base64ModelFactory {
  override get name(): string {
    return MODEL;
  }

  // No format, no content.
  override get fileFormat(): never {
    return null as never;
  }
}

/** Opens a run's `metrics.arrow`. */
export const filesPlugin: JupyterFrontEndPlugin<void> = {
  id: "@aronnax/lab:files",
  description: "Opens the metrics file of a training run.",
  autoStart: true,
  requires: [IViewEnvironment, IRunFeeds],
  optional: [ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    environment: ViewEnvironment,
    feeds: IRunFeeds,
    restorer: ILayoutRestorer | null,
  ) => {
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
    docRegistry.addModelFactory(new RunModelFactory());
    const factory = new RunDocumentFactory(environment, feeds, {
      name: FACTORY,
      label: trans.__("Training run"),
      modelName: MODEL,
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
    private readonly feeds: IRunFeeds,
    options: DocumentRegistry.IWidgetFactoryOptions<RunDocument>,
  ) {
    super(options);
  }

  protected createNewWidget(context: DocumentRegistry.IContext<DocumentRegistry.IModel>): RunDocument {
    const content = new Panel();
    content.addClass("aronnax-RunFile");
    void import("../widgets/runFileView.js").then(({ RunFileView }) => {
      if (!content.isDisposed) {
        content.addWidget(new RunFileView(context, this.feeds.places, this.environment));
      }
    });
    const widget = new DocumentWidget({ content, context });
    // All runs have a file of this name: the tab has the run's. A document whose title is changed renames its file, which this must not.
    Signal.disconnectBetween(widget.title, widget);
    const describe = () => {
      const name = PathExt.basename(context.path);
      const folder = PathExt.basename(PathExt.dirname(context.path));
      widget.title.label = name === FIRST_SEGMENT && folder !== "" ? folder : name;
    };
    describe();
    context.pathChanged.connect(describe);
    return widget;
  }
}
