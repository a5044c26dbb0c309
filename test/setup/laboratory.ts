// A laboratory in miniature: the real set-up scripts on lock files that name next to nothing, in a folder of its own.
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A Python that is known to be good: that of the real `.venv`. */
export const goodPython = join(repository, ".venv", "bin", "python");

export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Waits for a process to end. */
export function outcome(child: ChildProcess): Promise<Outcome> {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, stdout, stderr }));
  });
}

const WHEEL = `
import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    info = "nautilus-1.0.dist-info/"
    files = {
        "nautilus.bin": os.urandom(4_000_000),
        info + "METADATA": "Metadata-Version: 2.1\\nName: nautilus\\nVersion: 1.0\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        info + "RECORD": "",
    }
    for name, content in files.items():
        wheel.writestr(name, content)
`;

/** The one package that the lock file of a Laboratory may name: a wheel of 4 MB. */
export const WHEEL_FILE = "nautilus-1.0-py3-none-any.whl";

export class Laboratory {
  readonly folder = mkdtempSync(join(tmpdir(), "aronnax-setup-"));
  readonly root = join(this.folder, "repository");
  readonly home = join(this.folder, "home");
  /** The only folder on the PATH. */
  readonly bin = join(this.folder, "bin");
  /** Where pip finds the wheel. */
  readonly wheels = join(this.folder, "wheels");
  readonly env: NodeJS.ProcessEnv;

  constructor() {
    for (const folder of [this.root, this.home, this.bin, this.wheels]) mkdirSync(folder);
    cpSync(join(repository, "jupyter-config"), join(this.root, "jupyter-config"), { recursive: true });
    this.write("package.json", {
      name: "miniature",
      version: "1.0.0",
      scripts: { build: "mkdir -p core/dist kernel/dist lab-extension/labextension" },
    });
    this.write("package-lock.json", {
      name: "miniature",
      version: "1.0.0",
      lockfileVersion: 3,
      packages: { "": { name: "miniature", version: "1.0.0" } },
    });
    this.write("tsconfig.base.json", {});
    this.requirements("");
    for (const tool of ["sh", "mkdir", "npm"]) this.tool(tool);
    symlinkSync(process.execPath, join(this.bin, "node"));
    symlinkSync(goodPython, join(this.bin, "python3"));
    // Nothing of the machine that runs the test: neither its settings nor its caches.
    this.env = {
      PATH: this.bin,
      HOME: this.home,
      npm_config_cache: join(this.home, "npm"),
      PIP_CACHE_DIR: join(this.home, "pip"),
      PIP_NO_INDEX: "1",
      PIP_FIND_LINKS: this.wheels,
    };
  }

  /** Puts a tool of this machine on the PATH. */
  tool(name: string): void {
    const found = (process.env.PATH ?? "")
      .split(":")
      .map((folder) => join(folder, name))
      .find((path) => existsSync(path));
    if (found === undefined) throw new Error(`${name} is not on the PATH`);
    symlinkSync(realpathSync(found), join(this.bin, name));
  }

  write(name: string, content: unknown): void {
    writeFileSync(join(this.root, name), `${JSON.stringify(content, null, 2)}\n`);
  }

  requirements(text: string): void {
    mkdirSync(join(this.root, "runtime", "requirements"), { recursive: true });
    for (const name of ["python.txt", "cuda.txt"]) {
      writeFileSync(join(this.root, "runtime", "requirements", name), name === "python.txt" ? text : "");
    }
  }

  /** Makes the lock file name the wheel, and the wheel. */
  requireWheel(): void {
    const path = join(this.wheels, WHEEL_FILE);
    execFileSync(goodPython, ["-c", WHEEL, path]);
    const sha256 = createHash("sha256").update(readFileSync(path)).digest("hex");
    this.requirements(`nautilus==1.0 --hash=sha256:${sha256}\n`);
  }

  /** Makes the lock file of npm name a package that is in no cache. */
  requireNodePackage(): void {
    const dependencies = { "left-pad": "1.3.0" };
    this.write("package.json", { name: "miniature", version: "1.0.0", dependencies });
    this.write("package-lock.json", {
      name: "miniature",
      version: "1.0.0",
      lockfileVersion: 3,
      packages: {
        "": { name: "miniature", version: "1.0.0", dependencies },
        "node_modules/left-pad": { version: "1.3.0", integrity: `sha512-${"A".repeat(86)}==` },
      },
    });
  }

  /** The environment in which pip asks an index at a port of this machine. */
  withIndex(port: number): NodeJS.ProcessEnv {
    const { PIP_NO_INDEX: _none, PIP_FIND_LINKS: _wheels, ...env } = this.env;
    return { ...env, PIP_INDEX_URL: `http://127.0.0.1:${port}/simple` };
  }

  /** Puts a Python on the PATH that says of itself what `patch` (Python code) makes it say. */
  replacePython(patch: string): void {
    const script = `import platform, sys; sys.argv.pop(0); ${patch}; exec(sys.argv[1])`;
    const path = join(this.bin, "python3");
    rmSync(path);
    writeFileSync(path, `#!/bin/sh\nexec "${goodPython}" -c '${script}' "$@"\n`);
    chmodSync(path, 0o755);
  }

  /** Starts one of the scripts: `setup.mjs` or `lab.mjs`. */
  start(args: string[] = ["setup.mjs"], options: SpawnOptions = {}): ChildProcess {
    const [script = "", ...rest] = args;
    return spawn(process.execPath, [join(this.root, "jupyter-config", script), ...rest], {
      cwd: this.root,
      env: this.env,
      stdio: ["ignore", "pipe", "pipe"],
      ...options,
    });
  }

  run(args?: string[], options?: SpawnOptions): Promise<Outcome> {
    return outcome(this.start(args, options));
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
