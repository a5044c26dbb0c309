/**
 * Writes a run of a million rows with 14 columns as the Trainer does (a row at a time, the disk every second), reads it, and
 * resumes it; each in a process of its own, with its time and the memory that it took at most.
 *
 * usage, after the build: node bench/data/run-files.mjs [--rows 1000000] [--columns 14] [--out bench/results/run-files.json]
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "1000000" },
    columns: { type: "string", default: "14" },
    out: { type: "string" },
    part: { type: "string" },
    root: { type: "string" },
  },
});
const [rows, columns] = [Number(options.rows), Number(options.columns)];

const parts = {
  async write({ RunWriter }, root) {
    const names = Array.from({ length: columns - 2 }, (_, i) => `metric/${i}`);
    const writer = new RunWriter({ name: "run", root });
    const row = { step: 0, time: 0 };
    for (let step = 1; step <= rows; step++) {
      row.step = step;
      row.time = step / 10;
      for (let i = 0; i < names.length; i++) row[names[i]] = Math.sin(step * (i + 1));
      writer.log(row);
    }
    writer.close();
  },
  async read({ readRun }, root) {
    const { table, damage } = readRun(join(root, "run"));
    if (table.rowCount !== rows || damage !== undefined) throw new Error(`${table.rowCount} rows, ${damage}`);
    if (table.get("metric/3", rows - 1) !== Math.sin(rows * 4)) throw new Error("another number");
  },
  async resume({ RunWriter }, root) {
    const writer = new RunWriter({ name: "run", root, resumeAfterStep: rows / 2 });
    writer.log({ step: rows / 2 + 1 });
    writer.close();
  },
};

if (options.part !== undefined) {
  const core = await import("../../core/dist/metrics/index.js");
  const before = process.resourceUsage().maxRSS;
  const [started, cpu] = [performance.now(), process.cpuUsage()];
  await parts[options.part](core, options.root);
  const { user, system } = process.cpuUsage(cpu);
  console.log(
    JSON.stringify({
      seconds: (performance.now() - started) / 1000,
      cpu_seconds: (user + system) / 1e6,
      // What the process had before, and what it had at most.
      megabytes_before: Math.round(before / 1024),
      megabytes_at_most: Math.round(process.resourceUsage().maxRSS / 1024),
    }),
  );
} else {
  const root = mkdtempSync(join(tmpdir(), "aronnax-bench-"));
  const results = { rows, columns };
  for (const part of Object.keys(parts)) {
    const own = [fileURLToPath(import.meta.url), "--part", part, "--root", root];
    const output = execFileSync(
      process.execPath,
      [...own, "--rows", rows, "--columns", columns].map(String),
      {
        encoding: "utf8",
      },
    );
    results[part] = JSON.parse(output.trim().split("\n").at(-1));
    console.log(part, results[part]);
    if (part === "write") {
      results.megabytes_on_disk =
        readdirSync(join(root, "run")).reduce(
          (sum, name) => sum + statSync(join(root, "run", name)).size,
          0,
        ) / 1e6;
    }
  }
  rmSync(root, { recursive: true });
  const report = {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0].model,
    node: process.version,
    ...results,
  };
  console.log(JSON.stringify(report, null, 2));
  if (options.out) writeFileSync(options.out, `${JSON.stringify(report, null, 2)}\n`);
}
