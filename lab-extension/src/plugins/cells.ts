import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { CellFollower } from "../model/cellFollower.js";

/** Shows what cells have put out while no page listened. */
export const cellsPlugin: JupyterFrontEndPlugin<void> = {
  id: "@aronnax/lab:cells",
  description: "Fetches the outputs of cells that ran while the page was reloaded, or in another tab.",
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_: JupyterFrontEnd, notebooks: INotebookTracker) => {
    const followers = new Set<CellFollower>();
    notebooks.widgetAdded.connect((_tracker, notebook) => {
      void notebook.context.ready.then(() => follow(notebook, followers));
    });
    window.addEventListener("pagehide", () => {
      for (const follower of followers) {
        follower.close();
      }
    });
  },
};

function follow({ context, sessionContext, content }: NotebookPanel, followers: Set<CellFollower>): void {
  const { model } = content;
  if (!model || content.isDisposed) {
    return;
  }
  const follower = new CellFollower(sessionContext, model);
  followers.add(follower);
  // Of executions that had ended when the writing began.
  let written: string[] = [];
  context.saveState.connect((_, state) => {
    if (state === "started") {
      written = follower.complete;
    } else if (state === "completed") {
      follower.saved(written);
    }
  });
  context.disposed.connect(() => {
    followers.delete(follower);
    follower.dispose();
  });
}
