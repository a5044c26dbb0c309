import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import rpc, { type MessageConnection } from "vscode-jsonrpc/node";
import type { CellSyntax } from "../language/syntax.js";
import { isRelative } from "../local-files.js";
import type { NotebookSettings } from "../notebook-settings.js";
import type { Piece } from "./chapters.js";
import type { Checker, Completions, Diagnostic } from "./checker.js";
import { hoverMarkdown, type LspCompletion, type LspHover, toCompletion } from "./lsp-answers.js";
import { globalsIn, loosePiece, pieceOf } from "./pieces.js";
import { NotebookView, type Question } from "./view.js";
import { WatchedFiles } from "./watched-files.js";
import { CellWorkspace, EMPTY, QUESTIONS } from "./workspace.js";

interface LspRange {
  start: { line: number; character: number };
  end: { line: number; character: number };
}
interface LspDiagnostic {
  range: LspRange;
  severity?: number;
  code?: number | string;
  message: string;
}

/** How long the server may take to answer, in ms; one that does not is replaced. */
const PATIENCE = 15_000;
const ERROR_SEVERITY = 1;
/**
 * Errors that a notebook has no use for: `import x = require()` in a module, `export =`, and packages without types,
 * whose values are `any`.
 */
const ALLOWED = new Set([1202, 1203, 7016]);
const MODULE_NOT_FOUND = 2307;
const UNREACHABLE = 7027;
/** Names that are not there: of those that cells put on `globalThis` the checker cannot know. */
const NAME_NOT_FOUND = new Set([2304, 2552]);
/** What `noImplicitAny` alone forbids. */
const IMPLICIT_ANY = new Set([
  ...[
    7005, 7006, 7008, 7009, 7010, 7011, 7012, 7013, 7014, 7015, 7016, 7017, 7018, 7019, 7020, 7022, 7023,
    7024,
  ],
  ...[7025, 7026, 7031, 7032, 7033, 7034, 7039, 7051, 7052, 7053, 7055, 7057],
]);
const FILE_CREATED = 1;
const FILE_CHANGED = 2;
const FILE_DELETED = 3;

/** Settings that the server asks for: nothing but what is in scope, so that a completion stays a matter of milliseconds. */
const SETTINGS = {
  suggest: { autoImports: false },
  preferences: { includeCompletionsForModuleExports: false },
};

/**
 * The checker of the kernel: the native TypeScript language server (`tsc --lsp`), a process of its own, reached over
 * the Language Server Protocol. It starts at once, in the background; if it dies, the next question starts a new one.
 */
export class LanguageServerChecker implements Checker {
  readonly #workspace: CellWorkspace;
  /** The notebook as one program, and with variables that may have been assigned meanwhile. */
  readonly #flow = new NotebookView("flow-", true);
  readonly #declared = new NotebookView("declared-", false);
  /** What the server has for each question, and the number of its version. */
  readonly #texts = new Map<string, string>();
  readonly #globals = new Set<string>();
  readonly #endless = new WeakSet<CellSyntax>();
  #server: Promise<MessageConnection> | undefined;
  #process: ChildProcess | undefined;
  #closed = false;
  #version = 1;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #watched = new WatchedFiles();
  #pendingEvents: { uri: string; type: number }[] = [];

  constructor(
    private readonly notebookFolder: string,
    repository: string,
    private readonly settings: NotebookSettings,
  ) {
    this.#workspace = new CellWorkspace(notebookFolder, repository, settings);
    void this.#connection().catch(() => {});
  }

