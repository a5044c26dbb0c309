/** Two runtime processes on the loopback, each with half of the devices, driven as one. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { pythonCommand, runtimePackage } from "../../core/dist/runtime/locate.js";
import { Runtime } from "../../core/dist/runtime/runtime.js";
import { f32, seconds } from "./parts.ts";
import { reduction, ring } from "./programs.ts";

/** `set` is the device set of one process; each node gets one half of it. */
export async function twoNodes(set: string, folder: string) {
  const [platform, listed] = set.split(":") as [string, string];
  const ids = listed.split(",").map(Number);
  const half = (platform === "cpu" ? ids[0]! : ids.length) / 2;
  const sets =
    platform === "cpu"
      ? [`cpu:${half}`, `cpu:${half}`]
      : [`cuda:${ids.slice(0, half)}`, `cuda:${ids.slice(half)}`];
  const directory = path.join(folder, "nodes");
  fs.mkdirSync(directory, { mode: 0o700 });
  const token = randomBytes(16).toString("hex");
  process.env.ARONNAX_RUNTIME_TOKEN = token;
  const coordinator = `127.0.0.1:${await freePort()}`;
  const port = await freePort();
  const logs = [0, 1].map((rank) => path.join(directory, `start-${rank}.log`));
  const children: ChildProcess[] = [];
  const start = seconds();
  try {
    for (const rank of [0, 1]) {
      const log = fs.openSync(logs[rank]!, "a");
      const child = spawn(
        pythonCommand(),
        [
          ...["-P", "-m", "aronnax_runtime", "--directory", directory, "--devices", sets[rank]!],
          ...["--coordinator", coordinator, "--num-nodes", "2", "--node-rank", String(rank)],
          ...(rank === 1 ? ["--listen", `127.0.0.1:${port}`] : []),
        ],
        { stdio: ["ignore", log, log], env: { ...process.env, PYTHONPATH: runtimePackage() } },
      );
      children.push(child);
      fs.closeSync(log);
    }
    const socket = path.join(directory, `${sets[0]!.replaceAll(/[:,]/g, "-")}-node0.sock`);
    const runtime = new Runtime({
      devices: sets[0]!,
      nodes: [{ path: socket }, { host: "127.0.0.1", port }],
      startTimeout: 60,
    });
    const { devices } = await runtime.ready;
    const startSeconds = seconds() - start;
    const n = 2 * half;
    if (
      devices.map(({ process: rank }) => rank).join() !==
      [...Array(n).keys()].map((i) => Math.floor(i / half)).join()
    )
      throw new Error(`the nodes' devices are ${JSON.stringify(devices)}`);
    const array = { ...f32([n, 4]), sharding: ring(n) };
    const program = runtime.compile({
      text: reduction(n),
      devices: [...Array(n).keys()],
      outputs: [array, f32([])],
    });
    let values = Array.from({ length: 4 * n }, (_, i) => i);
    let x = runtime.put(Float32Array.from(values), array);
    for (let i = 0; i < 3; i++) {
      const [next, total] = runtime.execute(program, [x]);
      const sum = values.reduce((a, b) => a + b);
      const found = new Float32Array((await runtime.get(total!)).buffer)[0];
      if (found !== sum) throw new Error(`the sum over the nodes is ${found}, not ${sum}`);
      values = values.map((value) => value + sum);
      x = next!;
    }
    const found = [...new Float32Array((await runtime.get(x)).buffer)];
    if (String(found) !== String(values)) throw new Error("the array over both nodes is wrong");
    runtime.close();
    return {
      sets,
      startSeconds,
      sum: values.reduce((a, b) => a + b),
      line: `right; ${sets.join(" and ")} there after ${startSeconds.toFixed(1)} s`,
    };
  } catch (error) {
    for (const log of fs.readdirSync(directory).filter((name) => name.endsWith(".log"))) {
      console.error(`--- ${log}\n${fs.readFileSync(path.join(directory, log), "utf8").slice(-4000)}`);
    }
    throw error;
  } finally {
    delete process.env.ARONNAX_RUNTIME_TOKEN;
    // A node that waits for the other in a collective takes no signal but this; the runtime ends with its supervisor.
    for (const child of children) child.kill("SIGKILL");
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
