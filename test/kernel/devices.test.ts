/** The telemetry of a real runtime on its way through the kernel (docs/contracts.md §2, Devices). */
import { tableFromIPC } from "apache-arrow";
import { afterAll, beforeAll, expect, it } from "vitest";
import { privateFolder, stopAll } from "../runtime/support.js";
import { KernelClient, type Received } from "./client.js";

interface Message {
  type: "snapshot" | "batch";
  seq: number;
  hosts: {
    id: string;
    startedAt: number;
    platform: string;
    devices: { id: number; kind: string }[];
    rowCount: number;
    firstRow: number;
    buffer: number | null;
  }[];
}

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start({
    env: { ARONNAX_RUNTIME_DIR: privateFolder(), ARONNAX_DEVICES: "cpu:2" },
  });
});
afterAll(async () => {
  await kernel.stop();
  await stopAll();
});

const open = (id: string) =>
  kernel.send("shell", "comm_open", { comm_id: id, target_name: "aronnax.devices", data: { version: 1 } });
const dataOf = (message: Received) => message.content.data as Message;
const messages = (id: string) =>
  kernel.log.filter((m) => m.header.msg_type === "comm_msg" && m.content.comm_id === id);
const message = (id: string, fits: (data: Message) => boolean, timeout = 20_000) =>
  kernel.until(
    (m) => m.header.msg_type === "comm_msg" && m.content.comm_id === id && fits(dataOf(m)),
    timeout,
  );
const sampled = (data: Message) => (data.hosts[0]?.rowCount ?? 0) > 0;

it("answers before there is a runtime, and starts none by being watched", async () => {
  open("d0");
  const { content } = await message("d0", () => true);
  expect(content.data).toEqual({ version: 1, type: "snapshot", seq: 0, hosts: [] });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(messages("d0").length).toBe(1);
});

it("sends the runtime's figures once a cell has attached it, absent where there are none", async () => {
  const cell = await kernel.execute(
    "import { ones } from 'aronnax';\nawait ones([2]).sum().item()",
    {},
    60_000,
  );
  expect(cell.error).toBeUndefined();
  await message("d0", (data) => (data.hosts[0]?.rowCount ?? 0) >= 3);
  const received = messages("d0");
  expect(received.map((m) => dataOf(m).seq)).toEqual(received.map((_, index) => index));
  const times: number[] = [];
  for (const { buffers, ...m } of received.slice(1)) {
    const [host] = dataOf(m as Received).hosts;
    expect(host).toMatchObject({
      id: "0",
      platform: "cpu",
      devices: [
        { id: 0, kind: "cpu" },
        { id: 1, kind: "cpu" },
      ],
      firstRow: times.length,
    });
    const table = tableFromIPC(buffers[host!.buffer!]!);
    const names = table.schema.fields.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["time", "host_cpu_utilization", "host_process_bytes"]));
    expect(names.filter((name) => name.startsWith("device_"))).toEqual([]);
    const row = table.get(0)!.toJSON() as Record<string, number>;
    expect(row.host_total_bytes).toBeGreaterThan(row.host_available_bytes!);
    times.push(...(table.getChild("time")!.toArray() as Float64Array));
  }
  expect(times[0]).toBe(0);
  for (let i = 1; i < times.length; i += 1) expect(times[i]! - times[i - 1]!).toBeGreaterThan(0.5);
  expect(Math.abs(dataOf(received[1]!).hosts[0]!.startedAt - Date.now())).toBeLessThan(60_000);
});

it("answers a snapshot while a cell keeps the main thread busy, and delivers the samples of that time", async () => {
  const busy = kernel.startExecution(
    "console.log('busy'); const end = Date.now() + 4_000; while (Date.now() < end);",
  );
  await kernel.until((m) => m.parent.msg_id === busy && String(m.content.text ?? "").includes("busy"));
  open("d1");
  const first = await message("d1", () => true, 1_000);
  const before = dataOf(first).hosts[0]!;
  expect(tableFromIPC(first.buffers[before.buffer!]!).numRows).toBe(before.rowCount);
  await kernel.finish(busy);
  const after = await message("d1", (data) => (data.hosts[0]?.rowCount ?? 0) >= before.rowCount + 3, 3_000);
  expect(after).toBeDefined();
});

it("passes on what a GPU host tells, in columns by figure and device, at most ten times a second", async () => {
  open("d2");
  await message("d2", sampled);
  const started = performance.now();
  const cell = await kernel.execute(`
const devicesHub = (globalThis as any)[Symbol.for("aronnax.devices")];
let running = 0;
const withdraw = devicesHub.provide((publish: (event: object) => void) => {
  running += 1;
  const timer = setInterval(() => publish({
    node: 1, platform: "cuda", devices: [{ id: 8, kind: "NVIDIA H200" }, { id: 9, kind: "NVIDIA H200" }],
    sample: {
      time: Date.now(), host: { cpuUtilization: 0.25 },
      devices: [{ id: 8, utilization: 0.5, memoryUsed: 2e10, nvlinkTxBytesPerSecond: 1e9 }, { id: 9, utilization: 1 }],
    },
  }), 5);
  return () => { running -= 1; clearInterval(timer); };
});
await new Promise((done) => setTimeout(done, 1_200));
withdraw();
running`);
  expect(cell.result).toEqual({ "text/plain": "0" });
  const ofNode = messages("d2").filter((m) => dataOf(m).hosts.some(({ id }) => id === "1"));
  expect(ofNode.length).toBeGreaterThan(5);
  expect(ofNode.length).toBeLessThanOrEqual((performance.now() - started) / 100 + 2);
  const { hosts } = dataOf(ofNode[0]!);
  const host = hosts.find(({ id }) => id === "1")!;
  expect(host).toMatchObject({ platform: "cuda", devices: [{ id: 8 }, { id: 9, kind: "NVIDIA H200" }] });
  const table = tableFromIPC(ofNode[0]!.buffers[host.buffer!]!);
  expect(table.get(0)!.toJSON()).toEqual({
    time: 0,
    host_cpu_utilization: 0.25,
    device_8_utilization: 0.5,
    device_8_memory_used: 2e10,
    device_8_nvlink_tx_bytes_per_second: 1e9,
    device_9_utilization: 1,
  });
});
