// The browser of the browser tests: the distribution's, since playwright-core brings none.
import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { run } from "./child.mjs";
import { explain, SetupError } from "./failure.mjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** @param {string} name */
function onPath(name) {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The browser: CHROMIUM, else the first on the PATH. */
export function findChromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  return NAMES.map(onPath).find((path) => path !== undefined);
}

/** How this user may install packages: directly, through sudo without a password, or not at all. */
function privilege() {
  if (process.getuid?.() === 0) return [];
  if (onPath("sudo") && spawnSync("sudo", ["-n", "true"]).status === 0) return ["sudo", "-n"];
  return undefined;
}

/**
 * Finds Chromium, or installs it from the distribution where that is allowed.
 * @param {import("./steps.mjs").Log} log
 * @returns {Promise<string>} its path; rejects with SetupError
 */
export async function requireChromium(log) {
  const found = findChromium();
  if (found) return found;
  const prefix = onPath("apt-get") ? privilege() : undefined;
  if (prefix) {
    const [command, ...rest] = [...prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    const options = { cwd: "/", log };
    try {
      await run(command, [...rest, "update"], options);
      await run(command, [...rest, "install", "-y", "--no-install-recommends", "chromium"], options);
    } catch (error) {
      throw explain(error, "Chromium", log.path) ?? error;
    }
    const installed = findChromium();
    if (installed) return installed;
  }
  throw new SetupError(
    "The browser tests need Chromium, and it is not here.",
    "Install it (Debian, Ubuntu: sudo apt-get install chromium; macOS: brew install chromium), or name one in CHROMIUM.",
  );
}
