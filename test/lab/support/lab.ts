import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("../../../", import.meta.url));
const START_TIMEOUT_MS = 150_000;

/** A JupyterLab of the set-up, on loopback, with folders of its own. */
export class LabServer {
  /** @param root - the folder it serves; a fresh one when absent. */
  static async start(root?: string): Promise<LabServer> {
    const jupyter = join(repository, ".venv", "bin", "jupyter");
    if (!existsSync(jupyter)) {
      throw new Error(`${jupyter} is missing. Fix: run the set-up, \`npm test\` does it.`);
    }
    const folder = await mkdtemp(join(tmpdir(), "aronnax-lab-"));
    const served = root ?? join(folder, "root");
    await mkdir(served, { recursive: true });
    const token = crypto.randomUUID();
    const runtime = join(folder, "runtime");
    let log = "";
    const child = spawn(
      jupyter,
      [
        "lab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        `--ServerApp.root_dir=${served}`,
        `--IdentityProvider.token=${token}`,
      ],
      {
        cwd: served,
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          ...process.env,
          JUPYTER_CONFIG_DIR: join(folder, "config"),
          JUPYTER_DATA_DIR: join(folder, "data"),
          JUPYTER_RUNTIME_DIR: runtime,
          JUPYTERLAB_SETTINGS_DIR: join(folder, "settings"),
          JUPYTERLAB_WORKSPACES_DIR: join(folder, "workspaces"),
          ARONNAX_RUNTIME_DIR: join(folder, "aronnax"),
          // The runtime outlives its kernels, but not the tests.
          ARONNAX_RUNTIME_IDLE_SECONDS: "10",
        },
      },
    );
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        log += chunk.toString();
      });
    }
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < deadline && child.exitCode === null) {
      const url = await addressIn(runtime);
      if (url && (await answers(url, token))) {
        return new LabServer(child, folder, served, url, token, () => log);
      }
      await wait(50);
    }
    child.kill("SIGKILL");
    throw new Error(`JupyterLab did not start within ${START_TIMEOUT_MS / 1000} s:\n${log}`);
  }

  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    /** The folder that is served. */
    readonly root: string,
    readonly url: string,
    readonly token: string,
    private readonly readLog: () => string,
  ) {}

  /** What the server has printed so far. */
  get log(): string {
    return this.readLog();
  }

  /** The address of a file, or of none, in a workspace of its own, so that tests do not see each other's layout. */
  address(workspace: string, path: string): string {
    return `${this.url}lab/workspaces/${workspace}${path === "" ? "" : `/tree/${path}`}?token=${this.token}`;
  }

  /** Writes a notebook, for the Aronnax kernel unless another is named. */
  async writeNotebook(
    path: string,
    cells: readonly string[],
    kernel = { name: "aronnax", language: "typescript" },
  ): Promise<void> {
    await writeFile(
      join(this.root, path),
      JSON.stringify({
        nbformat: 4,
        nbformat_minor: 5,
        metadata: {
          kernelspec: { ...kernel, display_name: kernel.name },
          language_info: { name: kernel.language },
        },
        cells: cells.map((source, i) => ({
          id: `cell-${i}`,
          cell_type: "code",
          source,
          metadata: {},
          outputs: [],
          execution_count: null,
        })),
      }),
    );
  }

  /** Calls the server's REST API. */
  async api(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`${this.url}api/${path}`, { ...init, headers: { Authorization: `token ${this.token}` } });
  }

  /** Changes the user's settings of a plugin, which a page reads when it is opened. */
  async changeSettings(plugin: string, settings: object): Promise<void> {
    const response = await fetch(`${this.url}lab/api/settings/${plugin}`, {
      method: "PUT",
      headers: { Authorization: `token ${this.token}`, "Content-Type": "application/json" },
      body: JSON.stringify({ raw: JSON.stringify(settings) }),
    });
    if (!response.ok) {
      throw new Error(`The settings of ${plugin} were refused: ${response.status} ${await response.text()}`);
    }
  }

  /** Ends all sessions, and their kernels with them. */
  async shutDownKernels(): Promise<void> {
    const sessions = (await (await this.api("sessions")).json()) as { id: string }[];
    await Promise.all(sessions.map(({ id }) => this.api(`sessions/${id}`, { method: "DELETE" })));
  }

  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    if (this.child.exitCode === null) {
      this.child.kill("SIGTERM");
      const timer = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
      await gone;
      clearTimeout(timer);
    }
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function addressIn(runtime: string): Promise<string | undefined> {
  const files = existsSync(runtime) ? await readdir(runtime) : [];
  const file = files.find((name) => /^jpserver-\d+\.json$/.test(name));
  if (!file) {
    return undefined;
  }
  try {
    return (JSON.parse(await readFile(join(runtime, file), "utf8")) as { url: string }).url;
  } catch {
    return undefined; // half written
  }
}

async function answers(url: string, token: string): Promise<boolean> {
  const response = await fetch(`${url}api/status`, { headers: { Authorization: `token ${token}` } }).catch(
    () => null,
  );
  return response?.ok ?? false;
}
