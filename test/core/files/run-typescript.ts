import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const bundles = new Map<string, string>();

/** Runs TypeScript, which may import from `core/src`, in a process of its own. */
export async function runTypeScript(
  folder: string,
  source: string,
  options: { arguments?: string[]; command?: string[]; flags?: string[] } = {},
): Promise<ChildProcess> {
  const file = bundles.get(folder + source) ?? (await bundle(folder, source));
  const [program, ...before] = [...(options.command ?? []), process.execPath];
  return spawn(program!, [...before, ...(options.flags ?? []), file, ...(options.arguments ?? [])], {
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function bundle(folder: string, source: string): Promise<string> {
  const file = join(folder, `script-${bundles.size}.cjs`);
  await build({
    stdin: {
      contents: source,
      loader: "ts",
      resolveDir: fileURLToPath(new URL("../../../core/src", import.meta.url)),
    },
    bundle: true,
    platform: "node",
    format: "cjs",
    outfile: file,
    logLevel: "error",
  });
  bundles.set(folder + source, file);
  return file;
}

/** All that a process prints, and how it ended. */
export async function finished(
  child: ChildProcess,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  let stdout = "";
  let stderr = "";
  child.stdout!.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr!.on("data", (chunk) => {
    stderr += chunk;
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, stdout, stderr };
}
