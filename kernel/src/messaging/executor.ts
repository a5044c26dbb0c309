import type { Checker, Diagnostic } from "../checker/checker.js";
import { compileCell, NameTable } from "../language/compile.js";
import { JsxWays } from "../language/jsx.js";
import { type CellSyntax, CellSyntaxError, parseCell } from "../language/syntax.js";
import type { CellRun, CompiledCell, FormattedError, RunOutcome } from "../link.js";
import { log } from "../log.js";
import type { NotebookSettings } from "../notebook-settings.js";
import type { Header, Json, Message } from "../protocol/wire.js";
import { help, helpSubject } from "./help.js";
import { formatDiagnostics, formatSyntaxError } from "./problems.js";

/** What the executor needs around it. */
export interface ExecutorPorts {
  checker: Checker;
  settings: NotebookSettings;
  /** A cell is ready; it runs when this is done. */
  beforeRun(source: string, count: number, cell: CompiledCell): Promise<void>;
  /** Whether a debugger is attached, and whether it wants to stop where something is thrown. */
  debugging(): { attached: boolean; stopsAtErrors: boolean };
  /** Hands a cell to the main thread; its outcome comes back through `finished`. */
  run(run: CellRun): void;
  /** The main thread has a cell, or none any more. */
  running(running: boolean): void;
  publish(type: string, parent: Partial<Header>, content: Json): void;
  reply(request: Message, content: Json): void;
  status(parent: Partial<Header>, state: "busy" | "idle"): void;
  /** A cell begins, with its number, or null where it has none; and it has ended, all of its output is out. */
  begun(request: Message, count: number | null): void;
  ended(request: Message): void;
  remember(count: number, source: string): void;
  /** All output of the cell has been handed to the sockets. */
  settled(): Promise<void>;
}

interface ExecuteContent {
  code: string;
  silent: boolean;
  store_history: boolean;
  user_expressions: Record<string, string>;
  allow_stdin: boolean;
  stop_on_error: boolean;
}

/** Time for the type check of one cell, in ms, and the length from which a cell runs unchecked, in characters. */
const CHECK_LIMIT = 20_000;
const CHECK_LENGTH = 2_000_000;

/** Runs execute requests one after the other, and aborts those that wait behind a failure. */
export class Executor {
  readonly #names: NameTable;
  readonly #jsx: JsxWays;
  readonly #queue: Message[] = [];
  #pumping = false;
  #runs = 0;
  #waiting:
    | { id: number; settle: (outcome: RunOutcome) => void; reason?: FormattedError; loops: string[][] }
    | undefined;
  /** How many cells have been numbered. */
  count = 0;
  /** The request whose cell runs now. */
  current: Message | undefined;
  /** Names of values that cells have declared, and those that they have at run time. */
  readonly valueNames = new Map<string, string>();
  /** Aborted by an interrupt that comes while the cell is still being checked or compiled. */
  #preparation = new AbortController();

  constructor(private readonly ports: ExecutorPorts) {
    this.#names = new NameTable(ports.settings);
    this.#jsx = new JsxWays(ports.settings);
  }

