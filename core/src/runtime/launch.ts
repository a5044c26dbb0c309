/** Attaching to the runtime process, starting it where there is none, and finding out why one is gone. */
import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Address, Connection, type Link, NobodyThere } from "./connection.js";
import { RuntimeError, RuntimeLost } from "./errors.js";
import { deviceSet, nodesOf, type Place, place, pythonCommand, runtimePackage } from "./locate.js";
import { NodeLink } from "./nodes.js";
import { maxPayloadLength, protocolVersion } from "./protocol.js";
import type { RuntimeInfo } from "./types.js";

export interface LaunchOptions {
  /** Folder of the sockets; default as docs/contracts.md says. */
  directory?: string;
  /** Device set, e.g. `cpu:8`; default ARONNAX_DEVICES, else what the machine has. */
  devices?: string;
  /** Start a process if there is none. Default true. */
  start?: boolean;
  /** Seconds to wait for a process to start, and for one that runs to answer. Default 120. */
  startTimeout?: number;
  /**
   * Processes of a cluster, by rank, that run already (runtime/PROTOCOL.md, Several nodes); they are driven as one. Default
   * ARONNAX_NODES, a list like `unix:/run/a.sock,tcp:10.0.0.2:7300`. TCP shows ARONNAX_RUNTIME_TOKEN.
   */
  nodes?: readonly Address[];
}

export interface Attachment {
  /** The device set, normalised. */
  devices: string;
  link: Link;
  info: Promise<RuntimeInfo>;
}

const hello = {
  protocol: protocolVersion,
  client: `node ${process.version}`,
  pid: process.pid,
  maxPayload: maxPayloadLength,
};

/** Exit status of a process that found another one holding the lock. */
const alreadyRunning = 75;

/** How a process ended that restarts to end a program: its supervisor's words. */
export const restarted = "restarted to end a program";

/** What a client that comes back says, and is told. */
export interface Return {
  /** The session that it had in the process before. */
  resume?: string;
  /** Told when the connection has ended, before what waits fails. */
  ended?: (error: RuntimeLost) => void;
  /** Told that the runtime is short of memory; not by one of several hosts. */
  reclaim?: () => void;
}

/** The connection exists at once, for frames to be queued on; `info` resolves when the runtime answers. */
export function attach(options: LaunchOptions, { resume, ...told }: Return = {}): Attachment {
  const nodes = options.nodes ?? nodesOf(process.env.ARONNAX_NODES);
  if (nodes !== undefined) return attachNodes(nodes, options);
  const where = place(options);
  let pid: number | undefined;
  const connection = new Connection(() => diagnose(where, pid), told);
  const greeting = resume === undefined ? hello : { ...hello, resume };
  const info = (async () => {
    try {
      const answer = (await openOrStart(connection, where, options, greeting)) as RuntimeInfo;
      pid = answer.pid;
      return answer;
    } catch (error) {
      const lost = asLost(error);
      connection.fail(lost);
      throw error instanceof RuntimeError ? error : lost;
    }
  })();
  return { devices: where.devices, link: connection, info };
}

/** Joins the processes of a cluster; one that is lost takes the others with it. */
function attachNodes(nodes: readonly Address[], options: LaunchOptions): Attachment {
  const links = nodes.map((address) => {
    const where = "path" in address ? address.path : `${address.host}:${address.port}`;
    return new Connection(async () => {
      const lost = new RuntimeLost(`the node at ${where} is gone, and with it the buffers of all nodes`, {
        exit: "the node closed the connection",
        fix: "Read the log of that node; start all nodes again and resume from a checkpoint.",
      });
      link.fail(lost);
      return lost;
    });
  });
  const link = new NodeLink(links);
  const patience = options.startTimeout ?? 120;
  const deadline = performance.now() + patience * 1000;
  const open = async (connection: Connection, address: Address): Promise<RuntimeInfo> => {
    for (;;) {
      try {
        const token = process.env.ARONNAX_RUNTIME_TOKEN;
        const greeting = { ...hello, ...(token === undefined ? {} : { token }) };
        return (await connection.open(address, greeting, patience)) as RuntimeInfo;
      } catch (error) {
        if (!(error instanceof NobodyThere) || performance.now() > deadline) throw error;
      }
      await sleep(50);
    }
  };
  const info = Promise.all(links.map((connection, rank) => open(connection, nodes[rank]!))).then(
    (answers) => answers[0]!,
    (error: unknown) => {
      link.fail(asLost(error));
      throw error;
    },
  );
  return { devices: deviceSet(options.devices), link, info };
}

