import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import rpc, { type MessageConnection } from "vscode-jsonrpc/node";
import { type CellSyntax, CellSyntaxError, parseCell } from "../language/syntax.js";
import { isRelative } from "../local-files.js";
import type { Checker, Completions, Diagnostic } from "./checker.js";
import { hoverMarkdown, type LspCompletion, type LspHover, toCompletion } from "./lsp-answers.js";
import { WatchedFiles } from "./watched-files.js";
import { CellWorkspace, withoutExports } from "./workspace.js";

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
const FILE_CREATED = 1;
const FILE_CHANGED = 2;

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
  #server: Promise<MessageConnection> | undefined;
  #process: ChildProcess | undefined;
  #closed = false;
  #version = 0;
  #text = "";
  #turn: Promise<unknown> = Promise.resolve();
  readonly #watched = new WatchedFiles();
  #pendingEvents: { uri: string; type: number }[] = [];

  constructor(
    private readonly notebookFolder: string,
    repository: string,
  ) {
    this.#workspace = new CellWorkspace(notebookFolder, repository);
    void this.#connection().catch(() => {});
  }

  check(cell: CellSyntax): Promise<Diagnostic[]> {
    return this.#inTurn(async (server) => {
      this.#watched.follow(cell.specifiers, this.notebookFolder);
      const declares = new Set(cell.declarations.map((declaration) => declaration.name));
      const text = this.#workspace.header(cell.identifiers, declares) + withoutExports(cell);
      const found = await this.#diagnose(server, text);
      if (!found.some(({ code }) => code === MODULE_NOT_FOUND)) return found;
      // It may have been installed since the server looked.
      const packages = cell.specifiers.filter((specifier) => !isRelative(specifier));
      const places = packages.flatMap((specifier) => this.#workspace.packagePlaces(specifier));
      for (const uri of places) this.#pendingEvents.push({ uri, type: FILE_CREATED });
      return this.#diagnose(server, text);
    });
  }

  async #diagnose(server: MessageConnection, text: string): Promise<Diagnostic[]> {
    await this.#setText(server, text);
    const report = await server.sendRequest<{ items: LspDiagnostic[] }>("textDocument/diagnostic", {
      textDocument: { uri: this.#workspace.current },
    });
    return report.items
      .filter(
        ({ severity, code, range }) =>
          severity === ERROR_SEVERITY && range.start.line > 0 && !ALLOWED.has(Number(code)),
      )
      .map(({ code, message, range: { start, end } }) => ({
        code: Number(code ?? 0),
        message: message.replace(/because it is an import\.$/, "because it is a constant."),
        line: start.line - 1,
        character: start.character,
        endLine: end.line - 1,
        endCharacter: end.character,
      }));
  }

  declare(cell: CellSyntax): void {
    const { uri, created } = this.#workspace.add(cell);
    this.#pendingEvents.push({ uri, type: created ? FILE_CREATED : FILE_CHANGED });
    this.#settle();
  }

  /** Takes in what was declared while the cell runs: the next question then changes one file only, which is fast. */
  #settle(): void {
    const settled = this.#inTurn(async (server) => {
      await this.#setText(server, this.#workspace.header([], new Set()));
      await server.sendRequest("textDocument/diagnostic", { textDocument: { uri: this.#workspace.current } });
    });
    settled.catch(() => {});
  }

  complete(source: string, offset: number): Promise<Completions> {
    return this.#inTurn(async (server) => {
      await this.#setText(server, this.#looseText(source, offset));
      const position = positionAt(source, offset);
      const answer = await server.sendRequest<{ items: LspCompletion[] } | LspCompletion[] | null>(
        "textDocument/completion",
        {
          textDocument: { uri: this.#workspace.current },
          position: { line: position.line + 1, character: position.character },
        },
      );
      const items = Array.isArray(answer) ? answer : (answer?.items ?? []);
      return toCompletion(items, source, offset, this.#workspace.names);
    });
  }

  inspect(source: string, offset: number): Promise<string | undefined> {
    return this.#inTurn(async (server) => {
      await this.#setText(server, this.#looseText(source, -1));
      const position = positionAt(source, offset);
      const hover = await server.sendRequest<LspHover | null>("textDocument/hover", {
        textDocument: { uri: this.#workspace.current },
        position: { line: position.line + 1, character: position.character },
      });
      return hoverMarkdown(hover);
    });
  }

  close(): void {
    this.#closed = true;
    this.#process?.kill();
    this.#workspace.remove();
  }

  /** The text to ask about: the header is found from whatever words stand in it, for it need not parse. */
  #looseText(source: string, cursor: number): string {
    let declares = new Set<string>();
    let text = source;
    try {
      const cell = parseCell(source);
      declares = new Set(cell.declarations.map((declaration) => declaration.name));
      text = withoutExports(cell);
    } catch (error) {
      if (!(error instanceof CellSyntaxError)) throw error;
    }
    const words = new Set<string>();
    for (const match of source.matchAll(/[\p{ID_Start}$_][\p{ID_Continue}$]*/gu)) {
      if (match.index + match[0].length !== cursor) words.add(match[0]);
    }
    if (declares.size === 0) {
      for (const match of source.matchAll(
        /^(?:export\s+)?(?:const|let|var|function\*?|class|enum|interface|type|import)\s+([\p{ID_Start}$_][\p{ID_Continue}$]*)/gmu,
      )) {
        declares.add(match[1]!);
      }
    }
    return this.#workspace.header(words, declares) + text;
  }

  async #setText(server: MessageConnection, text: string): Promise<void> {
    for (const path of this.#watched.changes()) {
      this.#pendingEvents.push({ uri: pathToFileURL(path).href, type: FILE_CHANGED });
    }
    if (this.#pendingEvents.length > 0) {
      const changes = this.#pendingEvents;
      this.#pendingEvents = [];
      await server.sendNotification("workspace/didChangeWatchedFiles", { changes });
    }
    if (text === this.#text) return;
    this.#text = text;
    this.#version += 1;
    await server.sendNotification("textDocument/didChange", {
      textDocument: { uri: this.#workspace.current, version: this.#version },
      contentChanges: [{ text }],
    });
  }

  /** One question at a time, for all of them share the text of `current.ts`. */
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
    const { folder, current } = this.#workspace;
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
    this.#text = "export {};\n";
    this.#version = 1;
    await server.sendNotification("textDocument/didOpen", {
      textDocument: { uri: current, languageId: "typescript", version: 1, text: this.#text },
    });
    // Loads the libraries now rather than in the first cell.
    await server.sendRequest("textDocument/diagnostic", { textDocument: { uri: current } });
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

function positionAt(source: string, offset: number): { line: number; character: number } {
  const before = source.slice(0, offset);
  const line = before.split("\n").length - 1;
  return { line, character: offset - (before.lastIndexOf("\n") + 1) };
}
