import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { CellSyntax } from "../language/syntax.js";
import type { NotebookSettings } from "../notebook-settings.js";
import type { Chapter } from "./chapters.js";
import { PRELUDE } from "./prelude.js";

const FOLDER = "aronnax-cells-";

/** The module of a question, in TypeScript alone and with JSX. Each view has its own, which may not know what others do. */
export const QUESTIONS = ["flow", "declared"].flatMap((name) => [`${name}.ts`, `${name}.tsx`]);
export const EMPTY = "export {};\n";

/**
 * The folder that the language server looks at. Cells that ran are its chapters, modules `flow-<n>.ts` of the one view and
 * `declared-<n>.ts` of the other; what is being asked about is `flow.ts` or `declared.ts`.
 *
 * Packages are found as in the notebook's folder and then as in the repository: a chain of nested folders, each with
 * a link to one `node_modules`, stands for that order.
 */
export class CellWorkspace {
  readonly root: string;
  readonly folder: string;

  constructor(notebookFolder: string, repository: string, { file, options, strict }: NotebookSettings) {
    removeLeftovers();
    this.root = mkdtempSync(join(tmpdir(), `${FOLDER}${process.pid}-`));
    let folder = this.root;
    for (const [index, modules] of moduleFolders(notebookFolder, repository).reverse().entries()) {
      if (index > 0) {
        folder = join(folder, "inner");
        mkdirSync(folder);
      }
      symlinkSync(modules, join(folder, "node_modules"), "junction");
    }
    this.folder = folder;
    const settings = {
      ...(file === undefined ? {} : { extends: file }),
      compilerOptions: {
        strict: options.strict ?? true,
        useUnknownInCatchVariables: options.useUnknownInCatchVariables ?? strict,
        ...(options.lib ? {} : { lib: ["esnext", ...(file === undefined ? [] : ["dom", "dom.iterable"])] }),
        ...(options.jsx ? {} : { jsx: "react-jsx" }),
        // With it types evolve from one assignment to the next; what it alone forbids is let pass unless it was asked for.
        noImplicitAny: true,
        allowUnreachableCode: false,
        target: "esnext",
        module: "esnext",
        moduleResolution: "bundler",
        moduleDetection: "force",
        allowImportingTsExtensions: true,
        resolveJsonModule: true,
        esModuleInterop: true,
        allowJs: true,
        checkJs: false,
        skipLibCheck: true,
        noEmit: true,
        noLib: false,
        composite: false,
        incremental: false,
        declaration: false,
        declarationMap: false,
        emitDeclarationOnly: false,
        isolatedDeclarations: false,
        verbatimModuleSyntax: false,
        isolatedModules: false,
        noUnusedLocals: false,
        noUnusedParameters: false,
        rootDirs: [folder, notebookFolder],
      },
      files: ["prelude.d.ts", ...QUESTIONS],
      include: [],
      references: [],
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(settings));
    writeFileSync(join(folder, "prelude.d.ts"), PRELUDE);
    for (const name of QUESTIONS) writeFileSync(join(folder, name), EMPTY);
  }

  uriOf(name: string): string {
    return pathToFileURL(join(this.folder, name)).href;
  }

  /** Brings the files of chapters up to date. Says which are new or changed. */
  write(chapters: Iterable<Chapter>): { uri: string; created: boolean }[] {
    const events: { uri: string; created: boolean }[] = [];
    for (const chapter of chapters) {
      if (chapter.written) continue;
      const path = join(this.folder, chapter.name);
      events.push({ uri: pathToFileURL(path).href, created: !existsSync(path) });
      writeFileSync(path, chapter.text());
      chapter.written = true;
    }
    return events;
  }

  /** Removes files of chapters. Says which there were. */
  discard(chapters: Iterable<Chapter>): string[] {
    const gone: string[] = [];
    for (const { name } of chapters) {
      const path = join(this.folder, name);
      if (!existsSync(path)) continue;
      rmSync(path);
      gone.push(pathToFileURL(path).href);
    }
    return gone;
  }

  /** A message without the places where the checker keeps the notebook: they are nowhere for the user. */
  withoutPlaces(text: string): string {
    return text
      .replace(/typeof import\("[^"]*aronnax-cells-[^"]*"\)(?!\.)/g, "the notebook")
      .replace(/import\("[^"]*aronnax-cells-[^"]*"\)\.?/g, "")
      .replaceAll(`${this.folder}/`, "")
      .replaceAll(this.root, "the notebook")
      .replace(/\b__now_(?=[\p{ID_Start}$_])|\b__\d+\.(?=[\p{ID_Start}$_])/gu, "");
  }

  /** Where the package of a module specifier is looked for first, as URIs: what to announce when it was installed. */
  packagePlaces(specifier: string): string[] {
    const name = specifier
      .split("/")
      .slice(0, specifier.startsWith("@") ? 2 : 1)
      .join("/");
    return ["", name, `${name}/package.json`].map(
      (path) => pathToFileURL(join(this.folder, "node_modules", path)).href,
    );
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Removes the folders of kernels that were killed. */
function removeLeftovers(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(FOLDER) && Number(name.slice(FOLDER.length).split("-")[0]);
    if (!pid) continue;
    try {
      process.kill(pid, 0);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") continue;
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
    }
  }
}

/** The cell's text with `export` blanked out: its header exports every name. */
export function withoutExports(cell: CellSyntax): string {
  let text = cell.source;
  for (const statement of cell.program.body) {
    if (statement.type !== "ExportNamedDeclaration") continue;
    const end = statement.declaration?.start ?? statement.end!;
    const start = statement.start!;
    text = text.slice(0, start) + text.slice(start, end).replace(/[^\n]/g, " ") + text.slice(end);
  }
  return text;
}

/**
 * `node_modules` folders in the order in which a cell looks for packages: the nearest of the notebook first. That of
 * the notebook's own folder is always among them, for a package may be installed there later.
 */
export function moduleFolders(notebookFolder: string, repository: string): string[] {
  const found = [join(resolve(notebookFolder), "node_modules")];
  const climb = (from: string) => {
    for (let folder = resolve(from); ; folder = dirname(folder)) {
      const modules = join(folder, "node_modules");
      if (!found.includes(modules) && isFolder(modules)) found.push(modules);
      if (dirname(folder) === folder) return;
    }
  };
  climb(notebookFolder);
  climb(repository);
  return found;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
