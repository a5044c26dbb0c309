import { PageConfig, PathExt } from "@jupyterlab/coreutils";
import type { Contents, ServerConnection } from "@jupyterlab/services";
import type { RunInfo } from "./protocol.js";
import { ServerPlace } from "./runFiles/runPlace.js";

/** How long a listing of a folder is taken for true. */
const LISTING_MS = 3_000;
/** The same, where it has not what is looked for. */
const MISSING_MS = 100;

/**
 * Finds the folders of runs on the server. A kernel tells a path of its own machine, which the server need not serve; whether it does is seen in
 * listings, because asking for what is not there is an error in the browser's console.
 */
export class RunPlaces {
  constructor(
    readonly contents: Contents.IManager,
    readonly settings: ServerConnection.ISettings,
  ) {}

  /** A folder by its path in the contents; null where it is not there. */
  async at(path: string): Promise<ServerPlace | null> {
    const isThere = await this.#isFolder(PathExt.normalize(path));
    return isThere ? new ServerPlace(this.contents, this.settings, path) : null;
  }

  /**
   * The folder of a run; null where the server does not serve it.
   *
   * @param notebookPath - of the notebook whose kernel told of the run, in the contents.
   */
  async ofRun({ folder, path, name }: RunInfo, notebookPath: string): Promise<ServerPlace | null> {
    const place = folder ?? (path === undefined ? undefined : PathExt.dirname(path));
    const found = place === undefined ? null : await this.find(place, notebookPath);
    return found && PathExt.basename(found.path) === PathExt.basename(place ?? name) ? found : null;
  }

  /** A folder by the path that a kernel knows it by: absolute, or relative to the notebook. */
  async find(folder: string, notebookPath: string): Promise<ServerPlace | null> {
    const beside = PathExt.dirname(notebookPath);
    if (!folder.startsWith("/")) {
      return this.at(PathExt.join(beside, folder));
    }
    const root = PageConfig.getOption("serverRoot").replace(/\/+$/, "");
    if (!root.startsWith("~")) {
      return folder.startsWith(`${root}/`) ? this.at(folder.slice(root.length + 1)) : null;
    }
    // The server shortens its root where it lies in the user's home: the notebook's folder tells where the rest begins.
    const tail = root.slice(1);
    const at = folder.indexOf(`${tail}/`);
    return at >= 0 ? this.at(folder.slice(at + tail.length + 1)) : null;
  }

  /** The names in a folder; undefined where it is not there. */
  async names(path: string): Promise<readonly string[] | undefined> {
    return (await this.#isFolder(PathExt.normalize(path))) ? this.#list(path) : undefined;
  }

  async #isFolder(path: string): Promise<boolean> {
    if (path === "" || path === ".") {
      return true;
    }
    const parent = PathExt.dirname(path);
    if (!(await this.#isFolder(parent))) {
      return false;
    }
    const name = PathExt.basename(path);
    // What was not there a moment ago may be now.
    return (
      ((await this.#list(parent))?.includes(name) ||
        (await this.#list(parent, MISSING_MS))?.includes(name)) ??
      false
    );
  }

  #list(path: string, age = LISTING_MS): Promise<readonly string[] | undefined> {
    const known = this.#listings.get(path);
    if (known && Date.now() - known.at < age) {
      return known.names;
    }
    const names = this.contents
      .get(path, { type: "directory", content: true })
      .then(({ content }) => (content as Contents.IModel[]).map(({ name }) => name))
      .catch(() => undefined);
    this.#listings.set(path, { at: Date.now(), names });
    return names;
  }

  readonly #listings = new Map<
    string,
    { readonly at: number; readonly names: Promise<readonly string[] | undefined> }
  >();
}
