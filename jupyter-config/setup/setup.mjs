// Everything between a fresh clone and a working laboratory, each step only where its inputs changed.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { run, stopChildren } from "./child.mjs";
import { explain, SetupError } from "./failure.mjs";
import { release, reserve, startedChild } from "./one-at-a-time.mjs";
import { findPython, namedPython } from "./python.mjs";
import { at, cache, kernelNode, repository, sitePackages, venv, venvPython } from "./repository.mjs";
import { keyOf, readStamp, removeStamp, writeStamp } from "./stamps.mjs";
import { Log, Step, seconds } from "./steps.mjs";

/**
 * @typedef {object} Task
 * @property {string} title
 * @property {number} gigabytes that its result takes, with what is unpacked on the way
 * @property {number} usual seconds that it takes on two idle processors and a quick network
 * @property {string} from what it waits for
 * @property {() => boolean} pending whether it has anything to do
 * @property {(step: Step, run: Runner) => Promise<string>} perform returns what is there now
 *
 * @typedef {(command: string, args: string[], onLine?: (line: string) => void) => Promise<void>} Runner
 */

/** npm as it was called, or from the PATH. @type {(args: string[]) => [string, string[]]} */
function npm(args) {
  const cli = process.env.npm_execpath;
  return cli?.endsWith("npm-cli.js") ? [process.execPath, [cli, ...args]] : ["npm", args];
}

/** @type {Task} */
const nodePackages = {
  title: "Node packages",
  gigabytes: 0.9,
  usual: 25,
  from: "the package server",
  pending: () => readStamp(nodeStamp) !== nodeKey(),
  async perform(step, run) {
    const total = lockedPackages();
    const found = new Set();
    const fetched = new Set();
    // npm tells of its progress only through its requests: one finds a package, a second brings its archive.
    const options = ["--include=dev", "--ignore-scripts", "--loglevel=http", "--no-audit", "--no-fund"];
    const patience = ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=8000"];
    await run(...npm(["ci", ...options, ...patience]), (line) => {
      const url = /\bhttp (?:fetch|cache) (?:GET \d+ )?(\S+)/.exec(line)?.[1];
      if (url?.includes(".tgz")) step.progress(`${fetched.add(url).size} of ${total} fetched`);
      else if (url) step.progress(`${found.add(url).size} of ${total} found`);
    });
    mkdirSync(dirname(nodeStamp), { recursive: true });
    writeStamp(nodeStamp, nodeKey());
    return `${total} packages`;
  },
};
const nodeStamp = at("node_modules", ".aronnax-stamp");
const nodeKey = () => keyOf({ files: [at("package-lock.json")], values: [process.platform, process.arch] });

/** How many packages the lock file names for this machine. */
function lockedPackages() {
  /** @type {{ packages: Record<string, { link?: boolean, os?: string[], cpu?: string[] }> }} */
  const lock = JSON.parse(readFileSync(at("package-lock.json"), "utf8"));
  return Object.entries(lock.packages).filter(
    ([path, { link, os, cpu }]) =>
      path.includes("node_modules/") &&
      !link &&
      (!os || os.includes(process.platform)) &&
      (!cpu || cpu.includes(process.arch)),
  ).length;
}

const pythonLock = at("runtime", "requirements", "python.txt");
const cudaLock = at("runtime", "requirements", "cuda.txt");
const pythonStamp = join(venv, ".aronnax-python");
const namedStamp = join(venv, ".aronnax-named-python");
const cudaStamp = join(venv, ".aronnax-cuda");
const UNFINISHED = "unfinished";

// Moving the folder breaks an environment (its scripts name their Python), so the place is part of the key.
const pythonKey = () => keyOf({ files: [pythonLock], values: [venv] });
const cudaKey = () => keyOf({ files: [cudaLock, pythonLock] });

