import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parentPort, workerData } from "node:worker_threads";
import { LanguageServerChecker } from "../checker/language-server.js";
import type { WorkerSetup } from "../link.js";
import { log } from "../log.js";
import { readSettings } from "../notebook-settings.js";
import { readConnectionFile } from "../protocol/connection.js";
import { filterWarnings } from "../warnings.js";
import { watchParent } from "./parent-process.js";
import { KernelServer } from "./server.js";
import { Sockets } from "./sockets.js";

/** The messaging thread: sockets, protocol, checker, history and metrics. */
const setup = workerData as WorkerSetup;
if (!parentPort) throw new Error("the messaging thread must be started by kernel/dist/main.js");

filterWarnings((text) => log(text.trimEnd()));
// A fault here must not take the notebook's state with it.
process.on("unhandledRejection", (error) => log(`an error was not handled: ${described(error)}`));
process.on("uncaughtException", (error) => log(`an error was not handled: ${described(error)}`));

const packageFolder = resolve(dirname(fileURLToPath(import.meta.url)), "..", "..");
const { version } = JSON.parse(readFileSync(resolve(packageFolder, "package.json"), "utf8")) as {
  version: string;
};

const settings = readSettings(process.cwd());
const server = new KernelServer({
  sockets: new Sockets(readConnectionFile(setup.connectionFile)),
  checker: new LanguageServerChecker(process.cwd(), resolve(packageFolder, ".."), settings),
  settings,
  shared: new Int32Array(setup.shared),
  main: parentPort,
  input: setup.input,
  heapLimit: setup.heapLimit,
  version,
});
try {
  await server.start();
  watchParent(() => void server.shutdown());
} catch (error) {
  log(
    `the sockets of ${setup.connectionFile} cannot be opened: ${error instanceof Error ? error.message : error}`,
  );
  await server.shutdown(1);
}

function described(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
