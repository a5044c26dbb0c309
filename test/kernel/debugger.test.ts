import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { murmur2 } from "../../kernel/src/debugger/murmur2.js";
import type { Json } from "../../kernel/src/protocol/wire.js";
import { KernelClient, repository, slowness } from "./client.js";

let kernel: KernelClient;
let sequence = 0;
beforeAll(async () => {
  kernel = await KernelClient.start();
});
afterAll(() => kernel.stop());

const debug = async (command: string, parameters: Json = {}): Promise<Json> => {
  const { content } = await kernel.ask("control", "debug_request", {
    type: "request",
    seq: ++sequence,
    command,
    arguments: parameters,
  });
  expect([command, content.success, content.message]).toEqual([command, true, undefined]);
  return content.body as Json;
};

let from = 0;
const stopped = async (): Promise<Json> => {
  const message = await kernel.until(
    (m) => m.header.msg_type === "debug_event" && m.content.event === "stopped",
    10_000,
    from,
  );
  from = kernel.log.indexOf(message) + 1;
  return message.content.body as Json;
};

const CODE =
  "function area(width: number, height: number) {\n  const product = width * height;\n  return product;\n}\nconst boxes = [1, 2].map((n) => ({ n, a: area(n, 3) }));\nboxes.length";

it("hashes sources as ipykernel and JupyterLab do", () => {
  const texts = ["", "a", "abcd", "x = 1\nprint('ü😀')", CODE];
  const script =
    "import sys, json\nfrom ipykernel.compiler import murmur2_x86\nprint(json.dumps([murmur2_x86(t, 0xc70f6907) for t in json.loads(sys.argv[1])]))";
  const python = join(repository, ".venv", "bin", "python");
  const wanted = JSON.parse(execFileSync(python, ["-c", script, JSON.stringify(texts)]).toString());
  expect(texts.map((text) => murmur2(text, 0xc70f6907))).toEqual(wanted);
});

it("stops at a breakpoint in a cell, shows variables, steps, evaluates and goes on", async () => {
  expect(await debug("debugInfo")).toMatchObject({ isStarted: false, hashMethod: "Murmur2" });
  await debug("initialize", { clientID: "test" });
  await debug("attach");
  const { sourcePath } = await debug("dumpCell", { code: CODE });
  const info = await debug("debugInfo");
  expect(sourcePath).toBe(
    `${info.tmpFilePrefix}${murmur2(CODE, Number(info.hashSeed))}${info.tmpFileSuffix}`,
  );
  const set = await debug("setBreakpoints", { source: { path: sourcePath }, breakpoints: [{ line: 2 }] });
  expect(set.breakpoints).toMatchObject([{ verified: true, line: 2 }]);
  await debug("configurationDone");
  // JupyterLab's list of kernel sources.
  expect(await debug("modules")).toMatchObject({ modules: expect.any(Array) });

  const id = kernel.startExecution(CODE);
  expect(await stopped()).toMatchObject({ reason: "breakpoint", threadId: 1 });
  const { stackFrames } = (await debug("stackTrace", { threadId: 1 })) as { stackFrames: Json[] };
  expect(stackFrames[0]).toMatchObject({ name: "area", line: 2, source: { path: sourcePath } });
  expect(stackFrames.at(-1)).toMatchObject({ line: 5, source: { path: sourcePath } });
  const { scopes } = (await debug("scopes", { frameId: stackFrames[0]!.id })) as { scopes: Json[] };
  expect(scopes.map(({ name }) => name)).toEqual(["Locals", "Notebook"]);
  const { variables } = (await debug("variables", { variablesReference: scopes[0]!.variablesReference })) as {
    variables: Json[];
  };
  expect(Object.fromEntries(variables.map(({ name, value }) => [name, value]))).toMatchObject({
    width: "1",
    height: "3",
  });

  await debug("next", { threadId: 1 });
  expect(await stopped()).toMatchObject({ reason: "step" });
  const { stackFrames: stepped } = (await debug("stackTrace", { threadId: 1 })) as { stackFrames: Json[] };
  expect(stepped[0]).toMatchObject({ line: 3 });
  // JupyterLab takes a frame's number that it knows for the frame that it has, with its variables.
  expect(stackFrames.map(({ id }) => id)).not.toContain(stepped[0]!.id);
  const frameId = stepped[0]!.id;
  const { scopes: own } = (await debug("scopes", { frameId })) as { scopes: Json[] };
  const { variables: after } = (await debug("variables", {
    variablesReference: own[0]!.variablesReference,
  })) as { variables: Json[] };
  expect(after.map(({ name, value }) => [name, value])).toEqual(expect.arrayContaining([["product", "3"]]));
  expect(await debug("evaluate", { expression: "product + 100", frameId })).toMatchObject({ result: "103" });

  await debug("continue", { threadId: 1 });
  expect(await stopped()).toMatchObject({ reason: "breakpoint" });
  await debug("setBreakpoints", { source: { path: sourcePath }, breakpoints: [] });
  await debug("continue", { threadId: 1 });
  expect((await kernel.finish(id)).result).toEqual({ "text/plain": "2" });
});