/** @type {Task} */
const pythonPackages = {
  title: "Python and JupyterLab",
  gigabytes: 1.6,
  usual: 45,
  from: "the package server",
  pending: () =>
    readStamp(pythonStamp) !== pythonKey() ||
    !existsSync(venvPython) ||
    (namedPython() !== undefined && namedPython() !== readStamp(namedStamp)),
  async perform(step, run) {
    step.progress("looking for a Python");
    const python = await findPython();
    step.progress(`Python ${python.version}: making .venv`);
    // A run that was killed may leave packages without their records, which pip cannot mend.
    rmSync(venv, { recursive: true, force: true });
    mkdirSync(venv);
    writeStamp(pythonStamp, UNFINISHED);
    // Apart from venv, for venv keeps to itself what ensurepip says when it fails.
    await run(python.path, ["-m", "venv", "--without-pip", venv]);
    await run(venvPython, ["-m", "ensurepip"]);
    await install(pythonLock, `Python ${python.version}`, step, run);
    writeStamp(namedStamp, namedPython() ?? "");
    writeStamp(pythonStamp, pythonKey());
    return `Python ${python.version}, ${installed()} packages`;
  },
};

/** @type {Task} */
const cudaPackages = {
  title: "CUDA plugin",
  gigabytes: 6,
  usual: 120,
  from: "the package server",
  pending: () => readStamp(cudaStamp) !== cudaKey() && driverAnswers(),
  async perform(step, run) {
    const before = installed();
    removeStamp(cudaStamp);
    await install(cudaLock, "for the NVIDIA driver", step, run);
    writeStamp(cudaStamp, cudaKey());
    return `${installed() - before} packages`;
  },
};

/** Whether an NVIDIA driver answers; asked only where its tool is on the PATH, for it can take a second. */
function driverAnswers() {
  return spawnSync("nvidia-smi", ["-L"], { timeout: 20_000 }).status === 0;
}

/**
 * Installs exactly what a lock file names.
 * @param {string} lock
 * @param {string} heading
 * @param {Step} step
 * @param {Runner} run
 */
async function install(lock, heading, step, run) {
  const total = readFileSync(lock, "utf8").match(/^[a-z].*==/gm)?.length ?? 0;
  let collected = 0;
  const before = installed();
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const options = [
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--no-input",
    "--progress-bar=off",
  ];
  try {
    await run(
      venvPython,
      ["-m", "pip", "install", "--disable-pip-version-check", "--retries=3", ...options, "-r", lock],
      (line) => {
        if (/^(Collecting|Processing) /.test(line))
          step.progress(`${heading}: ${++collected} of at most ${total} fetched`);
        if (line.startsWith("Installing collected")) {
          timer = setInterval(
            () => step.progress(`${heading}: ${installed() - before} of ${collected} installed`),
            500,
          );
        }
      },
    );
  } finally {
    clearInterval(timer);
  }
}

/** How many packages `.venv` holds. */
function installed() {
  const folder = sitePackages();
  return folder && existsSync(folder)
    ? readdirSync(folder).filter((name) => name.endsWith(".dist-info")).length
    : 0;
}

const buildStamp = join(cache, "build-stamp");
const built = [at("core", "dist"), at("kernel", "dist"), at("lab-extension", "labextension")];
const buildKey = () =>
  keyOf({
    files: [at("package.json"), at("package-lock.json"), at("tsconfig.base.json")],
    packages: [at("core"), at("kernel"), at("lab-extension")],
  });

/** @type {Task} */
const build = {
  title: "Build",
  gigabytes: 0.1,
  usual: 6,
  from: "the compilers",
  pending: () => readStamp(buildStamp) !== buildKey() || !built.every((folder) => existsSync(folder)),
  async perform(step, run) {
    removeStamp(buildStamp);
    step.progress("core, kernel, lab-extension");
    await run(...npm(["run", "build"]));
    writeStamp(buildStamp, buildKey());
    return "core, kernel, lab-extension";
  },
};

/**
 * The files that make Jupyter know the kernel and the settings, each with its content.
 * @returns {[string, string][]}
 */
function jupyterFiles() {
  const kernelspec = readFileSync(at("jupyter-config", "kernel.json"), "utf8")
    .replaceAll("{node}", kernelNode())
    .replaceAll("{repository}", repository);
  const copy = /** @param {string} name */ (name) => readFileSync(at("jupyter-config", name), "utf8");
  return [
    [join(venv, "share/jupyter/kernels/aronnax/kernel.json"), kernelspec],
    [join(venv, "share/jupyter/kernels/aronnax/logo-svg.svg"), copy("logo-svg.svg")],
    [join(venv, "share/jupyter/lab/settings/overrides.json"), copy("overrides.json")],
    [join(venv, "etc/jupyter/jupyter_server_config.json"), copy("server.json")],
    // The scripts that JupyterLab gives to Node are CommonJS; without this they would count as modules of this repository.
    [join(venv, "package.json"), '{ "type": "commonjs" }\n'],
  ];
}