function asLost(error: unknown): RuntimeLost {
  if (error instanceof RuntimeLost) return error;
  const fix = error instanceof RuntimeError ? error.fix : undefined;
  return new RuntimeLost(error instanceof Error ? error.message : String(error), { cause: error, fix });
}

async function openOrStart(
  connection: Connection,
  where: Place,
  options: LaunchOptions,
  greeting: object,
): Promise<unknown> {
  const patience = options.startTimeout ?? 120;
  const deadline = performance.now() + patience * 1000;
  let starting: Starting | undefined;
  for (;;) {
    try {
      return await connection.open({ path: where.socket }, greeting, patience);
    } catch (error) {
      if (!(error instanceof NobodyThere)) throw error;
    }
    if (options.start === false) {
      throw new RuntimeLost(`no runtime is running for ${where.devices}`, {
        exit: "not running",
        fix: "Start one with `npx aronnax runtime start`.",
      });
    }
    if (starting === undefined) starting = start(where);
    else if (starting.exit === alreadyRunning) {
      // It is still starting, or ending: not a process for every look.
      if (performance.now() - starting.at > 250) starting = start(where);
    } else if (starting.exit !== undefined) throw startFailure(where, starting);
    if (performance.now() > deadline) {
      throw new RuntimeLost(`the runtime for ${where.devices} did not start in time`, {
        exit: "start time-out",
        log: logTail(where.log),
        fix: `Read ${where.log}; then \`npx aronnax runtime restart\`.`,
      });
    }
    await sleep(20);
  }
}

interface Starting {
  child: ChildProcess;
  /** Length of the log before: what stands there is of others. */
  logStart: number;
  /** When it was started, by `performance.now()`. */
  at: number;
  exit: number | string | undefined;
}

function start(where: Place): Starting {
  const log = openLog(where);
  const logStart = fs.fstatSync(log).size;
  const cache = process.env.ARONNAX_CACHE_DIR;
  const paths = [runtimePackage(), process.env.PYTHONPATH].filter((entry) => entry !== undefined);
  try {
    // -P: the working folder is no place to import from.
    const child = spawn(
      pythonCommand(),
      ["-P", "-m", "aronnax_runtime", "--directory", where.directory, "--devices", where.devices],
      {
        cwd: "/",
        detached: true,
        stdio: ["ignore", log, log],
        env: {
          ...process.env,
          ...(paths.length > 0 ? { PYTHONPATH: paths.join(":") } : {}),
          ...(cache ? { ARONNAX_CACHE_DIR: path.resolve(cache) } : {}),
        },
      },
    );
    const starting: Starting = { child, logStart, at: performance.now(), exit: undefined };
    child.on("error", (error) => {
      starting.exit = error.message;
    });
    child.on("exit", (code, signal) => {
      starting.exit = code ?? signal ?? "unknown";
    });
    child.unref();
    return starting;
  } finally {
    fs.closeSync(log);
  }
}

function openLog(where: Place): number {
  try {
    return fs.openSync(where.log, "a", 0o600);
  } catch (cause) {
    throw new RuntimeLost(`the runtime's log cannot be written: ${(cause as Error).message}`, {
      exit: "not started",
      fix: "Set ARONNAX_RUNTIME_DIR to a folder that you may write to.",
      cause,
    });
  }
}

