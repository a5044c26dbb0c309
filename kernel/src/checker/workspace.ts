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
import type { CellSyntax, DeclarationKind } from "../language/syntax.js";
import { Chapter, headerLine, type Known } from "./chapters.js";
import { PRELUDE } from "./prelude.js";

const FOLDER = "aronnax-cells-";

/**
 * The folder that the language server looks at. Cells that ran are its chapters, modules `past-<n>.ts`; the cell being
 * checked is `current.ts`. A header line in front of each brings the names of earlier cells into scope, so that the
 * user's text keeps its own lines and columns.
 *
 * Packages are found as in the notebook's folder and then as in the repository: a chain of nested folders, each with
 * a link to one `node_modules`, stands for that order.
 */
export class CellWorkspace {
  readonly root: string;
  readonly folder: string;
  readonly #known = new Map<string, Known>();
  readonly #chapters: Chapter[] = [];

  constructor(notebookFolder: string, repository: string) {
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
    const own = join(notebookFolder, "tsconfig.json");
    const settings = {
      ...(existsSync(own) ? { extends: own } : {}),
      compilerOptions: {
        ...(existsSync(own) ? {} : { strict: true, lib: ["esnext"], types: ["node"] }),
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
        composite: false,
        incremental: false,
        declaration: false,
        verbatimModuleSyntax: false,
        isolatedModules: false,
        noUnusedLocals: false,
        noUnusedParameters: false,
        rootDirs: [folder, notebookFolder],
      },
      files: ["prelude.d.ts", "current.ts"],
      include: [],
      references: [],
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(settings));
    writeFileSync(join(folder, "prelude.d.ts"), PRELUDE);
    writeFileSync(join(folder, "current.ts"), "export {};\n");
  }

  get current(): string {
    return pathToFileURL(join(this.folder, "current.ts")).href;
  }

  /** Names declared by cells so far, newest declaration. */
  get names(): ReadonlyMap<string, { kind: DeclarationKind }> {
    return this.#known;
  }

  /** The header line of `current.ts`: brings in what it `wants` of earlier cells and does not declare itself. */
  header(wants: Iterable<string>, declares: ReadonlySet<string>): string {
    return headerLine(this.#chapters, this.#known, wants, declares, new Set());
  }

  /** Adds a cell that is about to run to the chapters. Says which file is new or changed. */
  add(cell: CellSyntax): { uri: string; created: boolean } {
    let chapter = this.#chapters.at(-1);
    const created = !chapter?.accepts(cell);
    if (!chapter || created) {
      chapter = new Chapter(`past-${this.#chapters.length}`);
      this.#chapters.push(chapter);
    }
    const index = this.#chapters.length - 1;
    chapter.add(cell, withoutExports(cell));
    const earlier = this.#chapters.slice(0, index);
    const header = headerLine(earlier, this.#known, chapter.wanted, chapter.declared, chapter.declared);
    for (const { name, kind } of cell.declarations) this.#known.set(name, { chapter: index, kind });
    const path = join(this.folder, `${chapter.name}.ts`);
    writeFileSync(path, chapter.text(header));
    return { uri: pathToFileURL(path).href, created };
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
