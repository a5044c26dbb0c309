import { readFileSync } from "node:fs";

/** The connection file that a Jupyter client writes for a kernel (jupyter-client docs, "Connection files"). */
export interface ConnectionInfo {
  transport: "tcp" | "ipc";
  ip: string;
  shell_port: number;
  control_port: number;
  iopub_port: number;
  stdin_port: number;
  hb_port: number;
  key: string;
  signature_scheme: string;
}

const PORTS = ["shell_port", "control_port", "iopub_port", "stdin_port", "hb_port"] as const;

/** Reads and checks a connection file. Throws an `Error` that names the file and the field. */
export function readConnectionFile(path: string): ConnectionInfo {
  const info = JSON.parse(readFileSync(path, "utf8")) as Partial<ConnectionInfo>;
  for (const port of PORTS) {
    if (!Number.isInteger(info[port])) {
      throw new Error(`connection file ${path}: ${port} is ${JSON.stringify(info[port])}, not a port number`);
    }
  }
  const scheme = info.signature_scheme ?? "hmac-sha256";
  if (!scheme.startsWith("hmac-")) {
    throw new Error(`connection file ${path}: signature_scheme ${JSON.stringify(scheme)} is not hmac-<hash>`);
  }
  const transport = info.transport ?? "tcp";
  if (transport !== "tcp" && transport !== "ipc") {
    throw new Error(`connection file ${path}: transport ${JSON.stringify(transport)} is neither tcp nor ipc`);
  }
  return {
    ...(info as ConnectionInfo),
    transport,
    ip: info.ip ?? "127.0.0.1",
    key: info.key ?? "",
    signature_scheme: scheme,
  };
}

/** The ZeroMQ address of one of the five sockets. */
export function endpoint(info: ConnectionInfo, port: (typeof PORTS)[number]): string {
  return info.transport === "ipc" ? `ipc://${info.ip}-${info[port]}` : `tcp://${info.ip}:${info[port]}`;
}
