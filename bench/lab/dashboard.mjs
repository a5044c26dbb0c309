/**
 * The dashboard in a real browser on a real JupyterLab: a run of a million steps with eight charts, live at ten batches a second. Measures
 * animation frames while panning and hovering, redraws of each chart, the time from a batch to its pixels, the heap; how long a file of a
 * million rows and 14 columns takes to open; and what the extension costs when JupyterLab starts.
 *
 * usage, after the set-up: node bench/lab/dashboard.mjs [--rows 1000000] [--seconds 6] [--out bench/results/lab.json]
 */
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeVector, Table, tableToIPC } from "apache-arrow";
import { chromium } from "playwright-core";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "1000000" },
    seconds: { type: "string", default: "6" },
    out: { type: "string" },
  },
});
const rows = Number(options.rows);
const seconds = Number(options.seconds);
const repository = fileURLToPath(new URL("../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-bench-lab-"));
const root = join(folder, "root");
mkdirSync(root);

/** Starts JupyterLab of the set-up; its address. */
async function startLab() {
  const runtime = join(folder, "runtime");
  const lab = spawn(
    join(repository, ".venv/bin/jupyter"),
    [
      "lab",
      "--no-browser",
      "--allow-root",
      "--ServerApp.ip=127.0.0.1",
      "--ServerApp.port=0",
      `--ServerApp.root_dir=${root}`,
      "--IdentityProvider.token=bench",
    ],
    {
      cwd: root,
      stdio: "ignore",
      env: {
        ...process.env,
        JUPYTER_CONFIG_DIR: join(folder, "config"),
        JUPYTER_DATA_DIR: join(folder, "data"),
        JUPYTER_RUNTIME_DIR: runtime,
        JUPYTERLAB_SETTINGS_DIR: join(folder, "settings"),
        JUPYTERLAB_WORKSPACES_DIR: join(folder, "workspaces"),
        ARONNAX_RUNTIME_DIR: join(folder, "aronnax"),
        ARONNAX_RUNTIME_IDLE_SECONDS: "10",
      },
    },
  );
  for (let tries = 0; tries < 1500; tries++) {
    const file = existsSync(runtime)
      ? readdirSync(runtime).find((name) => /^jpserver-\d+\.json$/.test(name))
      : undefined;
    if (file) {
      const { url } = JSON.parse(readFileSync(join(runtime, file), "utf8"));
      const answer = await fetch(`${url}api/status?token=bench`).catch(() => undefined);
      if (answer?.ok) return { lab, url };
    }
    await wait(100);
  }
  throw new Error("JupyterLab did not start.");
}

const NAMES = [
  "loss",
  "tokens_per_second",
  "learning_rate",
  "gradient_norm",
  "mfu",
  "step_seconds",
  "extra_a",
  "extra_b",
];

/** A file as the framework writes it, in batches of 65,536 rows. */
function writeRun(name, columns, isRunning) {
  const place = join(root, "runs", name);
  mkdirSync(place, { recursive: true });
  const noise = () => Float64Array.from({ length: rows }, () => 1 + Math.random());
  const data = Object.fromEntries(
    ["step", ...columns].map((column) => [
      column,
      column === "step"
        ? Float64Array.from({ length: rows }, (_, i) => i + 1)
        : column === "loss"
          ? Float64Array.from(
              { length: rows },
              (_, i) => 1.6 + 3.9 * Math.exp((-6 * i) / rows) + 0.2 * Math.random(),
            )
          : column === "learning_rate"
            ? Float64Array.from({ length: rows }, (_, i) => 3e-4 * Math.cos(i / (2 * rows)))
            : noise(),
    ]),
  );
  const run = { id: name, name, startedAt: Date.now(), totalSteps: rows };
  const parts = [];
  for (let from = 0; from < rows; from += 65_536) {
    const slice = Object.entries(data).map(([column, values]) => [
      column,
      makeVector(values.slice(from, from + 65_536)),
    ]);
    const table = new Table(Object.fromEntries(slice));
    table.schema.metadata.set("aronnax.run", JSON.stringify(run));
    const bytes = tableToIPC(table, "stream");
    const head = 8 + new DataView(bytes.buffer, bytes.byteOffset).getInt32(4, true);
    parts.push(bytes.slice(from === 0 ? 0 : head, -8));
  }
  writeFileSync(join(place, "metrics.arrow"), Buffer.concat(parts));
  writeFileSync(
    join(place, "run.json"),
    JSON.stringify({
      ...run,
      version: 2,
      status: isRunning ? "running" : "finished",
      updatedAt: Date.now(),
      segments: ["metrics.arrow"],
    }),
  );
}

