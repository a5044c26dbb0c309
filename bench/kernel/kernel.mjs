/**
 * Times the kernel beside tslab 1.0.22, on the same machine and the same Node, one after the other, over the wire.
 *
 * usage, with the Node 24 of .venv: node bench/kernel/kernel.mjs [--no-peer] [--only-reruns] [--reruns 300] [--out bench/results/kernel.json]
 * tslab is installed into a temporary folder first.
 */

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Dealer, Subscriber } from "zeromq";
import { WireFormat } from "../../kernel/dist/protocol/wire.js";

const { values: options } = parseArgs({
  options: {
    "no-peer": { type: "boolean" },
    "only-reruns": { type: "boolean" },
    reruns: { type: "string", default: "300" },
    out: { type: "string" },
  },
});
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const node = process.execPath;
if (Number(process.versions.node.split(".")[0]) < 24)
  throw new Error(`run this with the Node 24 of .venv, not ${process.version}`);

class Kernel {
  constructor(command, cwd, ports) {
    this.folder = mkdtempSync(join(tmpdir(), "kernel-bench-"));
    const connection = {
      transport: "tcp",
      ip: "127.0.0.1",
      shell_port: ports[0],
      control_port: ports[1],
      iopub_port: ports[2],
      stdin_port: ports[3],
      hb_port: ports[4],
      key: randomUUID(),
      signature_scheme: "hmac-sha256",
    };
    const file = join(this.folder, "connection.json");
    writeFileSync(file, JSON.stringify(connection));
    this.wire = new WireFormat(connection.key, connection.signature_scheme);
    this.waiting = new Map();
    this.startedAt = performance.now();
    this.process = spawn(command[0], [...command.slice(1), ...connectionArguments(command, file)], {
      cwd,
      stdio: "ignore",
      env: { ...process.env, JPY_PARENT_PID: String(process.pid), JUPYTER_DATA_DIR: this.folder },
    });
    this.shell = new Dealer({ linger: 0 });
    this.control = new Dealer({ linger: 0 });
    this.iopub = new Subscriber({ linger: 0 });
    this.shell.connect(`tcp://127.0.0.1:${ports[0]}`);
    this.control.connect(`tcp://127.0.0.1:${ports[1]}`);
    this.iopub.connect(`tcp://127.0.0.1:${ports[2]}`);
    this.iopub.subscribe();
    for (const socket of [this.shell, this.control, this.iopub]) void this.receive(socket);
  }

  async receive(socket) {
    try {
      for await (const frames of socket) {
        const message = this.wire.decode(frames);
        const idle = message.content.execution_state === "idle";
        const key = `${message.parent.msg_id} ${socket === this.iopub ? (idle ? "idle" : message.header.msg_type) : "reply"}`;
        this.waiting.get(key)?.(message);
      }
    } catch {}
  }