  /**
   * A cell has a mistake where both views see one: types that follow what ran so far know more, and may know too much of
   * a variable that a function or a timer has assigned since.
   */
  check(cell: CellSyntax): Promise<Diagnostic[]> {
    return this.#inTurn(async (server) => {
      this.#watched.follow(cell.specifiers, this.notebookFolder);
      const piece = pieceOf(cell);
      const { errors, ends } = await this.#diagnose(server, this.#flow, piece, cell);
      if (!ends) this.#endless.add(cell);
      if (errors.length === 0) return [];
      const others = await this.#diagnose(server, this.#declared, piece, cell);
      const places = new Set(others.errors.map(placeOf));
      return errors.filter((error) => places.has(placeOf(error)));
    });
  }

  async #diagnose(server: MessageConnection, view: NotebookView, piece: Piece, cell: CellSyntax) {
    const question = view.question(piece);
    let items = await this.#reportOn(server, view, question);
    if (items.some(({ code }) => Number(code) === MODULE_NOT_FOUND)) {
      // It may have been installed since the server looked.
      const packages = cell.specifiers.filter((specifier) => !isRelative(specifier));
      const places = packages.flatMap((specifier) => this.#workspace.packagePlaces(specifier));
      for (const uri of places) this.#pendingEvents.push({ uri, type: FILE_CREATED });
      items = await this.#reportOn(server, view, question);
    }
    const { before } = question;
    const after = before + piece.text.split("\n").length;
    const errors = items
      .filter(
        ({ severity, code, range, message }) =>
          severity === ERROR_SEVERITY &&
          range.start.line >= before &&
          range.start.line < after &&
          !this.#isAllowed(Number(code), message),
      )
      .map(({ code, message, range: { start, end } }) => ({
        code: Number(code ?? 0),
        message: this.#workspace
          .withoutPlaces(message)
          .replace(/because it is an import\.$/, "because it is a constant."),
        line: start.line - before,
        character: start.character,
        endLine: end.line - before,
        endCharacter: end.character,
      }));
    const ends = !items.some(
      ({ code, range }) =>
        Number(code) === UNREACHABLE && range.end.line >= after && range.start.line >= before,
    );
    return { errors, ends };
  }

  #isAllowed(code: number, message: string): boolean {
    if (code === UNREACHABLE || ALLOWED.has(code)) return true;
    if (NAME_NOT_FOUND.has(code)) return this.#globals.has(/'(.*?)'/.exec(message)?.[1] ?? "");
    return !this.settings.strict && IMPLICIT_ANY.has(code);
  }

  async #reportOn(
    server: MessageConnection,
    view: NotebookView,
    question: Question,
  ): Promise<LspDiagnostic[]> {
    const uri = await this.#put(server, view, question);
    const report = await server.sendRequest<{ items: LspDiagnostic[] }>("textDocument/diagnostic", {
      textDocument: { uri },
    });
    return report.items;
  }

  declare(cell: CellSyntax): void {
    for (const name of globalsIn(cell)) this.#globals.add(name);
    const piece = pieceOf(cell);
    const ends = !this.#endless.has(cell);
    const gone = [...this.#flow.add(piece, ends), ...this.#declared.add(piece, true)];
    for (const uri of this.#workspace.discard(gone)) this.#pendingEvents.push({ uri, type: FILE_DELETED });
  }

  complete(source: string, offset: number): Promise<Completions> {
    return this.#inTurn(async (server) => {
      const question = this.#flow.question(loosePiece(source, offset));
      const uri = await this.#put(server, this.#flow, question);
      const position = positionAt(source, offset);
      const answer = await server.sendRequest<{ items: LspCompletion[] } | LspCompletion[] | null>(
        "textDocument/completion",
        {
          textDocument: { uri },
          position: { line: position.line + question.before, character: position.character },
        },
      );
      const items = Array.isArray(answer) ? answer : (answer?.items ?? []);
      const shown = items.filter(({ label }) => !OWN_NAME.test(label));
      return toCompletion(shown, source, offset, this.#flow.names);
    });
  }

  inspect(source: string, offset: number): Promise<string | undefined> {
    return this.#inTurn(async (server) => {
      const question = this.#flow.question(loosePiece(source, -1));
      const uri = await this.#put(server, this.#flow, question);
      const position = positionAt(source, offset);
      const hover = await server.sendRequest<LspHover | null>("textDocument/hover", {
        textDocument: { uri },
        position: { line: position.line + question.before, character: position.character },
      });
      const text = hoverMarkdown(hover);
      return text && this.#workspace.withoutPlaces(text);
    });
  }

  close(): void {
    this.#closed = true;
    this.#process?.kill();
    this.#workspace.remove();
  }

  /** Shows the server a question and all that it names. Returns its place. */
  async #put(
    server: MessageConnection,
    view: NotebookView,
    { text, isJsx, needs }: Question,
  ): Promise<string> {
    for (const path of this.#watched.changes())
      this.#pendingEvents.push({ uri: pathToFileURL(path).href, type: FILE_CHANGED });
    for (const { uri, created } of this.#workspace.write(needs))
      this.#pendingEvents.push({ uri, type: created ? FILE_CREATED : FILE_CHANGED });
    if (this.#pendingEvents.length > 0) {
      const changes = this.#pendingEvents;
      this.#pendingEvents = [];
      await server.sendNotification("workspace/didChangeWatchedFiles", { changes });
    }
    const name = `${view.prefix.slice(0, -1)}.ts${isJsx ? "x" : ""}`;
    const uri = this.#workspace.uriOf(name);
    if (text !== this.#texts.get(name)) {
      this.#texts.set(name, text);
      this.#version += 1;
      await server.sendNotification("textDocument/didChange", {
        textDocument: { uri, version: this.#version },
        contentChanges: [{ text }],
      });
    }
    return uri;
  }

  /** One question at a time, for all of them share one module. */
  #inTurn<T>(ask: (server: MessageConnection) => Promise<T>): Promise<T> {
    const answer = this.#turn.then(() => this.#ask(ask));
    this.#turn = answer.catch(() => {});
    return answer;
  }

  /** Asks, and once more where the server has died of something else meanwhile. */
  async #ask<T>(ask: (server: MessageConnection) => Promise<T>): Promise<T> {
    let late = false;
    const patience = setTimeout(() => {
      late = true;
      this.#process?.kill("SIGKILL");
    }, PATIENCE);
    const server = this.#connection();
    try {
      return await ask(await server);
    } catch (error) {
      if (late) throw new Error(`the TypeScript server did not answer within ${PATIENCE / 1_000} s`);
      if (this.#server === server || this.#closed) throw error;
      return await ask(await this.#connection());
    } finally {
      clearTimeout(patience);
    }
  }

  #connection(): Promise<MessageConnection> {
    this.#server ??= this.#start();
    return this.#server;
  }

  async #start(): Promise<MessageConnection> {
    const child = spawn(serverExecutable(), ["--lsp", "--stdio"], {
      cwd: this.#workspace.folder,
      stdio: ["pipe", "pipe", "ignore"],
      // A notebook's program is small: a low ceiling keeps the server near 85 MB and costs no time.
      env: { ...process.env, GOMEMLIMIT: "120MiB", GOGC: "60" },
    });
    this.#process = child;
    const server = rpc.createMessageConnection(
      new rpc.StreamMessageReader(child.stdout),
      new rpc.StreamMessageWriter(child.stdin),
    );
    const gone = () => {
      if (this.#process !== child) return;
      this.#process = undefined;
      this.#server = undefined;
      server.dispose();
    };
    child.on("exit", gone);
    child.on("error", gone);
    child.stdin.on("error", gone);
    server.onError(() => {});
    server.onRequest("workspace/configuration", (params: { items: unknown[] }) =>
      params.items.map(() => SETTINGS),
    );
    server.onRequest("client/registerCapability", () => null);
    server.listen();
    const { folder } = this.#workspace;
    await server.sendRequest("initialize", {
      processId: process.pid,
      rootUri: `file://${folder}`,
      initializationOptions: { disablePushDiagnostics: true },
      capabilities: {
        workspace: { configuration: true, didChangeWatchedFiles: { dynamicRegistration: false } },
        textDocument: {
          diagnostic: {},
          completion: { completionItem: { labelDetailsSupport: true, documentationFormat: ["markdown"] } },
          hover: { contentFormat: ["markdown"] },
        },
      },
    });
    await server.sendNotification("initialized", {});
    this.#version += 1;
    for (const name of QUESTIONS) {
      this.#texts.set(name, EMPTY);
      await server.sendNotification("textDocument/didOpen", {
        textDocument: {
          uri: this.#workspace.uriOf(name),
          languageId: name.endsWith("x") ? "typescriptreact" : "typescript",
          version: this.#version,
          text: EMPTY,
        },
      });
    }
    // Loads the libraries now rather than in the first cell.
    const uri = this.#workspace.uriOf(QUESTIONS[0]!);
    await server.sendRequest("textDocument/diagnostic", { textDocument: { uri } });
    return server;
  }
}

/** The native compiler of the `typescript` package, started directly: its launcher would be one Node process more. */
function serverExecutable(): string {
  const require = createRequire(import.meta.url);
  const fromTypeScript = createRequire(require.resolve("typescript/package.json"));
  const name = `@typescript/typescript-${process.platform}-${process.arch}`;
  const folder = dirname(fromTypeScript.resolve(`${name}/package.json`));
  const path = join(folder, "lib", process.platform === "win32" ? "tsc.exe" : "tsc");
  if (!existsSync(path)) throw new Error(`the TypeScript compiler is not at ${path}; run npm ci`);
  return path;
}

/** What the modules of the notebook name for themselves. */
const OWN_NAME = /^__(\d+|now_.*)$/;

function placeOf({ line, character }: Diagnostic): string {
  return `${line}:${character}`;
}

function positionAt(source: string, offset: number): { line: number; character: number } {
  const before = source.slice(0, offset);
  const line = before.split("\n").length - 1;
  return { line, character: offset - (before.lastIndexOf("\n") + 1) };
}