/** A cell that tells the kernel of the run's last 200,000 rows, which is what it keeps, and goes on with a batch of ten steps ten times a second. */
const cell = `
const hub = (globalThis as any)[Symbol.for("aronnax.metrics")];
const names = ${JSON.stringify(NAMES)};
hub.publish({ type: "start", id: "live", name: "live", startedAt: Date.now(), totalSteps: ${2 * rows}, folder: ${JSON.stringify(join(root, "runs/live"))} });
const count = ${rows};
const columns: any = { step: { values: Float64Array.from({ length: count }, (_, i) => i + 1) } };
for (const name of names) columns[name] = { values: Float64Array.from({ length: count }, () => 1 + Math.random()) };
columns.learning_rate.values = columns.step.values.map((step: number) => 3e-4 * Math.cos(step / ${2 * rows}));
hub.publish({ type: "columns", id: "live", rows: { count, columns } });
let step = count;
const timer = setInterval(() => {
  const rows = Array.from({ length: 10 }, () => ({ step: ++step, ...Object.fromEntries(names.map((name) => [name, 1 + Math.random()])), learning_rate: 3e-4 * Math.cos(step / ${2 * rows}) }));
  hub.publish({ type: "rows", id: "live", rows });
}, 100);
"live"`;

/** Runs in the page before anything else: tells of batches as they come, and of pictures as they are drawn. */
function instrument() {
  const bench = { batches: [], draws: new Map(), frames: 0 };
  window.bench = bench;
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", ({ data }) => {
        const text =
          typeof data === "string"
            ? data
            : new TextDecoder("latin1").decode(new Uint8Array(data, 0, Math.min(data.byteLength, 4096)));
        if (text.includes('"batch"')) bench.batches.push(performance.now());
      });
    }
  };
  const clear = CanvasRenderingContext2D.prototype.clearRect;
  CanvasRenderingContext2D.prototype.clearRect = function (...args) {
    if (this.canvas.parentElement?.className === "aronnax-Chart-clip") {
      const chart = this.canvas.closest("[data-chart]").dataset.chart;
      const times = bench.draws.get(chart) ?? [];
      bench.draws.set(chart, times);
      times.push(performance.now());
    }
    return clear.apply(this, args);
  };
  const count = () => {
    bench.frames += 1;
    requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
}

async function heap(page) {
  const client = await page.context().newCDPSession(page);
  await client.send("HeapProfiler.collectGarbage");
  const { usedSize, backingStorageSize = 0 } = await client.send("Runtime.getHeapUsage");
  await client.detach();
  return Math.round((usedSize + backingStorageSize) / 1e6);
}

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
const summary = (list) => {
  const sorted = [...list].sort((a, b) => a - b);
  return {
    median: Number(at(sorted, 0.5)?.toFixed(1)),
    p95: Number(at(sorted, 0.95)?.toFixed(1)),
    count: sorted.length,
  };
};

/** Frames a second, redraws a second of each chart, and from each batch to the first and the last chart that has it, in ms. */
async function measure(page, act) {
  await page.evaluate(() => {
    window.bench.batches.length = 0;
    window.bench.draws.clear();
    window.bench.started = performance.now();
    window.bench.frames = 0;
  });
  const end = Date.now() + seconds * 1000;
  for (let turn = 0; Date.now() < end; turn++) await act(turn);
  const { batches, draws, elapsed, frames } = await page.evaluate(() => ({
    batches: window.bench.batches,
    draws: [...window.bench.draws.values()],
    elapsed: (performance.now() - window.bench.started) / 1000,
    frames: window.bench.frames,
  }));
  const first = [];
  const all = [];
  for (const batch of batches) {
    const next = draws.map((times) => times.find((time) => time >= batch));
    if (next.every((time) => time !== undefined) && next.length > 0) {
      first.push(Math.min(...next) - batch);
      all.push(Math.max(...next) - batch);
    }
  }
  return {
    frames_per_second: Number((frames / elapsed).toFixed(1)),
    batches_per_second: Number((batches.length / elapsed).toFixed(1)),
    charts: draws.length,
    redraws_per_second_least: Number((Math.min(...draws.map((times) => times.length)) / elapsed).toFixed(1)),
    batch_to_first_chart_ms: summary(first),
    batch_to_all_charts_ms: summary(all),
  };
}