  wait(id, what, limit) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} did not come within ${limit} ms`)), limit);
      this.waiting.set(`${id} ${what}`, (message) => {
        clearTimeout(timer);
        this.waiting.delete(`${id} ${what}`);
        resolve(message);
      });
    });
  }

  async ask(type, content = {}, { channel = this.shell, idle = true, limit = 120_000 } = {}) {
    const header = this.wire.header(type);
    const started = performance.now();
    const done = Promise.all([
      this.wait(header.msg_id, "reply", limit),
      idle ? this.wait(header.msg_id, "idle", limit) : undefined,
    ]);
    await channel.send(
      this.wire.encode({ identities: [], header, parent: {}, metadata: {}, content, buffers: [] }),
    );
    const [reply] = await done;
    return { reply, took: performance.now() - started, id: header.msg_id };
  }

  async run(code, { limit, status = "ok" } = {}) {
    const content = { code, silent: false, store_history: true, user_expressions: {}, allow_stdin: false };
    const answer = await this.ask("execute_request", content, { limit });
    const got = answer.reply.content.status;
    if (got !== status) throw new Error(`${got} instead of ${status} from ${code.slice(0, 60)}`);
    return answer;
  }

  /** Resident memory of the process and its children; pages that they share are divided among them. */
  memory() {
    const total = (pid) => {
      const pss =
        Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) / 1024;
      const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
        readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").trim().split(" ").filter(Boolean),
      );
      return children.reduce((sum, child) => sum + total(child), pss);
    };
    return Math.round(total(this.process.pid));
  }

  stop() {
    this.process.kill("SIGKILL");
    for (const socket of [this.shell, this.control, this.iopub]) socket.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Five ports that were free a moment ago. tslab knows no other transport. */
async function freePorts() {
  const servers = await Promise.all(
    [0, 1, 2, 3, 4].map(
      () =>
        new Promise((resolve) => {
          const server = createServer().listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function connectionArguments(command, file) {
  return command.includes("kernel") ? [`--config-path=${file}`] : [file];
}

const median = (times) => [...times].sort((a, b) => a - b)[times.length >> 1];
const round = (value) => Math.round(value * 10) / 10;

async function repeat(count, measure) {
  const times = [];
  for (let i = 0; i < count; i += 1) times.push(await measure(i));
  return times;
}

async function measure(command, cwd, arrow, framework) {
  const starts = [];
  let kernel;
  for (let i = 0; i < 3; i += 1) {
    kernel?.stop();
    kernel = new Kernel(command, cwd, await freePorts());
    await kernel.ask("kernel_info_request", {}, { idle: false });
    starts.push(performance.now() - kernel.startedAt);
    // The subscription may come later than the first answer.
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const first = (await kernel.run("1 + 1")).took;
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const idle = kernel.memory();
  const took = async (code) => (await kernel.run(code)).took;
  const trivial = await repeat(60, (i) => took(`${i} + 1`));
  await took("const text = 'abc'; const list = [1, 2, 3];");
  const completion = await repeat(30, async () => {
    return (await kernel.ask("complete_request", { code: "text.toUp", cursor_pos: 9 })).took;
  });
  const globals = await repeat(
    30,
    async () => (await kernel.ask("complete_request", { code: "lis", cursor_pos: 3 })).took,
  );
  const inspection = await repeat(30, async () => {
    return (await kernel.ask("inspect_request", { code: "list.map", cursor_pos: 6, detail_level: 0 })).took;
  });
  const loop = await took("let total = 0; for (let i = 0; i < 5e7; i++) { total += i } total");
  const arrowFirst = await took(arrow);
  const arrowNext = await repeat(20, (i) => took(`tableFromArrays({ x: [${i}, 2, 3] }).numRows`));
  const afterArrow = kernel.memory();
  const own = {};
  if (framework) {
    own.first_framework_cell_ms = round(await took(framework));
    own.later_framework_cell_p50_ms = round(
      median(await repeat(20, (i) => took(`tensor([${i}, 2]).add(1).shape`))),
    );
  }
  const interrupts = await repeat(10, async () => {
    let ended;
    const cell = kernel.ask("execute_request", { code: "while (true) {}", silent: false }, { limit: 5_000 });
    cell.then(({ reply }) => {
      ended = reply.content.status;
    });
    await new Promise((resolve) => setTimeout(resolve, 150));
    if (ended) throw new Error(`an endless loop ended by itself, with the status ${ended}`);
    const started = performance.now();
    if (command.includes("kernel")) kernel.process.kill("SIGINT");
    else void kernel.ask("interrupt_request", {}, { channel: kernel.control });
    await cell;
    return performance.now() - started;
  }).catch((error) => [error]);
  const declaring = await repeat(300, (i) => {
    const before = i > 0 ? `v${i - 1}.n` : "0";
    return took(
      `const v${i} = { n: ${before} + 1, name: "cell ${i}" };\nfunction f${i}(x: number) { return x + v${i}.n; }`,
    );
  }).catch((error) => [error]);
  const memoryAtEnd = kernel.memory();
  kernel.stop();
  const failed = (times) => (times[0] instanceof Error ? times[0].message : undefined);
  return {
    start_to_first_idle_ms: round(median(starts)),
    first_cell_ms: round(first),
    trivial_cell_p50_ms: round(median(trivial)),
    member_completion_p50_ms: round(median(completion)),
    name_completion_p50_ms: round(median(globals)),
    inspection_p50_ms: round(median(inspection)),
    loop_5e7_ms: round(loop),
    first_arrow_cell_ms: round(arrowFirst),
    later_arrow_cell_p50_ms: round(median(arrowNext)),
    ...own,
    interrupt_p50_ms: failed(interrupts) ?? round(median(interrupts)),
    declaring_cells_first_30_p50_ms: failed(declaring) ?? round(median(declaring.slice(0, 30))),
    declaring_cells_last_30_p50_ms: failed(declaring) ?? round(median(declaring.slice(-30))),
    memory_idle_mb: idle,
    memory_after_arrow_mb: afterArrow,
    memory_at_end_mb: memoryAtEnd,
  };
}

/** One cell run again and again, in a kernel of its own each: what its name, its variable and its neighbours cost. */
async function measureReruns(command, cwd) {
  const cells = {
    declaring: { code: (i) => `const q = ${i}; q` },
    same: { code: () => "const same = [1, 2, 3].map((n) => n * 2); same.length" },
    assigning: { before: "let total = 0", code: () => "const step = total + 1; total = step; total" },
    following_each_other: {
      before: "let state: any = { n: 0 }; const next = { n: 0 }",
      code: (i) => (i % 2 === 0 ? "const next = { ...state }" : "const state = { ...next }"),
    },
  };
  const figures = {};
  for (const [name, { before, code }] of Object.entries(cells)) {
    const kernel = new Kernel(command, cwd, await freePorts());
    await kernel.ask("kernel_info_request", {}, { idle: false });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await kernel.run(before ?? "0");
    const times = await repeat(Number(options.reruns), async (i) => (await kernel.run(code(i))).took).catch(
      (error) => [error],
    );
    const failed = times[0] instanceof Error ? times[0].message : undefined;
    figures[name] = failed ?? {
      first_30_p50_ms: round(median(times.slice(0, 30))),
      last_30_p50_ms: round(median(times.slice(-30))),
      worst_ms: round(Math.max(...times.slice(1))),
    };
    kernel.stop();
  }
  return figures;
}

function plainLoop() {
  const code =
    "const t = performance.now(); { let total = 0; for (let i = 0; i < 5e7; i++) { total += i } } console.log(performance.now() - t)";
  return round(median([1, 2, 3].map(() => Number(spawnSync(node, ["-e", code]).stdout))));
}

const folder = mkdtempSync(join(tmpdir(), "kernel-bench-notebooks-"));
try {
  const ours = [node, join(root, "kernel/dist/main.js")];
  if (options["only-reruns"]) {
    console.log(JSON.stringify(await measureReruns(ours, join(root, "notebooks")), null, 2));
    process.exit();
  }
  const results = { plain_node_loop_5e7_ms: plainLoop() };
  const esm = "import { tableFromArrays } from 'apache-arrow'; tableFromArrays({ x: [1, 2, 3] }).numRows";
  results.aronnax = await measure(
    ours,
    join(root, "notebooks"),
    esm,
    "import { tensor } from 'aronnax'; tensor([1, 2]).shape",
  );
  results.aronnax.cell_run_again_and_again = await measureReruns(ours, join(root, "notebooks"));
  if (!options["no-peer"]) {
    writeFileSync(join(folder, "package.json"), '{ "private": true }');
    execFileSync(
      "npm",
      ["install", "--no-audit", "--no-fund", "--silent", "tslab@1.0.22", "apache-arrow@21.2.0"],
      { cwd: folder },
    );
    const tslab = [node, join(folder, "node_modules/tslab/bin/tslab"), "kernel"];
    results.tslab = await measure(tslab, folder, esm);
    results.tslab.cell_run_again_and_again = await measureReruns(tslab, folder);
  }
  const report = {
    date: new Date().toISOString(),
    machine: `${cpus().length} x ${cpus()[0]?.model ?? "CPU"}`,
    node: execFileSync(node, ["--version"]).toString().trim(),
    ...results,
  };
  const json = JSON.stringify(report, null, 2);
  console.log(json);
  if (options.out) {
    mkdirSync(dirname(options.out), { recursive: true });
    writeFileSync(options.out, `${json}\n`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
