import type { Runtime, Debugger as V8 } from "node:inspector";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CellSources } from "../engine/cells.js";
import type { CompiledCell } from "../link.js";
import { log } from "../log.js";
import type { Json } from "../protocol/wire.js";
import { InspectorClient } from "./inspector-client.js";
import { murmur2 } from "./murmur2.js";
import { Variables } from "./variables.js";

/** As debugpy and ipykernel use it; front ends read it from `debugInfo`. */
const SEED = 0xc70f6907;
const THREAD = 1;
/** Code that stepping passes over. */
const BLACKBOX = ["^node:", "/kernel/dist/", "/node_modules/"];

interface Breakpoint {
  line: number;
  condition?: string;
}

type Command = (parameters: Json) => Promise<Json> | Json;

/**
 * The debug protocol of Jupyter (the Debug Adapter Protocol on the control channel, with Jupyter's additions), on V8's
 * inspector. It runs in the messaging thread and pauses the main one.
 *
 * A front end waits for each answer, and does nothing where one does not come: so no answer waits for the main thread, which a
 * cell may keep busy, but those that tell what it has. Its orders reach V8 in the midst of running code, in order.
 *
 * A front end knows the source of a cell by a path made of a hash of its text. Breakpoints are kept by that path and
 * are set anew for each execution of such a cell, whose script is `cell://<count>`.
 */
export class CellDebugger {
  readonly #prefix = join(tmpdir(), `aronnax_${process.pid}_`);
  readonly #sources = new Map<string, string>();
  readonly #breakpoints = new Map<string, Breakpoint[]>();
  readonly #paths = new Map<string, string>();
  readonly #set = new Map<string, string[]>();
  /** The cells that ran since the debugger was attached. */
  readonly #cells = new CellSources();
  /** Breakpoints are set in one script after the other. */
  #setting: Promise<void> = Promise.resolve();
  #inspector: InspectorClient | undefined;
  #variables: Variables | undefined;
  #frames: V8.CallFrame[] = [];
  /** Number of the first of them. Each stop has numbers of its own: JupyterLab takes a number that it knows for a frame that it has. */
  #firstFrame = 1;
  #lastFrames = 0;
  /** V8 names the script of a frame by its id only. */
  readonly #scripts = new Map<string, string>();
  #sequence = 0;
  #stepping = false;
  #stopsAtErrors = false;

  constructor(
    private readonly emit: (event: Json) => void,
    /** Names that cells have declared, and what they are called at run time. */
    private readonly names: () => Iterable<[name: string, atRunTime: string]>,
  ) {}

