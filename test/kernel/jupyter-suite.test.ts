import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { kernelNode, repository } from "./client.js";

it("passes jupyter_kernel_test, the conformance suite of the Jupyter project, whole", async () => {
  const folder = mkdtempSync(join(tmpdir(), "aronnax-suite-"));
  const spec = join(folder, "kernels", "aronnax-under-test");
  mkdirSync(spec, { recursive: true });
  writeFileSync(
    join(spec, "kernel.json"),
    JSON.stringify({
      argv: [kernelNode(), join(repository, "kernel/dist/main.js"), "{connection_file}"],
      display_name: "TypeScript (under test)",
      language: "typescript",
      interrupt_mode: "message",
    }),
  );
  const python = join(repository, ".venv", "bin", "python");
  const env = {
    ...process.env,
    JUPYTER_PATH: folder,
    JUPYTER_DATA_DIR: join(folder, "data"),
    JUPYTER_RUNTIME_DIR: folder,
  };
  try {
    const { stderr } = await promisify(execFile)(python, [join(repository, "test/kernel/jupyter_suite.py")], {
      env,
    }).catch((error: { stderr: string }) => error);
    expect(stderr, stderr).toMatch(/Ran \d+ tests in .*\n\nOK\n$/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 300_000);
