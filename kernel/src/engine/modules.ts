import { readFileSync } from "node:fs";
import { createRequire, registerHooks, stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { findLocalFile, isRelative, modifiedAt } from "../local-files.js";

/** A file of the user's that was imported by a relative path. */
interface LocalModule {
  version: number;
  modified: number;
  importers: Set<string>;
}

const SELF = import.meta.url;

/**
 * Modules of cells. A cell imports as a file in the notebook's folder would, and where nothing is found there, as a
 * file of the repository would, so that `aronnax` is found from any folder.
 *
 * Local files are loaded anew when they, or files that they import, have changed since: V8 knows a module by its URL,
 * so a changed one gets the next version number in its query.
 */
export class CellModules {
  readonly #local = new Map<string, LocalModule>();

  constructor(
    private readonly repository: string,
    /** Modules that the kernel itself provides to cells. */
    private readonly provided: Record<string, object>,
  ) {}

  install(): void {
    registerHooks({
      resolve: (specifier, context, next) => {
        const { parentURL } = context;
        if (parentURL !== SELF) {
          const parent = parentURL?.startsWith("file:") ? withoutQuery(parentURL) : undefined;
          const isLocal = parent !== undefined && this.#local.has(fileURLToPath(parent));
          if (!isLocal || !isRelative(specifier)) return next(specifier, context);
          return this.#versioned(resolveLocal(specifier, parentURL!, context, next), fileURLToPath(parent));
        }
        const fromNotebook = { ...context, parentURL: this.#notebookUrl() };
        if (isRelative(specifier))
          return this.#versioned(resolveLocal(specifier, this.#notebookUrl(), context, next));
        try {
          return next(specifier, fromNotebook);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
          try {
            return next(specifier, {
              ...context,
              parentURL: pathToFileURL(join(this.repository, "cell")).href,
            });
          } catch {
            throw notFound(specifier);
          }
        }
      },
      load: (url, context, next) => {
        if (!/^file:.*\.m?ts(\?|$)/.test(url)) return next(url, context);
        const path = fileURLToPath(withoutQuery(url));
        if (!this.#local.has(path)) return next(url, context);
        return { format: "module", source: toJavaScript(path), shortCircuit: true };
      },
    });
  }

  /** What `import` in a cell does. */
  readonly import = async (specifier: unknown, options?: ImportCallOptions): Promise<object> => {
    const name = specifier instanceof URL ? specifier.href : String(specifier);
    if (Object.hasOwn(this.provided, name)) return this.provided[name]!;
    this.#noticeChanges();
    return (await import(name, options)) as object;
  };

  /** `require`, as from the notebook's folder. */
  get require(): NodeJS.Require {
    const original = createRequire(this.#notebookUrl());
    const required = (name: string): unknown =>
      Object.hasOwn(this.provided, name) ? this.provided[name] : original(name);
    return Object.assign(required, original);
  }

  /** `import.meta` of a cell. */
  get meta(): { url: string; dirname: string; filename: string; resolve(specifier: string): string } {
    const url = this.#notebookUrl();
    return {
      url,
      dirname: process.cwd(),
      filename: fileURLToPath(url),
      resolve: (specifier) =>
        isRelative(specifier)
          ? new URL(specifier, url).href
          : pathToFileURL(this.require.resolve(specifier)).href,
    };
  }

  #notebookUrl(): string {
    return pathToFileURL(join(process.cwd(), "cell")).href;
  }

  #versioned<R extends { url: string }>(resolved: R, importer?: string): R {
    if (!resolved.url.startsWith("file:") || resolved.url.includes("/node_modules/")) return resolved;
    const path = fileURLToPath(withoutQuery(resolved.url));
    let module = this.#local.get(path);
    if (!module) {
      module = { version: 0, modified: modifiedAt(path), importers: new Set() };
      this.#local.set(path, module);
    }
    if (importer) module.importers.add(importer);
    return module.version === 0
      ? resolved
      : { ...resolved, url: `${withoutQuery(resolved.url)}?v=${module.version}` };
  }

  #noticeChanges(): void {
    const changed = new Set<string>();
    const mark = (path: string) => {
      if (changed.has(path)) return;
      changed.add(path);
      for (const importer of this.#local.get(path)?.importers ?? []) mark(importer);
    };
    for (const [path, module] of this.#local) {
      const modified = modifiedAt(path);
      if (modified === module.modified) continue;
      module.modified = modified;
      mark(path);
    }
    for (const path of changed) {
      const module = this.#local.get(path);
      if (module) module.version += 1;
    }
  }
}

/** Removes the types of a local file; with esbuild where it has enums, decorators or other syntax that is more. */
function toJavaScript(path: string): string {
  const source = readFileSync(path, "utf8");
  try {
    if (!/^\s*@[\p{ID_Start}$_]/mu.test(source)) return stripTypeScriptTypes(source);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") throw error;
  }
  const { transformSync } = createRequire(import.meta.url)("esbuild") as typeof import("esbuild");
  return transformSync(source, {
    loader: "ts",
    format: "esm",
    target: "esnext",
    supported: { decorators: false },
    sourcefile: path,
    sourcemap: "inline",
    tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
  }).code;
}

type Next = Parameters<NonNullable<Parameters<typeof registerHooks>[0]["resolve"]>>[2];
type Context = Parameters<NonNullable<Parameters<typeof registerHooks>[0]["resolve"]>>[1];

function resolveLocal(specifier: string, parentURL: string, context: Context, next: Next) {
  const target = specifier.startsWith("file:") ? new URL(specifier) : new URL(specifier, parentURL);
  const found = findLocalFile(fileURLToPath(withoutQuery(target.href)));
  return next(found ? pathToFileURL(found).href : specifier, { ...context, parentURL });
}

function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/, "");
}

function notFound(specifier: string): Error {
  const name = specifier.startsWith("@")
    ? specifier.split("/").slice(0, 2).join("/")
    : specifier.split("/")[0]!;
  const error = new Error(
    `there is no package ${JSON.stringify(name)} in ${process.cwd()} or the repository`,
  );
  return Object.assign(error, {
    name: "ModuleNotFound",
    fix: `npm install ${name}   (in ${process.cwd()})`,
  });
}
