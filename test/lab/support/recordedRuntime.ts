import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

/** Lines of `aronnax runtime watch` on an NVIDIA H200: idle, compiling, training, products, a workspace, the end (bench/lab/record-telemetry.ts). */
const RECORDING = fileURLToPath(new URL("../../fixtures/lab/telemetry-h200.jsonl.gz", import.meta.url));

interface Figures {
  id: number;
  [figure: string]: number;
}

interface TelemetryLine {
  type: "telemetry";
  event: {
    node: number;
    devices: { id: number; kind: string }[];
    sample: { time: number; host: Record<string, number>; devices: Figures[] };
  };
}

interface StateLine {
  type: "state";
  time: number;
  state: Record<string, unknown> & { running: boolean };
}

export type WatchLine = TelemetryLine | StateLine;

export async function recordedLines(): Promise<WatchLine[]> {
  const text = gunzipSync(await readFile(RECORDING)).toString();
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as WatchLine);
}

/**
 * The recording as that of two GPUs: a machine with two was not to be had. The second device's figures are the first's of the sample before; NVLink's
 * are as NVML counts them, about what FSDP of the recorded training would send. From `lostAt` on the driver has lost the second.
 */
export function asTwoGpus(lines: readonly WatchLine[], lostAt = Number.POSITIVE_INFINITY): WatchLine[] {
  let before: Figures | undefined;
  let samples = 0;
  return lines.map((line) => {
    if (line.type === "state") {
      const devices = line.state.devices as { id: number; links?: object[] }[] | undefined;
      if (!devices?.[0]) return line;
      const pair = [0, 1].map((id) => ({ ...devices[0], id, links: [{ device: 1 - id, count: 18 }] }));
      return { ...line, state: { ...line.state, devices: pair } };
    }
    const { event } = line;
    const [own] = event.sample.devices as [Figures];
    const load = own.utilization ?? 0;
    const linked = (figures: Figures, id: number): Figures => ({
      ...figures,
      id,
      nvlinkTxBytesPerSecond: 120e9 * load,
      nvlinkRxBytesPerSecond: 118e9 * load,
    });
    const second = samples++ >= lostAt ? { id: 1, lost: 1 } : linked(before ?? own, 1);
    before = own;
    return {
      ...line,
      event: {
        ...event,
        devices: [0, 1].map((id) => ({ id, kind: event.devices[0]!.kind })),
        sample: { ...event.sample, devices: [linked(own, 0), second] },
      },
    };
  });
}

/**
 * A package `aronnax` below a folder whose command tells what was recorded in the place of a runtime, a line in so many milliseconds; the kernel of
 * a notebook in the folder finds it as it finds the framework. What it was asked to do is in `asked.txt`, a line each.
 */
export async function installRecording(
  folder: string,
  lines: readonly WatchLine[],
  milliseconds: number,
): Promise<void> {
  const place = join(folder, "node_modules", "aronnax");
  await mkdir(join(place, "bin"), { recursive: true });
  await mkdir(join(place, "dist"), { recursive: true });
  await writeFile(
    join(place, "package.json"),
    JSON.stringify({ name: "aronnax", type: "module", exports: { ".": "./dist/index.js" } }),
  );
  await writeFile(join(place, "dist", "index.js"), "export {};\n");
  await writeFile(join(place, "lines.jsonl"), lines.map((line) => JSON.stringify(line)).join("\n"));
  await writeFile(
    join(place, "bin", "aronnax.js"),
    `import { appendFileSync, readFileSync } from "node:fs";
const [, action] = process.argv.slice(2);
if (action === "watch") {
  process.stdin.resume().on("end", () => process.exit(0));
  for (const line of readFileSync(new URL("../lines.jsonl", import.meta.url), "utf8").split("\\n")) {
    process.stdout.write(line + "\\n");
    await new Promise((resolve) => setTimeout(resolve, ${milliseconds}));
  }
  setInterval(() => {}, 1000);
} else {
  appendFileSync(new URL("../asked.txt", import.meta.url), action + "\\n");
  console.log(action === "logs" ? "the last line of the log" : "did " + action);
}
`,
  );
}
