/** The `aronnax.cells` comm: what cells have put out, for pages that were reloaded meanwhile (docs/contracts.md §4). */
import { afterAll, beforeAll, expect, it } from "vitest";
import { KernelClient, type Received } from "./client.js";

let kernel: KernelClient;
let comms = 0;

interface Described {
  cell: string;
  request: string;
  session: string;
  count: number | null;
  running: boolean;
  saved: boolean;
  owned: boolean;
}

interface Kept {
  type: string;
  content: Record<string, unknown>;
  buffers: number;
}

const dataOf = (message: Received) => message.content.data as Record<string, unknown> & { type: string };
const ofComm = (message: Received, id: string) =>
  message.header.msg_type === "aronnax_cells" && message.content.page === id;

beforeAll(async () => {
  kernel = await KernelClient.start({});
});
afterAll(async () => {
  await kernel?.stop();
});

async function listen(): Promise<{ comm: string; cells: Described[] }> {
  const comm = `cells-${comms++}`;
  kernel.send("shell", "comm_open", { comm_id: comm, target_name: "aronnax.cells", data: { version: 1 } });
  const { type, cells } = dataOf(await kernel.until((m) => ofComm(m, comm)));
  expect(type).toBe("cells");
  return { comm, cells: cells as Described[] };
}

/** What is kept of a cell, and where in the log the answer's first and last part are. */
async function read(comm: string, cell: string) {
  const from = kernel.log.length;
  kernel.send("shell", "comm_msg", { comm_id: comm, data: { type: "read", cell } });
  const parts = (m: Received) => ofComm(m, comm) && dataOf(m).type === "outputs" && dataOf(m).cell === cell;
  const last = await kernel.until((m) => parts(m) && dataOf(m).last === true, 60_000, from);
  const answers = kernel.log.slice(from).filter(parts);
  return {
    about: dataOf(last) as unknown as Described & { dropped: number; clears: boolean },
    outputs: answers.flatMap((m) => dataOf(m).outputs as Kept[]),
    buffers: answers.flatMap((m) => m.buffers),
    parts: answers.length,
    last,
  };
}

const textOf = (outputs: Kept[]) =>
  outputs.flatMap(({ type, content }) => (type === "stream" ? [String(content.text)] : [])).join("");

const run = (cell: string, code: string) => kernel.finish(kernel.startExecution(code, {}, cell), 60_000);

it("are kept with their order and kind, by the notebook's id of the cell", async () => {
  await run(
    "kinds",
    `console.log("one"); display({ [Symbol.for("Jupyter.display")]: () => ({ "text/html": "<b>two</b>" }) });
     console.error("three"); 4`,
  );
  await run("fails", `process.stdout.write("before "); throw new TypeError("as it must")`);
  await kernel.execute("5");
  const { comm, cells } = await listen();
  expect(cells.map(({ cell, running, saved }) => ({ cell, running, saved }))).toEqual([
    { cell: "kinds", running: false, saved: false },
    { cell: "fails", running: false, saved: false },
  ]);
  const kinds = await read(comm, "kinds");
  expect(kinds.outputs.map(({ type }) => type)).toEqual([
    "stream",
    "display_data",
    "stream",
    "execute_result",
  ]);
  expect(kinds.outputs[1]!.content.data).toMatchObject({ "text/html": "<b>two</b>" });
  expect(kinds.outputs[3]!.content).toMatchObject({ data: { "text/plain": "4" }, execution_count: 1 });
  const fails = await read(comm, "fails");
  expect(fails.outputs.map(({ type, content }) => [type, content.ename ?? content.text])).toEqual([
    ["stream", "before "],
    ["error", "TypeError"],
  ]);
  expect(await read(comm, "unknown")).toMatchObject({ about: { request: null }, outputs: [] });
});

it("are given while the cell runs: what is in the answer and what comes after it are all, once", async () => {
  const request = kernel.startExecution(
    'for (let i = 0; i < 400; i++) { console.log("line", i); if (i % 4 === 0) await new Promise((f) => setTimeout(f, 5)); }',
    {},
    "long",
  );
  await kernel.until((m) => m.parent.msg_id === request && String(m.content.text).includes("line 100"));
  const { comm, cells } = await listen();
  expect(cells.find(({ cell }) => cell === "long")).toMatchObject({ running: true, request });
  const { outputs, last } = await read(comm, "long");
  await kernel.finish(request, 60_000);
  const after = kernel.log
    .slice(kernel.log.indexOf(last))
    .filter((m) => m.header.msg_type === "stream" && m.parent.msg_id === request);
  const all = textOf(outputs) + after.map((m) => String(m.content.text)).join("");
  expect(all).toBe(Array.from({ length: 400 }, (_, i) => `line ${i}\n`).join(""));
  expect(textOf(outputs)).toContain("line 100");
  const ended = await kernel.until((m) => ofComm(m, comm) && dataOf(m).type === "ended");
  expect(dataOf(ended)).toMatchObject({ cell: "long", request, running: false });
});

