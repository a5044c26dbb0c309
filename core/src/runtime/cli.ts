/** `aronnax runtime status|start|stop|restart|logs`. */
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { describeRecovery } from "./activity-hub.js";
import { RuntimeLost } from "./errors.js";
import { logTail, readExitNote } from "./launch.js";
import { type Place, place } from "./locate.js";
import { Runtime } from "./runtime.js";
import type { RuntimeStatus } from "./types.js";
import { describeCompiling, describeRunning } from "./waiting.js";
import { watchRuntime } from "./watch.js";

export const runtimeUsage = `aronnax runtime <command> [--devices SET] [--directory DIR]

  status [--json]   what runs, on which devices, and what it holds
  start             start it, if it does not run
  stop              end it; its buffers are lost
  restart           end it and start it again; its buffers are lost
  recover           end programs that do not end: restart it with all that can be read
  logs [-n LINES] [-f]   the end of its log; -f follows it
  watch             a line of JSON for each change of its state and each second of telemetry, until its input ends

  --devices SET     cpu, cpu:8, cuda or cuda:0,1; default ARONNAX_DEVICES, else what the machine has
  --directory DIR   folder of its socket; default ARONNAX_RUNTIME_DIR, else $XDG_RUNTIME_DIR/aronnax, else /tmp/aronnax-<uid>`;

/** Seconds that a process is given to answer, and then to end by SIGTERM, before SIGKILL. */
const patience = 3;

/** Carries a command out and returns the exit status. */
export async function runtimeCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      devices: { type: "string" },
      directory: { type: "string" },
      json: { type: "boolean" },
      lines: { type: "string", short: "n", default: "40" },
      follow: { type: "boolean", short: "f" },
    },
  });
  const where = place(values);
  switch (positionals[0]) {
    case "status":
      return await status(where, values.json === true);
    case "start":
      return await start(where);
    case "stop":
      return await stop(where);
    case "restart":
      await stop(where);
      return await start(where);
    case "recover":
      return await recover(where);
    case "watch":
      return await watchRuntime(where, process.stdin, (line) => console.log(JSON.stringify(line)));
    case "logs":
      return await logs(where, Number(values.lines), values.follow === true);
    default:
      console.error(runtimeUsage);
      return 2;
  }
}

async function status(where: Place, json: boolean): Promise<number> {
  const found = await ask(where);
  if (json) {
    console.log(
      JSON.stringify(
        found === undefined
          ? {
              running: false,
              deviceSet: where.devices,
              socket: where.socket,
              lastExit: readExitNote(where.exitNote) ?? null,
            }
          : { running: true, ...found },
      ),
    );
  } else if (found === undefined) {
    const exit = readExitNote(where.exitNote);
    console.log(
      `not running (${where.devices}, ${where.socket})${exit === undefined ? "" : `; the last one: ${exit}`}`,
    );
  } else {
    console.log(describe(found));
  }
  return found === undefined && !json ? 3 : 0;
}

function describe(found: RuntimeStatus): string {
  const size = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const lines = [
    `running: pid ${found.pid}, ${found.deviceSet}, for ${Math.round(found.uptimeSeconds)} s, jaxlib ${found.versions.jaxlib}`,
    `socket:  ${found.socket}`,
    `log:     ${found.log}`,
    `host:    ${size(found.memory.host.processBytes)} in the process, ${size(found.memory.host.availableBytes)} available`,
    ...found.devices.map((device, i) => {
      const memory = found.memory.devices[i]!;
      const limit = memory.limit === undefined ? "" : ` of ${size(memory.limit)}`;
      return `device ${device.id}: ${device.kind}, ${size(memory.buffers)} in buffers${limit}`;
    }),
    `clients: ${found.clients.length === 0 ? "none" : found.clients.join("; ")}`,
    ...found.activity.running.map((program) => describeRunning(program)),
    ...found.activity.compiling.map((program) => describeCompiling(program)),
    ...found.workspaces.map((w) => `workspace ${w.name}: ${w.buffers} buffers, ${size(w.bytes)}`),
  ];
  return lines.join("\n");
}

async function start(where: Place): Promise<number> {
  const runtime = new Runtime({ directory: where.directory, devices: where.devices });
  const info = await runtime.ready;
  console.log(
    `running: pid ${info.pid}, ${info.devices.length} x ${info.devices[0]?.kind}, jaxlib ${info.versions.jaxlib}`,
  );
  runtime.close();
  return 0;
}

async function stop(where: Place): Promise<number> {
  const pid = lockHolder(where);
  if (pid === undefined) {
    console.log("not running");
    return 0;
  }
  const runtime = new Runtime({ directory: where.directory, devices: where.devices, start: false });
  // A process that hangs does not answer: signals follow.
  const asked = runtime.ready.then(() => runtime.shutdown()).catch(() => {});
  await Promise.race([asked, sleep(patience * 1000)]);
  for (const signal of [undefined, "SIGTERM", "SIGKILL"] as const) {
    if (signal !== undefined && lockHolder(where) === pid) process.kill(pid, signal);
    const deadline = performance.now() + (signal === undefined ? 1 : patience) * 1000;
    while (lockHolder(where) === pid && performance.now() < deadline) await sleep(20);
    if (lockHolder(where) !== pid) {
      runtime.close();
      console.log(`stopped pid ${pid}`);
      return 0;
    }
  }
  console.error(`pid ${pid} does not end`);
  return 1;
}

async function recover(where: Place): Promise<number> {
  if (lockHolder(where) === undefined) {
    console.log("not running");
    return 3;
  }
  const runtime = new Runtime({ directory: where.directory, devices: where.devices, start: true });
  console.log(describeRecovery(await runtime.recover()));
  runtime.close();
  return 0;
}

async function logs(where: Place, lines: number, follow: boolean): Promise<number> {
  if (!Number.isInteger(lines) || lines < 1) {
    console.error("-n takes a number of lines");
    return 2;
  }
  if (!fs.existsSync(where.log)) {
    console.error(`no log yet: ${where.log}`);
    return 1;
  }
  console.log(logTail(where.log, lines).join("\n"));
  if (!follow) return 0;
  let { size, ino } = fs.statSync(where.log);
  for (;;) {
    await sleep(250);
    const now = fs.statSync(where.log, { throwIfNoEntry: false });
    if (now === undefined) continue;
    if (now.ino !== ino || now.size < size) size = 0;
    ino = now.ino;
    if (now.size === size) continue;
    for await (const chunk of fs.createReadStream(where.log, { start: size, end: now.size - 1 })) {
      process.stdout.write(chunk as Buffer);
    }
    size = now.size;
  }
}

/** The status of the process that runs, if one does. */
async function ask(where: Place): Promise<RuntimeStatus | undefined> {
  const runtime = new Runtime({ ...where, start: false, startTimeout: 5 * patience });
  try {
    await runtime.ready;
    return (await runtime.request({ op: "status" })).result as RuntimeStatus;
  } catch (error) {
    if (error instanceof RuntimeLost && error.exit === "not running") return undefined;
    throw error;
  } finally {
    runtime.close();
  }
}

/** The process that wrote its pid into the lock file, if it is still the runtime of this place. */
function lockHolder(where: Place): number | undefined {
  try {
    const pid = Number.parseInt(fs.readFileSync(where.socket.replace(/\.sock$/, ".lock"), "utf8"), 10);
    const command = fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return command.includes("aronnax_runtime") && command.includes(where.directory) ? pid : undefined;
  } catch {
    return undefined;
  }
}
