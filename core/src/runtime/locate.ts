/** Where the runtime process is found, and with what it is started (docs/contracts.md, section 1). */
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Address } from "./connection.js";
import { InvalidArgument } from "./errors.js";

/** Files of one runtime process: one per user, host and device set. */
export interface Place {
  /** The device set, normalised: `cpu`, `cpu:8`, `cuda`, `cuda:0,1`. */
  devices: string;
  directory: string;
  socket: string;
  /** Log of the process; older ones are `<log>.1` and so on. */
  log: string;
  /** How the last few processes ended, written by their supervisors. */
  exitNote: string;
}

/** @throws InvalidArgument for a malformed ARONNAX_DEVICES, or a folder that is not ours alone */
export function place(options: { directory?: string; devices?: string } = {}): Place {
  const devices = deviceSet(options.devices);
  const directory = path.resolve(options.directory ?? runtimeDirectory());
  privateDirectory(directory);
  const base = path.join(directory, devices.replaceAll(":", "-").replaceAll(",", "-"));
  const socket = `${base}.sock`;
  if (Buffer.byteLength(socket) > 107) {
    throw new InvalidArgument(
      `the runtime's socket path has ${Buffer.byteLength(socket)} bytes, more than the 107 that Unix sockets allow: ${socket}`,
      { fix: "Set ARONNAX_RUNTIME_DIR to a shorter path." },
    );
  }
  return { devices, directory, socket, log: `${base}.log`, exitNote: `${base}.exit.json` };
}

/** The folder of the sockets. */
export function runtimeDirectory(): string {
  if (process.env.ARONNAX_RUNTIME_DIR) return path.resolve(process.env.ARONNAX_RUNTIME_DIR);
  if (process.env.XDG_RUNTIME_DIR) return path.join(process.env.XDG_RUNTIME_DIR, "aronnax");
  return path.join("/tmp", `aronnax-${process.getuid!()}`);
}

/** The device set as asked for, or by ARONNAX_DEVICES, or what the machine has. */
export function deviceSet(asked = process.env.ARONNAX_DEVICES): string {
  if (asked === undefined || asked === "") return hasNvidiaDriver() ? "cuda" : "cpu";
  const set = asked.trim().toLowerCase();
  const cpu = /^cpu(?::(\d+))?$/.exec(set);
  if (cpu !== null) {
    const count = Number(cpu[1] ?? 1);
    if (count >= 1 && count <= 256) return count === 1 ? "cpu" : `cpu:${count}`;
  }
  if (/^cuda(?::\d+(?:,\d+)*)?$/.test(set)) {
    const ids = set.split(":")[1]?.split(",").map(Number);
    if (ids === undefined) return "cuda";
    if (new Set(ids).size === ids.length) return `cuda:${ids.sort((a, b) => a - b).join(",")}`;
  }
  throw new InvalidArgument(`"${asked}" is no device set`, {
    fix: 'Set ARONNAX_DEVICES to "cpu", "cpu:8" (eight virtual devices), "cuda" or "cuda:0,1".',
  });
}

/** The processes of a cluster, from a list like `unix:/run/a.sock,tcp:10.0.0.2:7300`; undefined for an empty one. */
export function nodesOf(list: string | undefined): Address[] | undefined {
  if (!list) return undefined;
  return list.split(",").map((item) => {
    const unix = /^unix:(\/.+)$/.exec(item.trim());
    if (unix !== null) return { path: unix[1]! };
    const tcp = /^tcp:(.+):(\d+)$/.exec(item.trim());
    if (tcp !== null) return { host: tcp[1]!, port: Number(tcp[2]) };
    throw new InvalidArgument(`"${item}" is no address of a node`, {
      fix: "Set ARONNAX_NODES to a list of unix:/path/to.sock and tcp:host:port, by rank.",
    });
  });
}

/** The interpreter: ARONNAX_PYTHON, else `.venv/bin/python` in a folder above this file or the working folder, else python3. */
export function pythonCommand(): string {
  const chosen = process.env.ARONNAX_PYTHON;
  // The runtime starts in another folder than this one.
  if (chosen) return chosen.includes("/") ? path.resolve(chosen) : chosen;
  return above(path.join(".venv", "bin", "python")) ?? "python3";
}

/** The folder to put on PYTHONPATH; undefined if `aronnax_runtime` is to be found as an installed package. */
export function runtimePackage(): string | undefined {
  const marker = above(path.join("runtime", "aronnax_runtime", "__main__.py"));
  return marker === undefined ? undefined : path.dirname(path.dirname(marker));
}

function hasNvidiaDriver(): boolean {
  return fs.existsSync("/proc/driver/nvidia/version") || fs.existsSync("/dev/nvidiactl");
}

function above(file: string): string | undefined {
  for (const start of [path.dirname(fileURLToPath(import.meta.url)), process.cwd()]) {
    for (let folder = start; ; folder = path.dirname(folder)) {
      const candidate = path.join(folder, file);
      if (fs.existsSync(candidate)) return candidate;
      if (folder === path.dirname(folder)) break;
    }
  }
  return undefined;
}

function privateDirectory(directory: string): void {
  try {
    // Not where the parent is there: in /proc, Node would try for ever.
    const recursive = !fs.existsSync(path.dirname(directory));
    if (!fs.existsSync(directory)) fs.mkdirSync(directory, { recursive, mode: 0o700 });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // Another client may have been faster.
    if (code !== "EEXIST") {
      throw new InvalidArgument(`the runtime folder ${directory} cannot be made: ${message}`, {
        fix: "Set ARONNAX_RUNTIME_DIR to a folder that you may write to.",
        cause: error,
      });
    }
  }
  const stat = fs.lstatSync(directory);
  const uid = process.getuid!();
  if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o077) !== 0) {
    throw new InvalidArgument(
      `the runtime folder ${directory} must be a folder of user ${uid} that nobody else can enter (mode 0700)`,
      {
        fix: `Run \`chmod 700 ${directory}\` if it is yours, else set ARONNAX_RUNTIME_DIR to a folder of your own.`,
      },
    );
  }
}