  get state(): { attached: boolean; stopsAtErrors: boolean } {
    return { attached: this.#inspector !== undefined, stopsAtErrors: this.#stopsAtErrors };
  }

  get paused(): boolean {
    return this.#frames.length > 0;
  }

  async handle(request: Json): Promise<Json> {
    const command = String(request.command);
    const reply = { type: "response", request_seq: request.seq, seq: ++this.#sequence, command };
    try {
      const run = Object.hasOwn(this.#commands, command) ? this.#commands[command] : undefined;
      if (!run) throw new Error(`the debugger has no command ${JSON.stringify(command)}`);
      return { ...reply, success: true, body: await run((request.arguments ?? {}) as Json) };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return { ...reply, success: false, message, body: { error: { id: 1, format: message } } };
    }
  }

  /** A cell is about to run as `cell://<count>`: its breakpoints go in. */
  async beforeRun(source: string, count: number, cell: CompiledCell): Promise<void> {
    if (!this.#inspector) return;
    const path = this.#pathOf(source);
    const url = `cell://${count}`;
    this.#sources.set(path, source);
    this.#paths.set(url, path);
    this.#cells.add(url, source, cell);
    await this.#setBreakpoints(url, path);
  }

  /** Lets a paused cell go, to its end by force. */
  async abandon(): Promise<void> {
    await this.#inspector?.post("Debugger.resume", { terminateOnResume: true });
  }

  /** A session that is still connected would keep the process from exiting. */
  close(): void {
    this.#inspector?.close();
    this.#inspector = undefined;
  }

  readonly #commands: Record<string, Command> = {
    initialize: () => ({
      supportsConfigurationDoneRequest: true,
      supportsConditionalBreakpoints: true,
      supportsEvaluateForHovers: true,
      supportsSetVariable: false,
      // Not those that nobody catches: the kernel catches what a cell throws, and V8 tells no more.
      exceptionBreakpointFilters: [
        { filter: "raised", label: "Raised Exceptions", default: false, supportsCondition: false },
      ],
    }),
    attach: () => this.#start(),
    configurationDone: () => ({}),
    debugInfo: () => ({
      isStarted: this.#inspector !== undefined,
      hashMethod: "Murmur2",
      hashSeed: SEED,
      tmpFilePrefix: this.#prefix,
      tmpFileSuffix: ".ts",
      breakpoints: [...this.#breakpoints].map(([source, breakpoints]) => ({ source, breakpoints })),
      stoppedThreads: this.paused ? [THREAD] : [],
      richRendering: false,
      exceptionPaths: [],
      copyToGlobals: false,
    }),
    dumpCell: ({ code }) => {
      const sourcePath = this.#pathOf(String(code));
      this.#sources.set(sourcePath, String(code));
      return { sourcePath };
    },
    setBreakpoints: ({ source, breakpoints }) => {
      const path = String((source as Json).path);
      const list = ((breakpoints ?? []) as Json[]).map(({ line, condition }) => ({
        line: Number(line),
        ...(condition ? { condition: String(condition) } : {}),
      }));
      this.#breakpoints.set(path, list);
      if (this.#inspector) {
        for (const [url, of] of this.#paths) if (of === path) void this.#setBreakpoints(url, path);
      }
      return { breakpoints: list.map(({ line }, id) => ({ id, verified: true, line, source: { path } })) };
    },
    setExceptionBreakpoints: ({ filters }) => {
      this.#stopsAtErrors = ((filters ?? []) as string[]).includes("raised");
      this.#order("Debugger.setPauseOnExceptions", { state: this.#stopsAtErrors ? "all" : "none" });
      return {};
    },
    source: ({ source }) => {
      const path = String((source as Json).path);
      const content = this.#sources.get(path);
      if (content === undefined) throw new Error(`there is no cell with the source path ${path}`);
      return { content, mimeType: "text/x-typescript" };
    },
    modules: () => {
      const urls = new Set([...this.#scripts.values()].filter((url) => url.startsWith("file:")));
      const own = [...urls].filter((url) => !BLACKBOX.some((part) => url.includes(part)));
      const modules = own.map((url, id) => ({
        id,
        name: url.split("/").at(-1),
        path: url.replace(/^file:\/\//, ""),
      }));
      return { modules, totalModules: modules.length };
    },
    threads: () => ({ threads: [{ id: THREAD, name: "main" }] }),
    stackTrace: () => {
      const stackFrames = this.#frames.map(({ functionName, location }, index) => {
        const url = this.#scripts.get(location.scriptId) ?? "";
        return {
          id: this.#firstFrame + index,
          name: functionName || "(cell)",
          ...this.#cells.original(url, location.lineNumber + 1, (location.columnNumber ?? 0) + 1),
          source: { path: this.#paths.get(url) ?? url.replace(/^file:\/\//, "") },
        };
      });
      return { stackFrames, totalFrames: stackFrames.length };
    },
    scopes: ({ frameId }) => {
      const frame = this.#frame(frameId);
      return { scopes: frame && this.#variables ? this.#variables.scopes(frame) : [] };
    },
    variables: async ({ variablesReference }) => ({
      variables: (await this.#variables?.children(Number(variablesReference))) ?? [],
    }),
    inspectVariables: () => this.#notebookVariables(),
    richInspectVariables: async ({ variableName }) => {
      const { result } = await this.#evaluate(String(variableName));
      const [described] = await this.#variables!.describe([{ name: String(variableName), value: result }]);
      return { data: { "text/plain": described!.value }, metadata: {} };
    },
    evaluate: async ({ expression, frameId }) => {
      const { result, exceptionDetails } = await this.#evaluate(String(expression), this.#frame(frameId), {
        replMode: true,
      });
      if (exceptionDetails) throw new Error(result.description?.split("\n")[0] ?? exceptionDetails.text);
      const [described] = await this.#variables!.describe([{ name: "", value: result }]);
      const { value, variablesReference } = described!;
      return { result: value, type: result.className ?? result.subtype ?? result.type, variablesReference };
    },
    continue: () => this.#go("resume", false),
    next: () => this.#go("stepOver", true),
    stepIn: () => this.#go("stepInto", true),
    stepOut: () => this.#go("stepOut", true),
    pause: () => {
      this.#order("Debugger.pause");
      return {};
    },
    disconnect: () => this.#stop(),
    terminate: () => this.#stop(),
  };

  #start(): Json {
    if (!this.#inspector) {
      const inspector = new InspectorClient();
      inspector.on<V8.PausedEventDataType>("Debugger.paused", (event) => this.#onPaused(event));
      inspector.on("Debugger.resumed", () => this.#onResumed());
      inspector.on<V8.ScriptParsedEventDataType>("Debugger.scriptParsed", ({ scriptId, url }) => {
        if (/^(cell|file):/.test(url)) this.#scripts.set(scriptId, url);
      });
      this.#variables = new Variables(inspector);
      this.#inspector = inspector;
      this.#order("Debugger.enable");
      this.#order("Debugger.setBlackboxPatterns", { patterns: BLACKBOX });
    }
    this.#event("initialized", {});
    return {};
  }

  /** Paused code goes on when the session ends. */
  #stop(): Json {
    this.close();
    this.#variables = undefined;
    this.#frames = [];
    this.#breakpoints.clear();
    this.#set.clear();
    this.#scripts.clear();
    this.#stopsAtErrors = false;
    return {};
  }

  /** Resolves when they are set. */
  #setBreakpoints(url: string, path: string): Promise<void> {
    const inspector = this.#active();
    const set = async () => {
      for (const breakpointId of this.#set.get(url) ?? [])
        await inspector.post("Debugger.removeBreakpoint", { breakpointId });
      const ids: string[] = [];
      for (const { line, condition } of this.#breakpoints.get(path) ?? []) {
        const answer = await inspector.post<V8.SetBreakpointByUrlReturnType>("Debugger.setBreakpointByUrl", {
          url,
          lineNumber: this.#cells.generatedLine(url, line) - 1,
          ...(condition ? { condition } : {}),
        });
        ids.push(answer.breakpointId);
      }
      this.#set.set(url, ids);
    };
    this.#setting = this.#setting.then(set).catch((error) => log(`breakpoints of ${url}: ${error}`));
    return this.#setting;
  }

  #onPaused({ callFrames, reason, hitBreakpoints }: V8.PausedEventDataType): void {
    const frames = callFrames.filter(({ location }) => {
      const url = this.#scripts.get(location.scriptId);
      return url !== undefined && !BLACKBOX.some((part) => url.includes(part));
    });
    if (frames.length === 0) {
      void this.#inspector?.post("Debugger.resume");
      return;
    }
    this.#firstFrame += this.#lastFrames;
    this.#lastFrames = frames.length;
    this.#frames = frames;
    const why = hitBreakpoints?.length
      ? "breakpoint"
      : /exception|promiseRejection/.test(reason)
        ? "exception"
        : this.#stepping
          ? "step"
          : "pause";
    this.#event("stopped", { reason: why, threadId: THREAD, allThreadsStopped: true });
  }

  #onResumed(): void {
    if (!this.paused) return;
    this.#frames = [];
    this.#variables?.clear();
    this.#event("continued", { threadId: THREAD, allThreadsContinued: true });
  }

  async #go(how: "resume" | "stepOver" | "stepInto" | "stepOut", stepping: boolean): Promise<Json> {
    this.#stepping = stepping;
    await this.#active().ask(`Debugger.${how}`);
    return { allThreadsContinued: true };
  }

  /** The frame with this number, or the one where the code stands; undefined while nothing is stopped. */
  #frame(id: unknown): V8.CallFrame | undefined {
    return this.#frames[id === undefined ? 0 : Number(id) - this.#firstFrame];
  }

  /** In REPL mode `await` is allowed, and the answer, a promise's, waits until a cell that runs or is stopped gives way. */
  #evaluate(
    expression: string,
    frame = this.#frames[0],
    { replMode = false } = {},
  ): Promise<Runtime.EvaluateReturnType> {
    const callFrameId = frame?.callFrameId;
    const options = { expression, silent: true };
    return callFrameId
      ? this.#active().ask("Debugger.evaluateOnCallFrame", { callFrameId, ...options })
      : this.#active().ask("Runtime.evaluate", { ...options, replMode });
  }

  /** The variables of the notebook, for the panel of a front end while nothing is stopped. */
  async #notebookVariables(): Promise<Json> {
    if (!this.#inspector || !this.#variables) return { variables: [] };
    const variables = this.#variables;
    const asked = [...this.names()].map(async ([name, atRunTime]) => ({
      name,
      ...(await this.#evaluate(shortened(atRunTime))),
    }));
    const found = (await settledOnes(asked)).filter(({ exceptionDetails }) => !exceptionDetails);
    return {
      variables: await variables.describe(found.map(({ name, result }) => ({ name, value: result }))),
    };
  }

  /** What nobody waits for. A session that ended meanwhile has no use for it. */
  #order(method: string, parameters: object = {}): void {
    this.#active()
      .post(method, parameters)
      .catch(() => {});
  }

  #pathOf(source: string): string {
    return `${this.#prefix}${murmur2(source, SEED)}.ts`;
  }

  #active(): InspectorClient {
    if (!this.#inspector) throw new Error("the debugger is not started: send initialize and attach first");
    return this.#inspector;
  }

  #event(event: string, body: Json): void {
    this.emit({ type: "event", seq: ++this.#sequence, event, body });
  }
}

/** An expression for a variable that does not fetch a whole book. */
function shortened(name: string): string {
  return `typeof ${name} === "string" && ${name}.length > 1000 ? ${name}.slice(0, 1000) + "…" : ${name}`;
}

async function settledOnes<T>(promises: Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(promises);
  return settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
}