function startFailure(where: Place, { exit, logStart }: Starting): RuntimeLost {
  const log = logTail(where.log, 12, logStart);
  // An exception's last line, our own, or what XLA says before it ends the process.
  const at = log.findLastIndex((line) => /Error|error:|^F\d{4} /.test(line));
  const last = log.at(at) ?? "";
  const fix = at < 0 ? undefined : log.slice(at).find((line) => line.startsWith("fix: "));
  const missing = /No module named '?([\w.]+)/.exec(last)?.[1];
  const withoutCuda = where.devices.startsWith("cuda") && /backend|cuda/i.test(last);
  const spawnFailed = typeof exit === "string" && exit.includes("spawn");
  return new RuntimeLost(
    `the runtime for ${where.devices} could not be started with ${pythonCommand()}: ${spawnFailed ? exit : last || `it ended with ${exit}`}`,
    {
      exit: `ended with ${exit} while starting`,
      log,
      fix:
        fix?.slice("fix: ".length) ??
        (missing !== undefined
          ? `Install it for this Python (\`pip install ${missing.split(".")[0]}\`), or set ARONNAX_PYTHON to one that has it.`
          : spawnFailed
            ? "Install Python 3.11 or newer, or set ARONNAX_PYTHON to an interpreter that has jaxlib."
            : withoutCuda
              ? 'Install jax with CUDA for this Python (`pip install "jax[cuda13]"`), or set ARONNAX_DEVICES=cpu.'
              : log.length === 0 && isFull(where.directory)
                ? `The disk of ${where.directory} is full: free some space, or set ARONNAX_RUNTIME_DIR to another folder.`
                : `Read ${where.log}.`),
    },
  );
}

/** Whether a file system has no room for the few bytes of a lock and a log. */
function isFull(folder: string): boolean {
  const { bavail, bsize } = fs.statfsSync(folder);
  return bavail * bsize < 64 * 1024;
}

/** Why the process that we were attached to is gone. Its supervisor notes the exit within milliseconds of it. */
async function diagnose(where: Place, pid: number | undefined): Promise<RuntimeLost> {
  let exit: string | undefined;
  for (let tries = 0; tries < 40 && exit === undefined; tries++) {
    exit = readExitNote(where.exitNote, pid ?? 0);
    if (exit === undefined) await sleep(10);
  }
  const running = exit === undefined && pid !== undefined && isAlive(pid);
  exit ??= running ? "it closed the connection" : "it ended without leaving a note";
  const log = logTail(where.log);
  const tail = log.length > 0 ? `\nlast lines of its log (${where.log}):\n  ${log.join("\n  ")}` : "";
  return new RuntimeLost(`the runtime process${pid === undefined ? "" : ` ${pid}`} is gone: ${exit}${tail}`, {
    exit,
    log,
    fix: "Run the cell again: the next use starts a new runtime. Its buffers are lost; resume from a checkpoint.",
  });
}

/** How the process of this pid, or the last process of all, ended. */
export function readExitNote(file: string, pid?: number): string | undefined {
  try {
    const notes = JSON.parse(fs.readFileSync(file, "utf8")) as { pid: number; reason: string }[];
    return notes.findLast((note) => pid === undefined || note.pid === pid)?.reason;
  } catch {
    return undefined;
  }
}

/** The last lines of a log file, of those from an offset on. */
export function logTail(file: string, lines = 12, from = 0): string[] {
  let text: string;
  try {
    const size = fs.statSync(file).size;
    // A log that is shorter by now has been moved aside.
    const length = Math.min(size - (from > size ? 0 : from), 64 * 1024);
    const bytes = Buffer.alloc(length);
    const fd = fs.openSync(file, "r");
    try {
      fs.readSync(fd, bytes, 0, length, size - length);
    } finally {
      fs.closeSync(fd);
    }
    text = bytes.toString("utf8");
  } catch {
    return [];
  }
  return text === "" ? [] : text.trimEnd().split("\n").slice(-lines);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
