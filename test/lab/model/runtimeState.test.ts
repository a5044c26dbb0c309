import { describe, expect, it } from "vitest";
import { holdersOf, readRuntimeState } from "../../../lab-extension/src/model/runtimeState.js";
import { recordedLines } from "../support/recordedRuntime.js";

describe("the runtime's state", () => {
  it("is read from what an H200 gave, whole", async () => {
    const states = (await recordedLines()).flatMap((line) => (line.type === "state" ? [line.state] : []));
    const read = states.map((state) => readRuntimeState(state as never)!);
    expect(read.at(-1)).toMatchObject({ running: false, lastExit: "stopped on request" });
    const last = read.findLast(({ running }) => running)!;
    expect(last.devices).toEqual([{ id: 0, kind: "NVIDIA H200", limit: 127_594_921_984 }]);
    // 8192 x 8192 float32 that a workspace keeps.
    const kept = holdersOf(last, 0).find(({ holder }) => holder.kind === "workspace");
    expect(kept).toMatchObject({ holder: { name: "kept", buffers: 1 }, bytes: 2 ** 28 });
    expect(last.programs.map(({ name }) => name)).toContain("train_step");
    const compiled = last.programs.filter(({ state }) => state === "compiled").map(({ seconds }) => seconds);
    expect(compiled).toEqual([...compiled].sort((a, b) => b - a));
    // What is compiled now comes first.
    const compiling = read.find(({ programs }) => programs.some(({ state }) => state === "compiling"));
    if (compiling) expect(compiling.programs[0]!.state).not.toBe("compiled");
  });

  it("of a message that says nothing, or something else, is nothing, and never throws", () => {
    for (const value of [null, undefined, 5, "running", []])
      expect(readRuntimeState(value as never)).toBeNull();
    const odd = readRuntimeState({
      running: true,
      devices: [null, { id: "x" }],
      holders: [{ kind: "ghost", devices: {} }, 7],
      programs: { name: 1 },
      activity: [],
      memory: "none",
      clients: [3, "a"],
    } as never)!;
    expect(odd).toMatchObject({
      running: true,
      clients: ["a"],
      programs: [],
      devices: [{ id: 0, kind: "" }],
      holders: [{ kind: "client", name: "", buffers: 0, devices: [] }],
    });
    expect(holdersOf(odd, 0)).toEqual([]);
  });
});
