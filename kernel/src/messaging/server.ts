import type { MessagePort } from "node:worker_threads";
import type { Checker } from "../checker/checker.js";
import { CellDebugger } from "../debugger/debugger.js";
import { isComplete } from "../language/completeness.js";
import { contextAt } from "../language/text-context.js";
import { Shared, type ToMain, type ToMessaging } from "../link.js";
import { log } from "../log.js";
import { DEVICES_TARGET, isDevicesEvent, isMetricsEvent, METRICS_TARGET } from "../metrics/events.js";
import { FILES_TARGET } from "../metrics/files-comms.js";
import { DevicesComms } from "../metrics/hosts.js";
import { MetricsComms } from "../metrics/runs.js";
import { RUNTIME_TARGET, RuntimeComms } from "../metrics/runtime-comms.js";
import type { NotebookSettings } from "../notebook-settings.js";
import { paint } from "../paint.js";
import { type Header, type Json, type Message, PROTOCOL_VERSION } from "../protocol/wire.js";
import { CELLS_MESSAGE, CELLS_TARGET, CellOutputs } from "./cell-outputs.js";
import { ChildOutputReader } from "./child-output.js";
import { Executor } from "./executor.js";
import { HeapGuard } from "./heap-guard.js";
import { helpBundle } from "./help.js";
import { History, type HistoryRequest } from "./history.js";
import { Interrupter } from "./interrupter.js";
import { stopInLoop } from "./loop-rescue.js";
import { completeByValue } from "./member-names.js";
import type { Channel, Sockets } from "./sockets.js";
import { toCodePoints, toUtf16 } from "./text-positions.js";

/** Comms that this thread answers, also in the midst of a cell. */
interface ServedComms {
  /** @param session - of the client that opens it. */
  open(commId: string, data: Json, session: string): void;
  message(commId: string, data: Json): void;
  close(commId: string): void;
}

type Handler = (request: Message, channel: Channel) => Promise<Json | undefined> | Json | undefined;

export interface ServerSetup {
  sockets: Sockets;
  checker: Checker;
  settings: NotebookSettings;
  shared: Int32Array;
  main: MessagePort;
  input: MessagePort;
  /** Megabytes that the main thread's heap may have. */
  heapLimit: number;
  version: string;
}

/** How many finished cells are remembered for what they print later. */
const PARENTS = 10_000;
/** So long after a sample of the cells' own runtime those of its watcher are left out, in ms. */
const OWN_TELEMETRY = 3_000;

