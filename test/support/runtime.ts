/** A runtime process of the test file's own: import this before anything computes. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll } from "vitest";
import { type CompileRequest, type Program, Runtime } from "../../core/src/runtime/runtime.js";

const directory = mkdtempSync(join(tmpdir(), "aronnax-test-"));
process.env.ARONNAX_RUNTIME_DIR = directory;
process.env.ARONNAX_DEVICES ??= "cpu";
// These tests compile thousands of tiny kernels and run each once: LLVM's effort would be most of their time.
process.env.XLA_FLAGS ??=
  "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1";
// Should the test process die, its runtime does not stay.
process.env.ARONNAX_RUNTIME_IDLE_SECONDS = "30";

/** The text of every module that this file has compiled. */
export const compiledModules = new Set<string>();

const compile = Runtime.prototype.compile;
Runtime.prototype.compile = function (this: Runtime, request: CompileRequest): Program {
  compiledModules.add(request.text);
  return compile.call(this, request);
};

let used = false;
const shared = Runtime.default;
Runtime.default = (): Runtime => {
  used = true;
  return shared.call(Runtime);
};

afterAll(async () => {
  if (used) {
    await Runtime.default().shutdown().catch(ignore);
    const note = join(directory, `${process.env.ARONNAX_DEVICES?.replaceAll(":", "-")}.exit.json`);
    for (let tries = 0; tries < 200 && !existsSync(note); tries++) await sleep(10);
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
});

function ignore(): void {}
