/** The `aronnax.runtime` comm: the runtime's state, and its start and stop, whatever the cells do (docs/contracts.md §2). */
import { afterAll, beforeAll, expect, it } from "vitest";
import { isAlive, privateFolder, stopAll } from "../runtime/support.js";
import { KernelClient, type Received } from "./client.js";

interface State {
  type: "state";
  state: ({ running: boolean; pid?: number; lastExit?: string | null } & Record<string, unknown>) | null;
  problem: string | null;
}

interface Done {
  type: "done";
  request: number;
  ok: boolean;
  text: string;
}

const timeout = 120_000;
let kernel: KernelClient;
let requests = 0;

beforeAll(async () => {
  kernel = await KernelClient.start({
    env: { ARONNAX_RUNTIME_DIR: privateFolder(), ARONNAX_DEVICES: "cpu:2" },
  });
  kernel.send("shell", "comm_open", { comm_id: "r", target_name: "aronnax.runtime", data: { version: 1 } });
});
afterAll(async () => {
  await kernel.stop();
  await stopAll();
});

const dataOf = (message: Received) => message.content.data as State | Done;
const ofComm = (message: Received) =>
  message.header.msg_type === "comm_msg" && message.content.comm_id === "r";

async function state(
  fits: (state: NonNullable<State["state"]>) => boolean,
  from = 0,
): Promise<NonNullable<State["state"]>> {
  const message = await kernel.until(
    (m) => {
      const data = ofComm(m) ? dataOf(m) : undefined;
      return data?.type === "state" && data.state !== null && fits(data.state);
    },
    timeout,
    from,
  );
  return (dataOf(message) as State).state!;
}

async function act(action: unknown): Promise<Done> {
  const request = ++requests;
  kernel.send("shell", "comm_msg", { comm_id: "r", data: { type: "do", request, action } });
  const answer = await kernel.until(
    (m) => ofComm(m) && dataOf(m).type === "done" && (dataOf(m) as Done).request === request,
    timeout,
  );
  return dataOf(answer) as Done;
}

it("says that there is none, and starts none", { timeout }, async () => {
  expect(await state(({ running }) => !running)).toMatchObject({ running: false, deviceSet: "cpu:2" });
});

it("starts it, shows what it holds and compiles while a cell keeps the thread busy, and its log", {
  timeout,
}, async () => {
  expect(await act("start")).toMatchObject({
    ok: true,
    text: expect.stringMatching(/^running: pid \d+, 2 x cpu/),
  });
  const { pid } = await state(({ running }) => running);
  const made = await kernel.execute(
    `import { random, workspace } from "aronnax";
     await workspace("mine").set({ a: random.normal(0, [64, 64]) });`,
    {},
    timeout,
  );
  expect(made.error).toBeUndefined();
  const spin = kernel.startExecution("for (;;) {}");
  await kernel.until((m) => m.header.msg_type === "execute_input" && m.parent.msg_id === spin);
  const busy = await state(
    ({ holders = [] }) => (holders as { name: string }[]).some(({ name }) => name === "mine"),
    kernel.log.length,
  );
  expect(busy).toMatchObject({
    pid,
    holders: expect.arrayContaining([
      { kind: "workspace", name: "mine", buffers: 1, devices: [{ id: 0, bytes: 16_384 }] },
    ]),
  });
  const [program] = busy.programs as { name: string; compileSeconds: number; devices: number[] }[];
  expect(program!.compileSeconds).toBeGreaterThan(0);
  expect(program!.devices).toEqual([0]);
  expect((await act("logs")).text).toMatch(/runtime .* starts on cpu:2, pid \d+/);
  await kernel.interrupt();
  await kernel.finish(spin, timeout);
});

it("brings telemetry of a runtime that no cell has attached to", { timeout }, async () => {
  const other = await KernelClient.start({
    env: {
      ARONNAX_RUNTIME_DIR: (await state(({ running }) => running)).socket!.toString().replace(/\/[^/]+$/, ""),
      ARONNAX_DEVICES: "cpu:2",
    },
  });
  other.send("shell", "comm_open", { comm_id: "d", target_name: "aronnax.devices", data: { version: 1 } });
  other.send("shell", "comm_open", { comm_id: "w", target_name: "aronnax.runtime", data: { version: 1 } });
  const sampled = (m: Received) =>
    m.content.comm_id === "d" &&
    ((m.content.data as { hosts: { rowCount: number }[] }).hosts[0]?.rowCount ?? 0) > 1;
  await other.until((m) => m.header.msg_type === "comm_msg" && sampled(m), timeout);
  await other.stop();
});

it("restarts and stops it, says how it ended when it is killed, and refuses what is no action", {
  timeout: 240_000,
}, async () => {
  const { pid } = await state(({ running }) => running);
  let from = kernel.log.length;
  expect((await act("restart")).text).toContain(`stopped pid ${pid}`);
  const next = await state(({ running, pid: now }) => running && now !== pid, from);
  from = kernel.log.length;
  process.kill(next.pid as number, "SIGKILL");
  expect((await state(({ running }) => !running, from)).lastExit).toMatch(/SIGKILL|signal 9|killed/i);
  from = kernel.log.length;
  expect((await act("start")).ok).toBe(true);
  const last = await state(({ running }) => running, from);
  from = kernel.log.length;
  expect(await act("stop")).toMatchObject({ ok: true, text: `stopped pid ${last.pid}` });
  await state(({ running }) => !running, from);
  expect(isAlive(last.pid as number)).toBe(false);
  for (const action of ["status; rm -rf /", "__proto__", 5])
    expect(await act(action)).toMatchObject({ ok: false });
});
