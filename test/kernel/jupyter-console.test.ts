import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { repository } from "./client.js";

it("works in jupyter console: results, incomplete input, completion, errors, input, interrupt, exit", async () => {
  const folder = mkdtempSync(join(tmpdir(), "aronnax-console-"));
  const binaries = join(repository, ".venv", "bin");
  const env = {
    ...process.env,
    TERM: "xterm",
    JUPYTER_CONFIG_DIR: join(folder, "config"),
    JUPYTER_DATA_DIR: join(folder, "data"),
    JUPYTER_RUNTIME_DIR: folder,
    IPYTHONDIR: join(folder, "ipython"),
  };
  try {
    const { stdout } = await promisify(execFile)(
      join(binaries, "python"),
      [join(repository, "test/kernel/jupyter_console.py"), join(binaries, "jupyter"), "aronnax"],
      { env, cwd: folder },
    );
    expect(stdout).toContain("Out[9]: 6");
    // Kernel and checker have ended with the console.
    expect(readdirSync(folder).filter((name) => name.startsWith("kernel-"))).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 300_000);
