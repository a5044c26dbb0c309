import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { InvalidArgument } from "../../core/src/runtime/errors.js";
import type { Runtime } from "../../core/src/runtime/runtime.js";
import { getShard, putShards } from "../../core/src/runtime/shards.js";
import { startProfile, stopProfile, subscribeTelemetry } from "../../core/src/runtime/telemetry.js";
import type { TelemetrySample } from "../../core/src/runtime/types.js";
import { addProgram, floats, privateFolder, startRuntime, stopAll, until } from "./support.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });

describe("what the runtime tells besides", () => {
  let runtime: Runtime;

  beforeAll(async () => {
    ({ runtime } = await startRuntime("cpu:4"));
  });
  afterAll(stopAll);

  it("sends telemetry until it is told to stop, with no figures of GPUs that are not there", async () => {
    const samples: TelemetrySample[] = [];
    const stop = await subscribeTelemetry(runtime, (sample) => samples.push(sample), 10);
    await until(() => samples.length >= 5);
    stop();
    await runtime.ping();
    const { length } = samples;
    await sleep(300);
    expect(samples.length).toBe(length);
    const last = samples.at(-1)!;
    expect(last.time - samples[0]!.time).toBeGreaterThan(350);
    expect(last.host.cpuUtilization).toBeGreaterThanOrEqual(0);
    expect(last.host.cpuUtilization).toBeLessThanOrEqual(1);
    expect(last.host.processBytes).toBeGreaterThan(50e6);
    expect(last.host.totalBytes).toBeGreaterThan(last.host.availableBytes);
    expect(last.devices).toEqual([{ id: 0 }, { id: 1 }, { id: 2 }, { id: 3 }]);
    await expect(subscribeTelemetry(runtime, () => {}, 1000)).rejects.toThrow(InvalidArgument);
  });

  it("takes a profile of what runs", async () => {
    const folder = path.join(privateFolder(), "profile");
    await expect(stopProfile(runtime)).rejects.toThrow(/no profile/);
    await startProfile(runtime, folder);
    await expect(startProfile(runtime, folder)).rejects.toThrow(/being taken/);
    const program = runtime.compile({ text: addProgram([64]), outputs: [f32([64]), f32([])] });
    const a = runtime.put(new Float32Array(64), f32([64]));
    for (let i = 0; i < 10; i++) runtime.execute(program, [a, a]);
    const files = await stopProfile(runtime);
    const trace = files.find((file) => file.endsWith(".xplane.pb"));
    expect(trace).toBeDefined();
    expect(fs.statSync(trace!).size).toBeGreaterThan(1000);
  });

  it("gives the optimized HLO of a program", async () => {
    const program = runtime.compile({ text: addProgram([4]), outputs: [f32([4]), f32([])] });
    expect(await program.optimizedHlo()).toContain("HloModule add");
  });

  it("puts and gets an array part by part", async () => {
    const sharding = {
      mesh: [
        ["x", 2],
        ["y", 2],
      ] as [string, number][],
      spec: [["x"], null],
    };
    const top = Float32Array.of(1, 2, 3);
    const bottom = Float32Array.of(4, 5, 6);
    const buffer = putShards(runtime, [top, top, bottom, bottom], { ...f32([2, 3]), sharding });
    expect(await floats(runtime, buffer)).toEqual([1, 2, 3, 4, 5, 6]);
    const { data, index } = await getShard(runtime, buffer, 3);
    expect([...new Float32Array(data.buffer)]).toEqual([4, 5, 6]);
    expect(index).toEqual([
      [1, 2],
      [0, 3],
    ]);
    const short = putShards(runtime, [top, top, bottom], { ...f32([2, 3]), sharding });
    await expect(runtime.get(short)).rejects.toThrow(/takes 48 bytes, but 36 came/);
    const single = runtime.put(top, f32([3]));
    await expect(getShard(runtime, single, 2)).rejects.toThrow(/no part on device 2/);
    await runtime.sync().catch(() => {});
  });
});
