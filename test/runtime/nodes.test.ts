import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RuntimeLost } from "../../core/src/runtime/errors.js";
import { pythonCommand, runtimePackage } from "../../core/src/runtime/locate.js";
import { Runtime, type Sharding } from "../../core/src/runtime/runtime.js";
import { floats, privateFolder, stopAll, until } from "./support.js";
import { frame, WireClient } from "./wire.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("two nodes of four devices", () => {
  const token = randomBytes(16).toString("hex");
  const children: ChildProcess[] = [];
  let directory: string;
  let port: number;
  let runtime: Runtime;

  beforeAll(async () => {
    directory = privateFolder();
    const coordinator = `127.0.0.1:${await freePort()}`;
    port = await freePort();
    process.env.ARONNAX_RUNTIME_TOKEN = token;
    for (const rank of [0, 1]) {
      const log = fs.openSync(path.join(directory, `start-${rank}.log`), "a");
      children.push(
        spawn(
          pythonCommand(),
          [
            ...["-P", "-m", "aronnax_runtime", "--directory", directory, "--devices", "cpu:4"],
            ...["--coordinator", coordinator, "--num-nodes", "2", "--node-rank", String(rank)],
            ...(rank === 1 ? ["--listen", `127.0.0.1:${port}`] : []),
          ],
          { stdio: ["ignore", log, log], env: { ...process.env, PYTHONPATH: runtimePackage() } },
        ),
      );
      fs.closeSync(log);
    }
    runtime = new Runtime({
      devices: "cpu:4",
      nodes: [{ path: path.join(directory, "cpu-4-node0.sock") }, { host: "127.0.0.1", port }],
    });
    await runtime.ready;
  });
  afterAll(async () => {
    delete process.env.ARONNAX_RUNTIME_TOKEN;
    await stopAll();
  });

  const sharding: Sharding = {
    mesh: [
      ["x", 4],
      ["y", 2],
    ],
    spec: [["y"], ["x"]],
  };

  it("are one set of devices", async () => {
    const { devices } = await runtime.ready;
    expect(devices.map(({ id, process }) => [id, process])).toEqual([
      ...[0, 1, 2, 3].map((id) => [id, 0]),
      ...[4, 5, 6, 7].map((id) => [id, 1]),
    ]);
  });

  it("run one program with a reduction across them", async () => {
    const t = "tensor<4x8xf32>";
    const text = `module @m { sdy.mesh @mesh = <["x"=4,"y"=2]>
      func.func public @main(%a: ${t} {sdy.sharding = #sdy.sharding<@mesh, [{"y"},{"x"}]>, tf.aliasing_output = 0 : i32})
        -> (${t} {sdy.sharding = #sdy.sharding<@mesh, [{"y"},{"x"}]>}, tensor<f32> {sdy.sharding = #sdy.sharding<@mesh, []>}) {
      %z = stablehlo.constant dense<0.0> : tensor<f32>
      %1 = stablehlo.reduce(%a init: %z) applies stablehlo.add across dimensions = [0, 1] : (${t}, tensor<f32>) -> tensor<f32>
      %b = stablehlo.broadcast_in_dim %1, dims = [] : (tensor<f32>) -> ${t}
      %0 = stablehlo.add %a, %b : ${t}
      return %0, %1 : ${t}, tensor<f32> } }`;
    const program = runtime.compile({
      text,
      devices: [0, 1, 2, 3, 4, 5, 6, 7],
      outputs: [{ ...f32([4, 8]), sharding }, f32([])],
    });
    let values = Array.from({ length: 32 }, (_, i) => i);
    let x = runtime.put(Float32Array.from(values), { ...f32([4, 8]), sharding });
    for (let i = 0; i < 3; i++) {
      const [next, total] = runtime.execute(program, [x]);
      const sum = values.reduce((a, b) => a + b);
      expect(await floats(runtime, total!)).toEqual([sum]);
      values = values.map((value) => value + sum);
      x = next!;
    }
    expect(await floats(runtime, x)).toEqual(values);
  });

  it("let nobody in without the token", async () => {
    for (const attempt of ["", "0".repeat(32), undefined]) {
      const stranger = new WireClient(port);
      await stranger.send(frame({ op: "hello", id: 0, protocol: 1, token: attempt }));
      await stranger.until(() => false);
      expect(stranger.replies[0]!.error!.message).toContain("token is wrong");
    }
  });

  it("take one client at a time", async () => {
    const second = new WireClient(port);
    await second.send(frame({ op: "hello", id: 0, protocol: 1, token }));
    await second.until(() => false);
    expect(second.replies[0]!.error!.message).toContain("another client drives");
  });

  it("are lost together", async () => {
    await runtime.get(runtime.put(new Float32Array(32), { ...f32([4, 8]), sharding }));
    const [pid] = /\d+/.exec(fs.readFileSync(path.join(directory, "cpu-4-node1.lock"), "utf8"))!;
    process.kill(Number(pid), "SIGKILL");
    await until(() => runtime.lost !== undefined);
    expect(runtime.lost).toBeInstanceOf(RuntimeLost);
    expect(runtime.lost!.message).toContain(`127.0.0.1:${port} is gone`);
    await expect(runtime.ping()).rejects.toThrow(RuntimeLost);
  });
});