const { lab, url } = await startLab();
const profile = mkdtempSync(join(tmpdir(), "aronnax-bench-chromium-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-precise-memory-info"],
  viewport: { width: 2100, height: 1600 },
});
context.setDefaultTimeout(120_000);
const results = {
  date: new Date().toISOString().slice(0, 10),
  command: `node bench/lab/dashboard.mjs --rows ${rows} --seconds ${seconds}`,
  machine: `${cpus().length} × ${cpus()[0].model}, software rendering`,
  browser: context.browser()?.version(),
  // Of the whole machine: what else ran on it meanwhile.
  load_average: loadavg()[0],
  rows,
};
try {
  writeRun("live", NAMES, true);
  writeRun(
    "file",
    [...NAMES, "tokens", "time", "memory_parameters", "memory_optimizer", "memory_total"],
    false,
  );
  const open = async (workspace, path) => {
    const page = await context.newPage();
    await page.addInitScript(instrument);
    const address = `${url}lab/workspaces/${workspace}${path ? `/tree/${path}` : ""}?token=bench`;
    return { page, address };
  };

  // What the extension costs when JupyterLab starts: samples of a profile in its code.
  {
    const { page, address } = await open("start", "");
    await page.goto(address);
    await page.locator("#jupyterlab-splash").waitFor({ state: "detached" });
    const client = await context.newCDPSession(page);
    await client.send("Profiler.enable");
    await client.send("Profiler.setSamplingInterval", { interval: 200 });
    await client.send("Profiler.start");
    await page.reload();
    await page.locator("#jupyterlab-splash").waitFor({ state: "detached" });
    const { profile: taken } = await client.send("Profiler.stop");
    const own = new Set();
    const visit = (node, inside, nodes) => {
      const is = inside || node.callFrame.url.includes("extensions/@aronnax/lab");
      if (is) own.add(node.id);
      for (const id of node.children ?? []) visit(nodes.get(id), is, nodes);
    };
    const nodes = new Map(taken.nodes.map((node) => [node.id, node]));
    visit(taken.nodes[0], false, nodes);
    const spent = taken.samples.reduce((sum, id, i) => sum + (own.has(id) ? taken.timeDeltas[i] : 0), 0);
    results.activation_ms = Number((spent / 1000).toFixed(1));
    results.heap_without_dashboard_mb = await heap(page);
    await page.close();
  }

  // A file of as many rows with 14 columns: from the address to the numbers, without JupyterLab's own start.
  {
    const { page, address } = await open("file", "");
    await page.goto(address);
    await page.locator("#jupyterlab-splash").waitFor({ state: "detached" });
    await page.locator('.jp-DirListing-item[title*="runs"]').first().dblclick();
    await page.locator(".jp-DirListing-itemText", { hasText: /^file$/ }).dblclick();
    const file = page.locator(".jp-DirListing-itemText", { hasText: "metrics.arrow" });
    await file.waitFor();
    const start = Date.now();
    await file.dblclick();
    const step = page.locator('[data-tile="step"]', { hasText: rows.toLocaleString("en") });
    await step.waitFor();
    await page.locator('[data-chart="loss"] .aronnax-Legend-value').first().waitFor();
    results.file_opens_seconds = (Date.now() - start) / 1000;
    results.file_heap_mb = await heap(page);
    await page.close();
  }

  // Eight charts, live.
  {
    const notebook = {
      nbformat: 4,
      nbformat_minor: 5,
      metadata: { kernelspec: { name: "aronnax", display_name: "aronnax", language: "typescript" } },
      cells: [{ id: "a", cell_type: "code", source: cell, metadata: {}, outputs: [], execution_count: null }],
    };
    writeFileSync(join(root, "live.ipynb"), JSON.stringify(notebook));
    const { page, address } = await open("live", "live.ipynb");
    await page.goto(address);
    await page
      .locator("#jp-main-statusbar")
      .getByText("TypeScript (Aronnax) | Idle", { exact: true })
      .waitFor();
    await page.locator(".jp-Notebook .jp-CodeCell .cm-content").first().click();
    await page.keyboard.press("Control+Enter");
    await page.locator(".jp-OutputArea-output", { hasText: "live" }).waitFor();
    await page.locator('.jp-NotebookPanel-toolbar [data-jp-item-name="aronnax-runs"]').click();
    const panel = page.locator(".jp-MainAreaWidget > .aronnax-RunView");
    await page.waitForFunction(
      (count) =>
        (document.querySelector('[data-chart="loss"] .aronnax-Chart-plot')?.drawing?.x[0] ?? 9) === 1 &&
        count > 0,
      rows,
    );
    // The panel alone, so that all eight charts are in sight.
    await page.keyboard.press("Control+b");
    results.heap_live_mb = await heap(page);
    results.charts_drawn = await panel.locator(".aronnax-Chart").count();
    results.idle = await measure(page, () => wait(100));
    const box = await panel.locator('[data-chart="loss"] .aronnax-Chart-plot').boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    await page.mouse.move(x, y);
    results.hovering = await measure(page, async (turn) => {
      await page.mouse.move(x + 0.4 * box.width * Math.sin(turn / 15), y);
      await wait(8);
    });
    await page.keyboard.down("Control");
    for (let i = 0; i < 6; i++) await page.mouse.wheel(0, -200);
    await page.keyboard.up("Control");
    await wait(500);
    await page.keyboard.down("Shift");
    await page.mouse.move(x, y);
    await page.mouse.down();
    results.panning = await measure(page, async (turn) => {
      await page.mouse.move(x + 0.3 * box.width * Math.sin(turn / 20), y);
      await wait(8);
    });
    await page.mouse.up();
    await page.keyboard.up("Shift");
    results.heap_after_mb = await heap(page);
    await page.close();
  }
  console.log(JSON.stringify(results, null, 2));
  if (options.out) writeFileSync(options.out, `${JSON.stringify(results, null, 2)}\n`);
} finally {
  await context.close();
  lab.kill("SIGTERM");
  await wait(2000);
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
