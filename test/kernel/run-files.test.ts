/** Version 2 of the `aronnax.metrics` comm: media, many rows at once, and ranges of the files of runs. */
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { tableFromIPC } from "apache-arrow";
import { afterAll, beforeAll, expect, it } from "vitest";
import { KernelClient, type Received } from "./client.js";

const home = mkdtempSync(join(tmpdir(), "aronnax-ranges-"));
const folder = join(home, "runs", "tiny");
const secret = join(home, "secret.txt");
const content = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 7) % 251);
let kernel: KernelClient;
let requests = 0;

const publish = (event: string) =>
  kernel.execute(`(globalThis as any)[Symbol.for("aronnax.metrics")].publish(${event})`);
const dataOf = (message: Received) => message.content.data as Record<string, unknown>;
const ofComm = (message: Received, id: string) =>
  message.header.msg_type === "comm_msg" && message.content.comm_id === id;

async function read(file: unknown, offset: unknown = 0, length: unknown = 100, run: unknown = "r1") {
  const request = ++requests;
  kernel.send("shell", "comm_msg", {
    comm_id: "c",
    data: { type: "read", request, run, file, offset, length },
  });
  const answer = await kernel.until((m) => ofComm(m, "c") && dataOf(m).request === request);
  return { data: dataOf(answer), bytes: answer.buffers[0] };
}

beforeAll(async () => {
  mkdirSync(join(folder, "media"), { recursive: true });
  mkdirSync(join(home, "runs", "tiny-other"));
  writeFileSync(join(folder, "metrics.arrow"), content);
  writeFileSync(join(home, "runs", "tiny-other", "metrics.arrow"), "of another run");
  writeFileSync(secret, "not for you");
  symlinkSync(secret, join(folder, "link.txt"));
  symlinkSync(home, join(folder, "media", "out"));
  symlinkSync("metrics.arrow", join(folder, "inside.arrow"));
  execFileSync("mkfifo", [join(folder, "pipe")]);
  kernel = await KernelClient.start({ cwd: home });
  await publish(
    `{ type: "start", id: "r1", name: "tiny", startedAt: 5, config: { lr: 1 }, folder: ${JSON.stringify(folder)} }`,
  );
  kernel.send("shell", "comm_open", { comm_id: "c", target_name: "aronnax.metrics", data: { version: 2 } });
  await kernel.until((m) => ofComm(m, "c") && dataOf(m).type === "snapshot");
});
afterAll(async () => {
  await kernel?.stop();
  rmSync(home, { recursive: true });
});

it("gives ranges, in bounded chunks, also of a file that grows", async () => {
  const whole: Uint8Array[] = [];
  for (let at = 0; at < content.length; ) {
    const { data, bytes } = await read("metrics.arrow", at, 1e9);
    expect(data).toMatchObject({ version: 2, type: "bytes", run: "r1", file: "metrics.arrow", offset: at });
    expect(data).toMatchObject({ length: bytes!.length, size: content.length });
    expect(bytes!.length).toBeLessThanOrEqual(1 << 20);
    whole.push(bytes!);
    at += bytes!.length;
  }
  expect(Buffer.concat(whole).equals(content)).toBe(true);
  expect((await read("metrics.arrow", content.length, 10)).data).toMatchObject({ type: "bytes", length: 0 });
  appendFileSync(join(folder, "metrics.arrow"), "more");
  const grown = await read("metrics.arrow", content.length, 10);
  expect(grown.data).toMatchObject({ length: 4, size: content.length + 4 });
  expect(Buffer.from(grown.bytes!).toString()).toBe("more");
  expect((await read("inside.arrow", 0, 3)).bytes).toEqual(Buffer.from(content.subarray(0, 3)));
});

