import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { CellSyntax, DeclarationKind } from "../language/syntax.js";
import { PRELUDE } from "./prelude.js";

/** Where a name of the notebook was declared last. */
interface Known {
  module: string;
  kind: DeclarationKind;
}

/**
 * The folder that the language server looks at. Each cell that ran is a module `cell-<n>.ts` in it; the cell being
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

  constructor(notebookFolder: string, repository: string) {
    this.root = mkdtempSync(join(tmpdir(), "aronnax-cells-"));
    let folder = this.root;
    for (const modules of moduleFolders(notebookFolder, repository).reverse()) {
      if (existsSync(join(folder, "node_modules"))) {
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

  /** The header line of a cell: imports what `wanted` names of earlier cells, exports what the cell `declares`. */
  header(wanted: Iterable<string>, declares: ReadonlySet<string>, exportThem: boolean): string {
    const parts: string[] = [];
    for (const name of wanted) {
      const known = this.#known.get(name);
      if (!known || declares.has(name)) continue;
      // An import cannot be assigned to; an ambient variable of the same type can.
      if (known.kind === "variable")
        parts.push(`declare let ${name}: typeof import("./${known.module}").${name};`);
      else if (known.kind === "constant")
        parts.push(`declare const ${name}: typeof import("./${known.module}").${name};`);
      else parts.push(`import { ${name} } from "./${known.module}";`);
    }
    parts.push(exportThem && declares.size > 0 ? `export { ${[...declares].join(", ")} };` : "export {};");
    return `${parts.join(" ")}\n`;
  }

  /** Writes the module of a cell that is about to run. Returns its URI. */
  add(cell: CellSyntax, count: number): string {
    const declares = new Set(cell.declarations.map((declaration) => declaration.name));
    const name = `cell-${count}`;
    const path = join(this.folder, `${name}.ts`);
    writeFileSync(path, this.header(cell.identifiers, declares, true) + withoutExports(cell));
    for (const { name: declared, kind } of cell.declarations)
      this.#known.set(declared, { module: `${name}.ts`, kind });
    return pathToFileURL(path).href;
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
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

/** `node_modules` folders in the order in which a cell looks for packages: the nearest of the notebook first. */
export function moduleFolders(notebookFolder: string, repository: string): string[] {
  const found: string[] = [];
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
