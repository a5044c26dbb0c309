import { execFileSync } from "node:child_process";
import { beforeAll, describe, expect, it } from "vitest";
import { pythonCommand, runtimePackage } from "../../core/src/runtime/locate.js";

const GiB = 2 ** 30;

/** GPUs with so much free and in all, who holds the rest, and what the user has set. */
interface Case {
  memory: [free: number, total: number][];
  holders?: [pid: number, bytes: number | null][];
  env?: Record<string, string>;
}

/** What `take_share` makes of it. */
interface Share {
  share?: number;
  note?: string;
  error?: string;
  fix?: string;
}

// No GPU is needed: what NVML says is given.
const script = `import json, os, sys
from aronnax_runtime import devicememory
from aronnax_runtime.errors import Fault
devicememory._PATIENCE = 0
class Gpus:
    def __init__(self, case): self.case = case
    def memory(self): return [tuple(pair) for pair in self.case["memory"]]
    def holders(self, position): return [tuple(pair) for pair in self.case.get("holders", [])]
found = {}
for name, case in json.load(sys.stdin).items():
    for variable in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        os.environ.pop(variable, None)
    os.environ.update(case.get("env", {}))
    try:
        note = devicememory.take_share(Gpus(case))
        assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ
        found[name] = {"note": note, "share": float(os.environ["XLA_CLIENT_MEM_FRACTION"])}
    except Fault as fault:
        found[name] = {"error": f"{type(fault).__name__}: {fault.message}", "fix": fault.fix}
print(json.dumps(found))`;

const empty: [number, number] = [79 * GiB, 80 * GiB];
const cases = {
  default: { memory: [empty, empty] },
  old: { memory: [empty], env: { XLA_PYTHON_CLIENT_MEM_FRACTION: "0.9" } },
  new: { memory: [empty], env: { XLA_CLIENT_MEM_FRACTION: "0.5" } },
  both: {
    memory: [empty],
    env: { XLA_CLIENT_MEM_FRACTION: "0.5", XLA_PYTHON_CLIENT_MEM_FRACTION: "0.9" },
  },
  silent: { memory: [[0, 0]] },
  shared: {
    memory: [empty, [20 * GiB, 80 * GiB]],
    holders: [
      [process.pid, 59 * GiB],
      [2 ** 22 + 1, null],
    ],
  },
  full: { memory: [[1 * GiB, 80 * GiB]] },
  text: { memory: [empty], env: { XLA_CLIENT_MEM_FRACTION: "lots" } },
  nothing: { memory: [empty], env: { XLA_CLIENT_MEM_FRACTION: "0" } },
} satisfies Record<string, Case>;

describe("the share of the GPUs' memory that the runtime takes", () => {
  let found: Record<keyof typeof cases, Share>;

  beforeAll(() => {
    const output = execFileSync(pythonCommand(), ["-c", script], {
      env: { ...process.env, PYTHONPATH: runtimePackage() },
      input: JSON.stringify(cases),
      encoding: "utf8",
      stdio: ["pipe", "pipe", "ignore"],
    });
    found = JSON.parse(output) as typeof found;
  });

  it("is what the user says, under either name, where so much is free", () => {
    expect(found.default).toEqual({ note: "", share: 0.85 });
    expect(found.old).toEqual({ note: "", share: 0.9 });
    expect(found.new).toEqual({ note: "", share: 0.5 });
    // jaxlib does not start with both.
    expect(found.both).toEqual({ note: "", share: 0.5 });
    // An NVML that does not say leaves it to XLA.
    expect(found.silent).toEqual({ note: "", share: 0.85 });
  });

  it("is no more than fits beside what another process holds on any of them, and says who", () => {
    const { share, note } = found.shared;
    expect(share).toBeCloseTo(18.5 / 80, 3);
    expect(note).toContain("20.0 of 80.0 GiB of GPU 1 were free");
    expect(note).toContain(`process ${process.pid} (`);
    expect(note).toContain("59.0 GiB)");
    expect(note).toContain("process 4194305 (unknown)");
  });

  it("is refused where next to nothing is free, or where it is none", () => {
    expect(found.full.error).toMatch(
      /OutOfDeviceMemory: too little memory is free: 1\.0 of 80\.0 GiB of GPU 0/,
    );
    expect(found.full.fix).toContain("ARONNAX_DEVICES");
    expect(found.text.error).toContain("InvalidArgument: XLA_CLIENT_MEM_FRACTION=lots is no share");
    expect(found.nothing.error).toContain("XLA_CLIENT_MEM_FRACTION=0 is no share");
  });
});
