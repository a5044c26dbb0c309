// Which Python `.venv` is made of.
import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { SetupError } from "./failure.mjs";
import { venv } from "./repository.mjs";

const OLDEST = 11;
/** Minor versions of Python 3 that are tested, the best first; newer ones are taken where none of these is found. */
const TESTED = [13, 12, 11];

/** Runs in the candidate: a version alone says nothing of a Debian Python without venv, or of a shim without a Python. */
const PROBE = `
import importlib, json, platform, struct, sys
lacking = []
for name in ("venv", "ensurepip", "ssl"):
  try: importlib.import_module(name)
  except ImportError: lacking.append(name)
print(json.dumps({"path": sys.executable, "version": platform.python_version(), "minor": sys.version_info[:2],
  "lacking": lacking, "bits": struct.calcsize("P") * 8}))`;

/**
 * @typedef {object} Python
 * @property {string} path
 * @property {string} version
 * @property {[number, number]} minor
 * @property {string[]} lacking modules without which no environment can be made
 * @property {number} bits
 */

/**
 * @param {string} command a name on the PATH, or a path
 * @returns {Promise<Python | undefined>} undefined where it does not run
 */
async function probe(command) {
  try {
    const { stdout } = await promisify(execFile)(command, ["-c", PROBE], { timeout: 20_000 });
    return JSON.parse(stdout);
  } catch {
    return undefined;
  }
}

/** @param {Python} python */
const recent = ({ minor: [major, minor] }) => major > 3 || (major === 3 && minor >= OLDEST);

/** @param {Python} python */
const suitable = (python) => recent(python) && python.lacking.length === 0 && python.bits === 64;

/**
 * Lower is better.
 * @param {Python} python
 */
function rank({ minor: [, minor] }) {
  const place = TESTED.indexOf(minor);
  return place === -1 ? TESTED.length + minor : place;
}

async function candidates() {
  const versions = join(process.env.PYENV_ROOT ?? join(homedir(), ".pyenv"), "versions");
  const pyenv = await readdir(versions).catch(() => []);
  return [
    ...TESTED.map((minor) => `python3.${minor}`),
    "python3",
    "python",
    ...pyenv.map((version) => join(versions, version, "bin", "python")),
  ];
}

/** @param {Python} python what is wrong with it */
function refusal(python) {
  const [major, minor] = python.minor;
  const it = `Python ${python.version} (${python.path})`;
  const orOther = "or name another Python in ARONNAX_PYTHON.";
  if (!recent(python)) {
    return new SetupError(
      `${it} is too old: Aronnax needs Python 3.${OLDEST} or newer.`,
      `Install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13), ${orOther}`,
    );
  }
  if (python.bits !== 64)
    return new SetupError(`${it} is a 32-bit build.`, `Install a 64-bit Python, ${orOther}`);
  return new SetupError(
    `${it} lacks ${python.lacking.join(" and ")}, so no environment can be made with it.`,
    `Install it (Debian, Ubuntu: apt-get install python${major}.${minor}-venv), ${orOther}`,
  );
}

/** The Python that ARONNAX_PYTHON names, if any. That of `.venv` itself is for the runtime: none can be made of it. */
export function namedPython() {
  const named = process.env.ARONNAX_PYTHON;
  return named && !resolve(named).startsWith(`${venv}/`) ? named : undefined;
}

/**
 * The newest suitable Python: the one that is named, else the best on the PATH and in pyenv.
 * @returns {Promise<Python>} rejects with SetupError
 */
export async function findPython() {
  const named = namedPython();
  if (named) {
    const python = await probe(named);
    if (!python)
      throw new SetupError(`ARONNAX_PYTHON names ${named}, which does not run.`, "Correct or unset it.");
    if (!suitable(python)) throw refusal(python);
    return python;
  }
  const found = (await Promise.all((await candidates()).map(probe))).filter((python) => python !== undefined);
  const best = found.filter(suitable).sort((a, b) => rank(a) - rank(b))[0];
  if (best) return best;
  const nearest = found.sort((a, b) => b.minor[0] - a.minor[0] || b.minor[1] - a.minor[1])[0];
  if (nearest) throw refusal(nearest);
  throw new SetupError(
    "No Python was found.",
    "Install Python 3.11 or newer (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13).",
  );
}