it("answer also while a cell keeps the thread busy", async () => {
  const request = kernel.startExecution(
    'await new Promise((f) => setTimeout(f, 300)); console.log("spinning"); for (;;) {}',
    {},
    "spin",
  );
  await kernel.until((m) => m.parent.msg_id === request && m.header.msg_type === "stream");
  const { comm } = await listen();
  const { outputs, about } = await read(comm, "spin");
  expect(about.running).toBe(true);
  expect(textOf(outputs)).toBe("spinning\n");
  await kernel.interrupt();
  await kernel.finish(request, 60_000);
});

it("follow what is cleared and what is updated", async () => {
  await run(
    "changes",
    `console.log("gone"); jupyter.clearOutput(); console.log("kept");
     const bar = display({ [Symbol.for("Jupyter.display")]: () => ({ "text/plain": "0 %" }) }, { id: "bar" });
     for (let i = 1; i <= 100; i++) bar.update({ [Symbol.for("Jupyter.display")]: () => ({ "text/plain": [i, "%"].join(" ") }) });`,
  );
  const { comm } = await listen();
  const changes = await read(comm, "changes");
  expect(changes.outputs.map(({ content }) => content.text ?? (content.data as object))).toEqual([
    "kept\n",
    { "text/plain": "100 %" },
  ]);
  // From another cell, as a run's end is.
  await run("other", 'bar.update({ [Symbol.for("Jupyter.display")]: () => ({ "text/plain": "done" }) })');
  expect((await read(comm, "changes")).outputs[1]!.content).toMatchObject({
    data: { "text/plain": "done" },
    transient: { display_id: "bar" },
  });
  await run("waits", 'console.log("old"); jupyter.clearOutput({ wait: true });');
  expect(await read(comm, "waits")).toMatchObject({ about: { clears: true }, outputs: [{ type: "stream" }] });
  await run("replaced", 'console.log("old"); jupyter.clearOutput({ wait: true }); console.log("new")');
  expect(textOf((await read(comm, "replaced")).outputs)).toBe("new\n");
});

it("are the last 16 MiB of a cell, in parts of about a mebibyte", async () => {
  await run(
    "much",
    'const line = "x".repeat(99_999); for (let i = 0; i < 300; i++) console.log([i, line.slice(String(i).length)].join(""));',
  );
  const { comm } = await listen();
  const { outputs, about, parts } = await read(comm, "much");
  const text = textOf(outputs);
  expect(text.length).toBeGreaterThan(15 * 2 ** 20);
  expect(text.length).toBeLessThanOrEqual(16 * 2 ** 20);
  expect(text.endsWith(`299${"x".repeat(99_996)}\n`)).toBe(true);
  expect(about.dropped).toBeGreaterThan(0);
  expect(parts).toBeGreaterThan(10);
}, 120_000);

it("are said to be saved once a page says so, until more comes", async () => {
  const request = kernel.startExecution(
    'console.log("now"); setTimeout(() => console.log("later"), 1500); 1',
    {},
    "late",
  );
  await kernel.finish(request, 60_000);
  const { comm, cells } = await listen();
  expect(cells.find(({ cell }) => cell === "late")).toMatchObject({ saved: false });
  kernel.send("shell", "comm_msg", {
    comm_id: comm,
    data: { type: "saved", requests: [request, "no such"] },
  });
  await expect.poll(async () => (await read(comm, "late")).about.saved, { timeout: 60_000 }).toBe(true);
  await expect.poll(async () => (await read(comm, "late")).about.saved, { timeout: 60_000 }).toBe(false);
  expect(textOf((await read(comm, "late")).outputs)).toBe("now\nlater\n");
});

it("of a cell that is run again are those of the last time, and pages hear of each begin and end", async () => {
  const { comm } = await listen();
  await run("again", "1");
  const request = kernel.startExecution("2", {}, "again");
  await kernel.finish(request, 60_000);
  expect((await read(comm, "again")).outputs).toMatchObject([{ content: { data: { "text/plain": "2" } } }]);
  const heard = kernel.log.filter((m) => ofComm(m, comm) && /begun|ended/.test(dataOf(m).type));
  expect(heard.map((m) => [dataOf(m).type, dataOf(m).cell])).toEqual([
    ["begun", "again"],
    ["ended", "again"],
    ["begun", "again"],
    ["ended", "again"],
  ]);
  // The page that listens is the one that asked.
  expect(heard.every((m) => dataOf(m).owned === true)).toBe(true);
});