it("lists the variables of the notebook, and their parts", async () => {
  const { variables } = (await debug("inspectVariables")) as { variables: Json[] };
  const boxes = variables.find(({ name }) => name === "boxes")!;
  expect(boxes).toMatchObject({ value: expect.stringContaining("Array(2)") });
  const { variables: parts } = (await debug("variables", {
    variablesReference: boxes.variablesReference,
  })) as { variables: Json[] };
  expect(parts.map(({ name }) => name)).toEqual(["0", "1", "length"]);
});

it("shows the first parts of large values, without keeping the notebook waiting", async () => {
  await kernel.execute(
    "const long = new Array(1_000_000).fill(7); const pairs = new Map([['a', 1n]]); class Held { #inside = 5; get never() { throw 1; } }\nconst held = new Held(), many = Object.fromEntries(long.slice(0, 2_000).map((_, i) => ['key' + i, i]));",
  );
  const begun = performance.now();
  const { variables } = (await debug("inspectVariables")) as { variables: Json[] };
  const children = async (name: string) => {
    const { variablesReference } = variables.find((variable) => variable.name === name)!;
    return ((await debug("variables", { variablesReference })) as { variables: Json[] }).variables;
  };
  const shown = Object.fromEntries(variables.map(({ name, value }) => [name, value]));
  expect(shown.long).toBe("Array(1000000) [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, …]");
  expect(shown.pairs).toBe('Map(1) {"a" => 1n}');
  const elements = await children("long");
  expect(elements.length).toBeLessThan(502);
  expect(elements.at(-1)).toMatchObject({ name: "length", value: "1000000" });
  expect((await children("pairs"))[0]).toMatchObject({ value: 'Array(2) ["a", 1n]' });
  expect(await children("held")).toMatchObject([{ name: "#inside", value: "5" }]);
  expect((await children("many")).length).toBe(499);
  expect(performance.now() - begun).toBeLessThan(1_500 * slowness());
});

it("stops where something is thrown, when asked to", async () => {
  await debug("setExceptionBreakpoints", { filters: ["raised"] });
  const id = kernel.startExecution("const reason = 'why';\nthrow new Error(reason);");
  expect(await stopped()).toMatchObject({ reason: "exception" });
  const { stackFrames } = (await debug("stackTrace", { threadId: 1 })) as { stackFrames: Json[] };
  expect(stackFrames[0]).toMatchObject({ line: 2 });
  await debug("setExceptionBreakpoints", { filters: [] });
  await debug("continue", { threadId: 1 });
  expect((await kernel.finish(id)).error?.evalue).toBe("why");
  expect((await kernel.execute("throw new Error('on')")).error?.evalue).toBe("on");
});

it("stops at a debugger statement, and an interrupt ends a stopped cell", async () => {
  const id = kernel.startExecution("let reached = 1;\ndebugger;\nreached = 2;");
  await stopped();
  await kernel.interrupt();
  expect((await kernel.finish(id)).error?.ename).toBe("Interrupted");
  expect((await kernel.execute("reached")).result).toEqual({ "text/plain": "1" });
});

it("stops at the lines of the cell where its code is generated", async () => {
  const code =
    "enum Size {\n  Small,\n\n  Large,\n}\n\nfunction grow(size: Size) {\n  // one more\n  const next = size + 1;\n  return next;\n}\ngrow(Size.Small);";
  const { sourcePath } = await debug("dumpCell", { code });
  await debug("setBreakpoints", { source: { path: sourcePath }, breakpoints: [{ line: 9 }] });
  const id = kernel.startExecution(code);
  await stopped();
  const { stackFrames } = (await debug("stackTrace", { threadId: 1 })) as { stackFrames: Json[] };
  expect(stackFrames.map(({ name, line }) => [name, line])).toEqual([
    ["grow", 9],
    ["(cell)", 12],
  ]);
  await debug("continue", { threadId: 1 });
  expect((await kernel.finish(id)).result).toEqual({ "text/plain": "1" });
});