// A link, as `jupyter labextension develop` makes it: a rebuilt extension is there after a reload of the page.
const extension = join(venv, "share/jupyter/labextensions/@aronnax/lab");
const extensionTarget = relative(dirname(extension), at("lab-extension", "labextension"));

/** @type {Task} */
const jupyter = {
  title: "Kernel and extension",
  gigabytes: 0.01,
  usual: 1,
  from: "the disk",
  pending: () =>
    !isLink(extension, extensionTarget) ||
    jupyterFiles().some(([path, content]) => !existsSync(path) || readFileSync(path, "utf8") !== content),
  async perform() {
    for (const [path, content] of jupyterFiles()) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
    }
    rmSync(extension, { recursive: true, force: true });
    mkdirSync(dirname(extension), { recursive: true });
    symlinkSync(extensionTarget, extension);
    return ".venv/share/jupyter";
  },
};

/**
 * @param {string} path
 * @param {string} target
 */
function isLink(path, target) {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isSymbolicLink() === true && readlinkSync(path) === target;
}

const TASKS = [nodePackages, pythonPackages, cudaPackages, build, jupyter];

/** @param {Task[]} tasks that are to be done */
async function requireSpace(tasks) {
  const needed = tasks.reduce((sum, { gigabytes }) => sum + gigabytes, 0);
  const { bavail, bsize } = await statfs(repository);
  const free = (bavail * bsize) / 1e9;
  if (free >= needed) return;
  throw new SetupError(
    `The disk is full: the set-up needs about ${needed.toFixed(1)} GB in ${repository}, where ${free.toFixed(1)} GB are free.`,
    "Free some space, then run the command again.",
  );
}

/**
 * Does what is to be done.
 * @throws {SetupError} with one line for the user
 */
export async function setUp() {
  if (process.platform === "win32") {
    throw new SetupError(
      "Windows itself is not supported.",
      "Use WSL 2 (`wsl --install`), and clone the repository there.",
    );
  }
  const started = performance.now();
  process.chdir(repository);
  const log = new Log(join(cache, "setup.log"));
  // A pipe makes Python keep its lines back, and they are the progress.
  const env = { ...process.env, PYTHONUNBUFFERED: "1" };
  let doing = "Set-up";
  try {
    const first = TASKS.filter((task) => task.pending());
    if (first.length === 0) return;
    mkdirSync(cache, { recursive: true });
    reserve();
    writeFileSync(
      log.path,
      `${new Date().toISOString()} Node ${process.version} ${process.platform} ${process.arch}\n`,
    );
    await requireSpace(first);
    const usual = first.reduce((sum, task) => sum + task.usual, 0);
    process.stdout.write(
      `Setting up: about ${usual} s on two idle processors and a quick network, more where others use them.\n`,
    );
    for (const [index, task] of TASKS.entries()) {
      // Asked again: what an earlier step made (a new .venv) may give a later one something to do.
      if (!task.pending()) continue;
      doing = task.title;
      const step = new Step(`[${index + 1}/${TASKS.length}]`, task.title, "", task);
      try {
        const detail = await task.perform(step, (command, args, onLine) =>
          run(command, args, { cwd: repository, env, log, onLine, onStart: startedChild }),
        );
        step.done(detail);
      } catch (error) {
        step.failed();
        throw error;
      }
    }
    process.stdout.write(`Set up in ${seconds(performance.now() - started)}.\n`);
  } catch (error) {
    throw explain(error, doing, relative(repository, log.path)) ?? error;
  } finally {
    release();
  }
}

/** Ends the set-up on Ctrl-C without leaving npm or pip behind. */
export function stopOnSignals() {
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    process.on(signal, () => {
      stopChildren();
      release();
      process.stderr.write("\nStopped. The next run goes on from here.\n");
      process.exit(130);
    });
  }
}

/**
 * Runs the set-up and shows a failure with a known cause as one line.
 * @returns {Promise<boolean>} whether all is there
 */
export async function setUpOrExplain() {
  try {
    await setUp();
    return true;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return false;
  }
}

/** `npm run setup` */
export async function main() {
  stopOnSignals();
  return (await setUpOrExplain()) ? 0 : 1;
}