/** The protocol of the kernel: what each request means, and what the main thread's answers become on the wire. */
export class KernelServer {
  readonly #sockets: Sockets;
  readonly #checker: Checker;
  readonly #shared: Int32Array;
  readonly #main: MessagePort;
  readonly #input: MessagePort;
  readonly #executor: Executor;
  readonly #interrupter: Interrupter;
  readonly #heap: HeapGuard;
  readonly #history = new History();
  readonly #metrics: MetricsComms;
  readonly #devices: DevicesComms;
  /** Comm targets that the kernel itself answers, from this thread. */
  readonly #served: Record<string, ServedComms>;
  readonly #cellOutputs: CellOutputs;
  readonly #runtime: RuntimeComms;
  #heardTelemetry = Number.NEGATIVE_INFINITY;
  readonly #comms = new Map<string, string>();
  readonly #subshells = new Set<string>();
  readonly #debugger = new CellDebugger(
    (event) => this.#publish("debug_event", this.#parent, event),
    () => this.#executor.valueNames,
  );
  /** The requests whose cells ran, by the number of the run: what their timers print later is still theirs. */
  readonly #parents = new Map<number, Header>();
  readonly #children = new ChildOutputReader((run, name, text) =>
    this.#publish("stream", this.#parents.get(run) ?? this.#parent, { name, text }),
  );
  /** What the main thread has said behind a fence that has not been passed. */
  #held: ToMessaging[] | undefined;
  #targets = new Set<string>();
  #parent: Partial<Header> = {};
  #lastRequest: Message | undefined;
  #published: Promise<void> = Promise.resolve();
  #inputPending = false;
  #version: string;

  constructor({ sockets, checker, settings, shared, main, input, heapLimit, version }: ServerSetup) {
    this.#sockets = sockets;
    this.#checker = checker;
    this.#shared = shared;
    this.#main = main;
    this.#input = input;
    this.#version = version;
    this.#interrupter = new Interrupter(
      shared,
      (message) => this.#tell(message),
      async () => {
        await this.#heap.rest();
        return stopInLoop(this.#executor.loops);
      },
    );
    const send = (comm_id: string, data: Json, buffers: Uint8Array[]) =>
      void this.#publish("comm_msg", this.#parent, { comm_id, data }, {}, buffers);
    this.#metrics = new MetricsComms(send);
    this.#devices = new DevicesComms(send, (wanted) => this.#tell({ type: "telemetry", wanted }));
    this.#cellOutputs = new CellOutputs(
      (page, data, buffers) => void this.#publish(CELLS_MESSAGE, this.#parent, { page, data }, {}, buffers),
    );
    this.#runtime = new RuntimeComms(send, (event) => {
      // What the cells' own runtime says of itself comes first: it may be one of several nodes.
      const heard = performance.now() - this.#heardTelemetry < OWN_TELEMETRY;
      if (!heard && isDevicesEvent(event)) this.#devices.publish(event);
    });
    this.#served = {
      [METRICS_TARGET]: this.#metrics,
      [DEVICES_TARGET]: this.#devices,
      [CELLS_TARGET]: this.#cellOutputs,
      [FILES_TARGET]: this.#metrics.files,
      [RUNTIME_TARGET]: this.#runtime,
    };
    this.#heap = new HeapGuard(shared, heapLimit, (used) => this.#heapIsFull(used, heapLimit));
    this.#executor = new Executor({
      checker,
      settings,
      debugging: () => this.#debugger.state,
      running: (running) => (running ? this.#heap.start() : this.#heap.stop()),
      run: (run) => {
        const { header } = this.#executor.current ?? {};
        if (header) this.#parents.set(run.id, header);
        this.#parents.delete(run.id - PARENTS);
        this.#tell({ type: "execute", run });
      },
      beforeRun: (source, count, cell) => this.#debugger.beforeRun(source, count, cell),
      publish: (type, parent, content) => this.#publish(type, parent, content),
      reply: (request, content) => sockets.reply("shell", request, "execute_reply", content),
      status: (parent, state) => {
        if (state === "busy") this.#enter(parent);
        this.#status(parent, state);
      },
      begun: (request, count) => this.#cellOutputs.begin(request, count),
      ended: (request) => this.#cellOutputs.end(request),
      remember: (count, source) => void this.#history.append(count, source).catch(() => {}),
      settled: () => this.#published,
    });
  }

  /** Announces the kernel; afterwards every message that comes in is handled. */
  async start(): Promise<void> {
    this.#main.on("message", (message: ToMessaging) => this.#fromMain(message));
    await this.#sockets.open((channel, message) => void this.#handle(channel, message));
    this.#status({}, "starting");
  }

  readonly #handlers: Record<string, Handler> = {
    kernel_info_request: () => this.#kernelInfo(),
    connect_request: () => ({ status: "ok", ...this.#sockets.ports }),
    complete_request: (request) => this.#complete(request),
    inspect_request: (request) => this.#inspect(request),
    is_complete_request: ({ content }) => ({ ...isComplete(String(content.code ?? "")) }),
    history_request: async ({ content }) => ({
      status: "ok",
      history: await this.#history.find(content as HistoryRequest),
    }),
    comm_info_request: ({ content }) => {
      const comms = [...this.#comms].filter(
        ([, target]) => !content.target_name || content.target_name === target,
      );
      return {
        status: "ok",
        comms: Object.fromEntries(comms.map(([id, target_name]) => [id, { target_name }])),
      };
    },
    comm_open: (request) => this.#commOpened(request),
    comm_msg: (request) => this.#commMessage(request),
    comm_close: (request) => this.#commClosed(request),
    debug_request: ({ content }) => this.#debugger.handle(content),
    interrupt_request: () => this.#interrupt(),
    shutdown_request: ({ content }) => ({ status: "ok", restart: content.restart === true }),
    create_subshell_request: () => {
      const subshell_id = crypto.randomUUID();
      this.#subshells.add(subshell_id);
      return { status: "ok", subshell_id };
    },
    delete_subshell_request: ({ content }) => {
      const known = this.#subshells.delete(String(content.subshell_id));
      return known ? { status: "ok" } : errorReply("KeyError", `no subshell ${content.subshell_id}`);
    },
    list_subshell_request: () => ({ status: "ok", subshell_id: [...this.#subshells] }),
  };

  async #handle(channel: Channel, request: Message): Promise<void> {
    const type = request.header.msg_type;
    if (channel === "stdin") {
      if (type === "input_reply") this.#inputReply(request);
      return;
    }
    if (channel === "shell" && type === "execute_request") {
      this.#lastRequest = request;
      this.#executor.submit(request);
      return;
    }
    const handler = Object.hasOwn(this.#handlers, type) ? this.#handlers[type] : undefined;
    this.#status(request.header, "busy");
    let reply: Json | undefined;
    try {
      if (handler) reply = await handler(request, channel);
      else {
        log(`${type} on ${channel} is not a request that it knows`);
        if (type.endsWith("_request")) reply = errorReply("NotImplementedError", `${type} is not supported`);
      }
    } catch (error) {
      reply = errorReply("KernelError", error instanceof Error ? error.message : String(error));
    }
    if (reply) {
      this.#sockets.reply(channel, request, type.replace(/_request$/, "_reply"), reply);
      if (type === "shutdown_request") this.#publish("shutdown_reply", request.header, reply);
    }
    this.#status(request.header, "idle");
    // A front end shows the last status whosever it was: say again that a cell runs.
    if (this.#executor.current) this.#status(this.#executor.current.header, "busy");
    if (type === "shutdown_request") await this.shutdown();
  }

  #kernelInfo(): Json {
    return {
      status: "ok",
      protocol_version: PROTOCOL_VERSION,
      implementation: "aronnax",
      implementation_version: this.#version,
      language_info: {
        name: "typescript",
        version: "7.0",
        mimetype: "text/x-typescript",
        file_extension: ".ts",
        pygments_lexer: "typescript",
        codemirror_mode: { name: "javascript", typescript: true },
        nbconvert_exporter: "script",
      },
      banner: `Aronnax ${this.#version}: TypeScript on Node ${process.versions.node}`,
      help_links: [{ text: "TypeScript", url: "https://www.typescriptlang.org/docs/" }],
      supported_features: ["debugger", "kernel subshells"],
      debugger: true,
    };
  }

  async #complete({ content }: Message): Promise<Json> {
    const code = String(content.code ?? "");
    const cursor = toUtf16(code, Number(content.cursor_pos ?? code.length));
    const typed = await this.#checker.complete(code, cursor);
    const byValue =
      typed.items.length === 0 && contextAt(code, cursor).kind === "code"
        ? await completeByValue(code, cursor, (name) => this.#executor.nameAtRun(name))
        : undefined;
    const { items, start, end } = byValue ?? typed;
    const cursor_start = toCodePoints(code, start);
    const cursor_end = toCodePoints(code, end);
    return {
      status: "ok",
      matches: items.map((item) => item.name),
      cursor_start,
      cursor_end,
      metadata: {
        _jupyter_types_experimental: items.map(({ name, type, signature }) => ({
          start: cursor_start,
          end: cursor_end,
          text: name,
          type,
          signature,
        })),
      },
    };
  }

  async #inspect({ content }: Message): Promise<Json> {
    const code = String(content.code ?? "");
    const at = toUtf16(code, Number(content.cursor_pos ?? code.length));
    let found = await this.#checker.inspect(code, at);
    // The cursor often stands behind the name, behind its opening parenthesis, or among the arguments of the call.
    const { kind, parentheses } = contextAt(code, at);
    const places = kind === "comment" ? [] : [at - 1, at - 2, ...parentheses.map((open) => open - 1)];
    for (const place of places) {
      if (!found && place >= 0) found = await this.#checker.inspect(code, place);
    }
    if (!found) return { status: "ok", found: false, data: {}, metadata: {} };
    return { status: "ok", found: true, data: helpBundle(found), metadata: {} };
  }

  async #interrupt(): Promise<Json> {
    this.#executor.interruptPreparation();
    if (this.#inputPending) this.#answerInput({ interrupted: true });
    if (this.#debugger.paused) {
      Atomics.store(this.#shared, Shared.terminated, 1);
      await this.#debugger.abandon();
    }
    // Also where no cell runs: a callback that one left behind may keep the thread busy.
    await this.#interrupter.interrupt();
    return { status: "ok" };
  }

  #heapIsFull(used: number, limit: number): void {
    const evalue =
      `the heap is full: ${used} of ${limit} MB are in use; ` +
      "the cell was stopped, and what it had assigned so far is kept";
    const fix =
      "assign undefined to what is not needed any more, or restart the kernel; typed arrays and tensors lie outside " +
      "this heap; NODE_OPTIONS=--max-old-space-size=<MB> gives a kernel more";
    this.#executor.explain({
      ename: "HeapExhausted",
      evalue,
      traceback: [`${paint.error("HeapExhausted")}: ${evalue}`, paint.fix(`Fix: ${fix}`)],
    });
    void this.#interrupter.interrupt();
  }

  #commOpened({ content, metadata, buffers, header }: Message): undefined {
    const id = String(content.comm_id);
    const target = String(content.target_name);
    if (Object.hasOwn(this.#served, target)) {
      this.#comms.set(id, target);
      this.#served[target]!.open(id, (content.data ?? {}) as Json, header.session);
    } else if (this.#targets.has(target)) {
      this.#comms.set(id, target);
      this.#tell({ type: "comm", kind: "open", content, metadata, buffers });
    } else {
      log(`no comm target is registered as ${JSON.stringify(target)}`);
      this.#publish("comm_close", header, { comm_id: id, data: {} });
    }
  }

  #commMessage({ content, metadata, buffers }: Message): undefined {
    const id = String(content.comm_id);
    const target = this.#comms.get(id);
    const served = this.#served[target ?? ""];
    if (served) served.message(id, (content.data ?? {}) as Json);
    else if (target !== undefined) this.#tell({ type: "comm", kind: "msg", content, metadata, buffers });
  }

  #commClosed({ content, metadata, buffers }: Message): undefined {
    const id = String(content.comm_id);
    const target = this.#comms.get(id);
    this.#comms.delete(id);
    const served = this.#served[target ?? ""];
    if (served) served.close(id);
    else if (target !== undefined) this.#tell({ type: "comm", kind: "close", content, metadata, buffers });
  }

  #inputReply({ content }: Message): void {
    if (this.#inputPending) this.#answerInput({ value: String(content.value ?? "") });
  }

  #answerInput(answer: { value: string } | { interrupted: true } | { refused: true }): void {
    this.#inputPending = false;
    this.#input.postMessage(answer);
    Atomics.store(this.#shared, Shared.wake, 1);
    Atomics.notify(this.#shared, Shared.wake);
  }

  /** Passes on what the main thread says, and takes it off the count of what is under way once it is sent. */
  #fromMain(message: ToMessaging): void {
    if (this.#held) this.#held.push(message);
    else if (message.type === "fence") void this.#hold(message);
    else this.#passOn(message);
  }

  /** Keeps back what comes behind a fence until children of the cell have been heard so far. */
  async #hold({ run, number }: { run: number; number: number }): Promise<void> {
    this.#held = [];
    await this.#children.reached(run, number);
    const held = this.#held;
    this.#held = undefined;
    for (const message of held) this.#fromMain(message);
    this.#children.takeAway(run, number);
  }

  #passOn(message: ToMessaging): void {
    this.#relay(message);
    const { size } = message;
    if (!size) return;
    void this.#published.then(() => {
      Atomics.sub(this.#shared, Shared.outputPending, size);
      Atomics.notify(this.#shared, Shared.outputPending);
    });
  }

  #relay(message: ToMessaging): void {
    const parent = this.#parents.get(message.run ?? -1) ?? this.#parent;
    switch (message.type) {
      case "ready":
        return;
      case "stream":
        this.#publish("stream", parent, { name: message.name, text: message.text });
        return;
      case "display": {
        const { bundle, displayId, update, buffers } = message;
        const transient = displayId === undefined ? {} : { display_id: displayId };
        this.#publish(
          update ? "update_display_data" : "display_data",
          parent,
          { ...bundle, transient },
          {},
          buffers,
        );
        return;
      }
      case "clear":
        this.#publish("clear_output", parent, { wait: message.wait });
        return;
      case "result": {
        const execution_count = this.#executor.count;
        this.#publish("execute_result", parent, { execution_count, ...message.bundle, transient: {} });
        const text = message.bundle.data["text/plain"];
        if (typeof text === "string") void this.#history.setOutput(execution_count, text).catch(() => {});
        return;
      }
      case "pipes":
        this.#children.open(message.run, message.paths);
        this.#tell({ type: "piped", run: message.run });
        return;
      case "fence":
        return;
      case "done":
        this.#executor.finished(message.id, message.outcome);
        return;
      case "input":
        this.#askInput(message.prompt, message.password);
        return;
      case "comm":
        this.#sendComm(message, parent);
        return;
      case "targets":
        this.#targets = new Set(message.names);
        return;
      case "metrics":
        if (isMetricsEvent(message.event)) this.#metrics.publish(message.event);
        return;
      case "telemetry":
        if (!isDevicesEvent(message.event)) return;
        this.#heardTelemetry = performance.now();
        this.#devices.publish(message.event);
        return;
      case "broadcast":
        this.#publish(message.messageType, parent, message.content, message.metadata, message.buffers);
        return;
      case "exit":
        void this.#exitFromCell(message.code);
    }
  }

  #askInput(prompt: string, password: boolean): void {
    const request = this.#executor.current ?? this.#lastRequest;
    if (request?.content.allow_stdin !== true) {
      this.#answerInput({ refused: true });
      return;
    }
    this.#inputPending = true;
    this.#sockets.reply("stdin", request, "input_request", { prompt, password });
  }

  #sendComm(
    { kind, content, metadata, buffers }: Extract<ToMessaging, { type: "comm" }>,
    parent: Partial<Header>,
  ): void {
    const id = String(content.comm_id);
    if (kind === "open") this.#comms.set(id, String(content.target_name));
    if (kind === "close") this.#comms.delete(id);
    this.#publish(`comm_${kind}`, parent, content, metadata, buffers);
  }

  /** From here on, output belongs to this request. */
  #enter(parent: Partial<Header>): void {
    this.#parent = parent;
  }

  #status(parent: Partial<Header>, execution_state: "starting" | "busy" | "idle"): void {
    this.#publish("status", parent, { execution_state });
  }

  #publish(
    type: string,
    parent: Partial<Header>,
    content: Json,
    metadata?: Json,
    buffers?: Uint8Array[],
  ): Promise<void> {
    this.#cellOutputs.note(type, parent, content, metadata, buffers);
    this.#published = this.#sockets.publish(type, parent, content, metadata, buffers);
    return this.#published;
  }

  #tell(message: ToMain): void {
    this.#main.postMessage(message);
  }

  /** `process.exit` in a cell: the request is answered, the sockets are closed, then the main thread goes on to exit. */
  async #exitFromCell(code: number): Promise<void> {
    const evalue = `process.exit(${code}) was called in a cell; the kernel ends`;
    this.#executor.fail({ ename: "Exit", evalue, traceback: [`Exit: ${evalue}`] });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await this.#close();
    Atomics.store(this.#shared, Shared.wake, 2);
    Atomics.notify(this.#shared, Shared.wake);
  }

  /** Ends the process: politely first, by force where a cell keeps the main thread busy. */
  async shutdown(code = 0): Promise<void> {
    await this.#close();
    this.#tell({ type: "exit", code });
    setTimeout(() => process.kill(process.pid, "SIGKILL"), 700);
  }

  async #close(): Promise<void> {
    this.#runtime.end();
    this.#debugger.close();
    this.#interrupter.close();
    this.#heap.close();
    this.#checker.close();
    this.#history.close();
    await this.#sockets.close();
  }
}

function errorReply(ename: string, evalue: string): Json {
  return { status: "error", ename, evalue, traceback: [] };
}