it("refuses whatever is not a file of a run that it knows", async () => {
  const cases: [unknown, RegExp][] = [
    ["../tiny-other/metrics.arrow", /no file of a run's folder/],
    ["media/../../../secret.txt", /no file of a run's folder/],
    [secret, /no file of a run's folder/],
    ["media//x", /no file of a run's folder/],
    ["a\0b", /no file of a run's folder/],
    ["..\\secret.txt", /no file of a run's folder/],
    ["", /no file of a run's folder/],
    [7, /no file of a run's folder/],
    ["link.txt", /leads out of the run's folder/],
    ["media/out/secret.txt", /leads out of the run's folder/],
    ["media", /is not a file/],
    ["pipe", /is not a file/],
    ["nothing.arrow", /ENOENT/],
  ];
  for (const [file, reason] of cases) {
    const { data, bytes } = await read(file);
    expect(data, String(file)).toMatchObject({ type: "refused", reason: expect.stringMatching(reason) });
    expect(bytes).toBeUndefined();
  }
  for (const [offset, length] of [
    [-1, 5],
    [0, -5],
    [0.5, 5],
    ["0", 5],
  ])
    expect((await read("metrics.arrow", offset, length)).data).toMatchObject({ type: "refused" });
  expect((await read("metrics.arrow", 0, 5, "r9")).data).toMatchObject({
    type: "refused",
    reason: expect.stringMatching(/no run "r9"/),
  });
});

it("answers the same on a comm without rows", async () => {
  kernel.send("shell", "comm_open", { comm_id: "f", target_name: "aronnax.files", data: { version: 2 } });
  expect(dataOf(await kernel.until((m) => ofComm(m, "f")))).toEqual({ version: 2, type: "ready" });
  kernel.send("shell", "comm_msg", {
    comm_id: "f",
    data: { type: "read", request: 1, run: "r1", file: "metrics.arrow", offset: 2, length: 3 },
  });
  const answer = await kernel.until((m) => ofComm(m, "f") && dataOf(m).type === "bytes");
  expect([...answer.buffers[0]!]).toEqual([...content.subarray(2, 5)]);
});

it("lists the runs below its folder, whoever wrote them, and reads their files", async () => {
  const list = async (root?: unknown, from?: number) => {
    const request = ++requests;
    const data = {
      type: "runs",
      request,
      ...(root !== undefined && { root }),
      ...(from !== undefined && { from }),
    };
    kernel.send("shell", "comm_msg", { comm_id: "c", data });
    return dataOf(await kernel.until((m) => ofComm(m, "c") && dataOf(m).request === request));
  };
  for (let i = 0; i < 205; i++) {
    const own = join(home, "many", `run-${String(i).padStart(3, "0")}`);
    mkdirSync(own, { recursive: true });
    writeFileSync(
      join(own, "run.json"),
      JSON.stringify({ version: 2, id: `id-${i}`, name: `run-${i}`, status: "finished" }),
    );
  }
  mkdirSync(join(home, "many", "no-run"));
  writeFileSync(join(home, "many", "run-000", "metrics.arrow"), "of an earlier kernel");
  expect((await read("metrics.arrow", 0, 100, "id-0")).data).toMatchObject({ type: "refused" });
  const first = await list("many");
  expect(first.runs).toHaveLength(200);
  expect((first.runs as unknown[])[0]).toEqual({
    version: 2,
    id: "id-0",
    name: "run-0",
    status: "finished",
    folder: join(home, "many", "run-000"),
  });
  const second = await list("many", first.next as number);
  expect((second.runs as { id: string }[]).map(({ id }) => id)).toEqual(
    [200, 201, 202, 203, 204].map((i) => `id-${i}`),
  );
  expect(second.next).toBeNull();
  expect(Buffer.from((await read("metrics.arrow", 3, 10, "id-0")).bytes!).toString()).toBe("an earlier");

  // Of those that say that they run, the one of this process does.
  const stat = readFileSync("/proc/self/stat", "utf8");
  const processStart = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  const states = {
    alive: { pid: process.pid, processStart, host: hostname() },
    reused: { pid: process.pid, processStart: "1", host: hostname() },
    gone: { pid: 2 ** 22 + 1, processStart, host: hostname() },
    elsewhere: { pid: 1, processStart, host: `not-${hostname()}` },
  };
  for (const [name, state] of Object.entries(states)) {
    mkdirSync(join(home, "running", name), { recursive: true });
    writeFileSync(
      join(home, "running", name, "run.json"),
      JSON.stringify({ id: name, name, status: "running", ...state }),
    );
  }
  const running = (await list("running")).runs as { id: string; stale?: boolean }[];
  expect(Object.fromEntries(running.map(({ id, stale }) => [id, stale]))).toEqual({
    alive: false,
    reused: true,
    gone: true,
    elsewhere: undefined,
  });
  expect(await list("elsewhere")).toMatchObject({ type: "runs", runs: [], next: null });
  expect(await list()).toMatchObject({ type: "runs", root: "runs", runs: [] });
  for (const root of ["..", "/", "many/../..", 5])
    expect(await list(root)).toMatchObject({ type: "refused" });
});

it("answers a front end that asks for too much at once", async () => {
  const first = requests + 1;
  for (let i = 0; i < 100; i++) {
    kernel.send("shell", "comm_msg", {
      comm_id: "c",
      data: { type: "read", request: ++requests, run: "r1", file: "metrics.arrow", offset: 0, length: 1e6 },
    });
  }
  const answers = new Map<number, unknown>();
  for (let request = first; request <= requests; request++) {
    const answer = await kernel.until((m) => ofComm(m, "c") && dataOf(m).request === request);
    answers.set(request, dataOf(answer).type);
  }
  expect(answers.size).toBe(100);
  expect([...answers.values()].filter((type) => type === "bytes").length).toBeGreaterThanOrEqual(64);
});

it("sends media once, and rows that come by columns", async () => {
  await publish(`{ type: "columns", id: "r1", rows: { count: 3, columns: {
    step: { values: Float64Array.of(1, 2, 3) },
    loss: { values: Float64Array.of(9, 8, NaN), present: Uint8Array.of(0b101) } } } }`);
  await publish(
    `{ type: "media", id: "r1", media: [{ step: 3, name: "said", kind: "text", mime: "text/plain", data: "x" }] }`,
  );
  type Part = Record<string, unknown> & { buffer: number | null };
  const parts = () =>
    kernel.log
      .filter((m) => ofComm(m, "c") && ["snapshot", "batch"].includes(String(dataOf(m).type)))
      .flatMap((m) => (dataOf(m).runs as Part[]).map((part) => ({ part, buffers: m.buffers })));
  await kernel.until(() => parts().some(({ part }) => part.mediaCount === 1));
  await publish(`{ type: "rows", id: "r1", rows: [{ step: 4 }] }`);
  await kernel.until(() => parts().some(({ part }) => part.rowCount === 4));
  const all = parts();
  expect(all[0]!.part).toMatchObject({ config: { lr: 1 }, folder, parent: null, media: [], mediaCount: 0 });
  expect(all.flatMap(({ part }) => part.media)).toEqual([
    { step: 3, name: "said", kind: "text", mime: "text/plain", data: "x" },
  ]);
  const withRows = all.find(({ part }) => part.rowCount === 3 && part.buffer !== null)!;
  const loss = tableFromIPC(withRows.buffers[withRows.part.buffer!]!).getChild("loss")!;
  expect([loss.get(0), loss.get(1), loss.get(2)]).toEqual([9, null, Number.NaN]);
});