it("says what is wrong with a command that it does not know, and can be left", async () => {
  const { content } = await kernel.ask("control", "debug_request", {
    type: "request",
    seq: 1,
    command: "dance",
    arguments: {},
  });
  expect(content).toMatchObject({ success: false, message: 'the debugger has no command "dance"' });
  await debug("disconnect", { restart: false, terminateDebuggee: false });
  expect(await debug("debugInfo")).toMatchObject({ isStarted: false, breakpoints: [] });
  expect((await kernel.execute("debugger; 5")).result).toEqual({ "text/plain": "5" });
});

it("answers at once, in order, whatever keeps the main thread", async () => {
  const blocked = kernel.startExecution(
    "const flag = new Int32Array(new SharedArrayBuffer(4)); console.log('waiting'); Atomics.wait(flag, 0, 0, 600_000)",
  );
  await kernel.until((m) => m.parent.msg_id === blocked && m.header.msg_type === "stream");
  const all = [
    "initialize",
    "attach",
    "attach",
    "debugInfo",
    "setBreakpoints",
    "disconnect",
    "attach",
    "debugInfo",
  ];
  const replies = await Promise.all(
    all.map((command) => debug(command, { source: { path: "/none" }, breakpoints: [{ line: 1 }] })),
  );
  await debug("modules");
  expect([replies[3], replies[7]]).toMatchObject([
    { isStarted: true, breakpoints: [] },
    { isStarted: true, breakpoints: [] },
  ]);
  expect((await debug("inspectVariables")).variables).toContainEqual(
    expect.objectContaining({ name: "boxes" }),
  );
  await debug("disconnect");
  await kernel.interrupt();
  expect((await kernel.finish(blocked)).error?.ename).toBe("Interrupted");
  expect((await kernel.execute("flag.length")).result).toEqual({ "text/plain": "1" });
});

it("gives a cell its own result while a debugger asks for values", async () => {
  // Far more often than a front end asks.
  await kernel.execute(`import { Worker } from "node:worker_threads";
const asking = new Worker(\`
  const { Session } = require("node:inspector");
  const session = new Session();
  session.connectToMainThread();
  let asks = true;
  const ask = () => asks && session.post("Runtime.evaluate", { expression: "missing", replMode: true, silent: true }, ask);
  for (let i = 0; i < 3; i++) ask();
  require("node:worker_threads").parentPort.once("message", () => {
    asks = false;
    session.disconnect();
  });
\`, { eval: true });`);
  const results: unknown[] = [];
  for (let i = 0; i < 40; i += 1) {
    const { result, error } = await kernel.execute(`const cell${i} = ${i}; cell${i} + 0.5`);
    results.push(error?.evalue ?? result?.["text/plain"]);
  }
  expect(results).toEqual(results.map((_, i) => `${i + 0.5}`));
  // It ends by itself: a worker that is ended by force in the midst of a question may wait for the answer of a busy thread.
  await kernel.execute(
    "const ended = new Promise((done) => asking.once('exit', done)); asking.postMessage('stop'); await ended",
  );
});

it("tells the notebook's variables while a cell runs", async () => {
  await kernel.execute("const before = 41;");
  await debug("attach");
  const id = kernel.startExecution(
    "console.log('begun'); for (const end = Date.now() + 3000; Date.now() < end; );",
  );
  await kernel.until((m) => m.parent.msg_id === id && m.header.msg_type === "stream");
  const { variables } = (await debug("inspectVariables")) as { variables: Json[] };
  expect(kernel.log.some((m) => m.parent.msg_id === id && m.header.msg_type === "execute_reply")).toBe(false);
  expect(variables).toContainEqual(expect.objectContaining({ name: "before", value: "41" }));
  await kernel.finish(id);
  await debug("disconnect");
});

it("leaves out, soon, what a main thread in a native call knows", async () => {
  await debug("attach");
  const id = kernel.startExecution(
    "import { spawnSync } from 'node:child_process'; console.log('begun'); spawnSync('sleep', ['600'])",
  );
  await kernel.until((m) => m.parent.msg_id === id && m.header.msg_type === "stream");
  // The call may begin a little after the output: then some are known.
  expect(await debug("inspectVariables")).toMatchObject({ variables: expect.any(Array) });
  await debug("disconnect");
  await kernel.interrupt();
  expect((await kernel.finish(id)).error?.ename).toBe("Interrupted");
});