  submit(request: Message): void {
    this.#queue.push(request);
    if (!this.#pumping) void this.#pump();
  }

  /** An interrupt while a cell is still being checked or compiled. */
  interruptPreparation(): void {
    if (this.current && !this.#waiting) this.#preparation.abort();
  }

  finished(id: number, outcome: RunOutcome): void {
    if (this.#waiting?.id !== id) return;
    const { reason, settle } = this.#waiting;
    settle(reason && outcome.status === "error" ? { status: "error", ...reason } : outcome);
  }

  /** Names that loops of the running cell have taken to themselves. */
  get loops(): string[][] {
    return this.#waiting?.loops ?? [];
  }

  /** The name that a name of the notebook has at run time. */
  nameAtRun(name: string): string {
    return this.#names.shadowing.nameOf(name);
  }

  /** Why the running cell is about to be interrupted, where it was not the user. */
  explain(reason: FormattedError): void {
    if (this.#waiting) this.#waiting.reason = reason;
  }

  /** Ends the running cell with an error of the kernel's own. */
  fail(error: FormattedError): void {
    this.#waiting?.settle({ status: "error", ...error });
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    for (let request = this.#queue.shift(); request; request = this.#queue.shift()) {
      const failed = await this.#execute(request);
      if (failed) this.#abortQueue();
    }
    this.#pumping = false;
  }

  #abortQueue(): void {
    for (let request = this.#queue.shift(); request; request = this.#queue.shift()) {
      this.ports.status(request.header, "busy");
      this.ports.reply(request, { status: "aborted" });
      this.ports.status(request.header, "idle");
    }
  }

  async #execute(request: Message): Promise<boolean> {
    const content = executeContent(request.content);
    const { header } = request;
    this.current = request;
    this.#preparation = new AbortController();
    this.ports.status(header, "busy");
    if (!content.silent && content.store_history) this.count += 1;
    const count = this.count;
    if (!content.silent) {
      this.ports.begun(request, content.store_history ? count : null);
      this.ports.publish("execute_input", header, { code: content.code, execution_count: count });
      if (content.store_history) this.ports.remember(count, content.code);
    }
    let outcome: RunOutcome;
    const payload: Json[] = [];
    try {
      const subject = helpSubject(content.code);
      if (subject) {
        payload.push({ source: "page", data: await help(this.ports.checker, subject), start: 0 });
        outcome = { status: "ok", expressions: {} };
      } else outcome = await this.#runCell(content, count);
    } catch (error) {
      // A fault of the kernel itself must show in the notebook, not hang it.
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      outcome = { status: "error", ename: "KernelError", evalue: String(error), traceback: [message] };
    }
    await this.ports.settled();
    const aborts = outcome.status === "error" && content.stop_on_error;
    // What was sent before the failure is known is aborted with it: let the socket deliver that first.
    if (aborts) await new Promise((resolve) => setTimeout(resolve, 5));
    if (outcome.status === "error" && !content.silent) {
      const { ename, evalue, traceback } = outcome;
      this.ports.publish("error", header, { ename, evalue, traceback });
    }
    this.ports.reply(
      request,
      outcome.status === "ok"
        ? { status: "ok", execution_count: count, user_expressions: outcome.expressions, payload }
        : { ...outcome, execution_count: count, user_expressions: {}, payload: [] },
    );
    this.ports.ended(request);
    this.ports.status(header, "idle");
    this.current = undefined;
    return aborts;
  }

  async #runCell(content: ExecuteContent, count: number): Promise<RunOutcome> {
    const cell = await this.#prepare(content.code, count);
    if ("ename" in cell) return { status: "error", ...cell };
    const expressions: CellRun["expressions"] = {};
    for (const [name, source] of Object.entries(content.user_expressions)) {
      const prepared = await this.#prepare(source, count);
      expressions[name] = "ename" in prepared ? { error: `${prepared.ename}: ${prepared.evalue}` } : prepared;
    }
    if (this.#preparation.signal.aborted) {
      const evalue = "the cell was interrupted before it ran";
      return { status: "error", ename: "Interrupted", evalue, traceback: [`Interrupted: ${evalue}`] };
    }
    await this.ports.beforeRun(content.code, count, cell);
    const id = ++this.#runs;
    return new Promise<RunOutcome>((resolve) => {
      this.#waiting = { id, settle: resolve, loops: cell.loops };
      this.ports.running(true);
      this.ports.run({
        id,
        count,
        source: content.code,
        cell,
        silent: content.silent,
        stopsAtErrors: this.ports.debugging().stopsAtErrors,
        allowInput: content.allow_stdin,
        expressions,
      });
    }).finally(() => {
      this.ports.running(false);
      this.#waiting = undefined;
    });
  }

  /** Parses, checks and compiles; on a mistake returns the error to show instead. */
  async #prepare(source: string, count: number): Promise<CompiledCell | FormattedError> {
    let syntax: CellSyntax;
    try {
      syntax = parseCell(source);
    } catch (error) {
      if (error instanceof CellSyntaxError) return formatSyntaxError(error, source, count);
      throw error;
    }
    this.#jsx.settle(syntax, (name) => this.valueNames.has(name));
    if (!/^\s*\/\/\s*@ts-nocheck\b/m.test(source)) {
      const problems = await this.#check(syntax);
      if (problems.length > 0) return formatDiagnostics(problems, source, count);
    }
    const compiled = await compileCell(
      syntax,
      this.#names,
      `cell://${count}`,
      !this.ports.debugging().attached,
    );
    for (const { name, kind } of syntax.declarations) {
      if (kind === "variable" || kind === "constant")
        this.valueNames.set(name, this.#names.shadowing.nameOf(name));
    }
    this.ports.checker.declare(syntax);
    return compiled;
  }

  /** A checker that fails, or takes too long, never keeps a cell from running. */
  async #check(syntax: CellSyntax): Promise<Diagnostic[]> {
    if (process.env.ARONNAX_TYPE_CHECK === "off") return [];
    if (syntax.program.body.length === 0 || syntax.source.length > CHECK_LENGTH) return [];
    const { signal } = this.#preparation;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(CHECK_LIMIT)]);
    const givenUp = new Promise<never>((_, reject) => {
      limit.addEventListener("abort", () => reject(limit.reason), { once: true });
    });
    try {
      return await Promise.race([this.ports.checker.check(syntax), givenUp]);
    } catch (error) {
      if (!signal.aborted) log(`the type checker failed, the cell runs unchecked: ${error}`);
      return [];
    }
  }
}

function executeContent(content: Json): ExecuteContent {
  const { code, silent, store_history, user_expressions, allow_stdin, stop_on_error } = content;
  const isSilent = silent === true;
  const expressions = Object.entries(user_expressions ?? {}).map(([name, source]) => [name, String(source)]);
  return {
    code: typeof code === "string" ? code : "",
    silent: isSilent,
    store_history: isSilent ? false : store_history !== false,
    user_expressions: Object.fromEntries(expressions) as Record<string, string>,
    allow_stdin: allow_stdin === true,
    stop_on_error: stop_on_error !== false,
  };
}
