import { createRequire, registerHooks } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { findLocalFile, isRelative, modifiedAt } from "../local-files.js";
import type { NotebookSettings } from "../notebook-settings.js";
import { toJavaScript } from "./local-typescript.js";

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
    /** Takes the source map of a local module whose code was generated. */
    private readonly mapped: (url: string, map: string) => void,
    private readonly settings: NotebookSettings,
  ) {}

  install(): void {
    registerHooks({
      resolve: (specifier, context, next) => {
        const { parentURL } = context;
        if (parentURL !== SELF && parentURL !== this.#notebookUrl()) {
          const parent = parentURL?.startsWith("file:") ? withoutQuery(parentURL) : undefined;
          const isLocal = parent !== undefined && this.#local.has(fileURLToPath(parent));
          if (!isLocal) return next(specifier, context);
          const local = isRelative(specifier) ? specifier : this.#mapped(specifier);
          if (local === undefined) return this.#orOfRepository(specifier, context, context, next);
          const importer = fileURLToPath(parent);
          return this.#versioned(resolveLocal(local, parentURL!, context, next), context, importer);
        }
        const fromNotebook = { ...context, parentURL: this.#notebookUrl() };
        const local = isRelative(specifier) ? specifier : this.#mapped(specifier);
        if (local !== undefined)
          return this.#versioned(resolveLocal(local, this.#notebookUrl(), context, next), context);
        return this.#orOfRepository(specifier, fromNotebook, context, next);
      },
      load: (url, context, next) => {
        if (!/^file:.*\.(m?ts|[jt]sx)(\?|$)/.test(url)) return next(url, context);
        const path = fileURLToPath(withoutQuery(url));
        if (!this.#local.has(path)) return next(url, context);
        const { code, map } = toJavaScript(path, this.settings);
        if (map !== undefined) this.mapped(url, map);
        return { format: "module", source: code, shortCircuit: true };
      },
    });
  }

  /** What `import` in a cell does; `names` are those that it takes from the module as values. */
  readonly import = async (
    specifier: unknown,
    options?: ImportCallOptions,
    names: string[] = [],
  ): Promise<object> => {
    const name = specifier instanceof URL ? specifier.href : String(specifier);
    if (Object.hasOwn(this.provided, name)) return this.provided[name]!;
    this.#noticeChanges();
    return withNames((await import(name, options)) as Record<string, unknown>, names, name);
  };

  /** `require`, as from the notebook's folder. */
  get require(): NodeJS.Require {
    const original = createRequire(this.#notebookUrl());
    const required = (name: string): unknown => {
      if (Object.hasOwn(this.provided, name)) return this.provided[name];
      this.#noticeChanges();
      return original(name);
    };
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

  /** A package as from one place, or else as from the repository. */
  #orOfRepository(specifier: string, from: Context, context: Context, next: Next) {
    try {
      return next(specifier, from);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ERR_MODULE_NOT_FOUND" && code !== "MODULE_NOT_FOUND") throw error;
      try {
        const parentURL = pathToFileURL(join(this.repository, "cell")).href;
        return next(specifier, { ...context, parentURL });
      } catch {
        throw notFound(specifier, code);
      }
    }
  }

  /** The file that the `paths` of `tsconfig.json` give for a module, where it is there. */
  #mapped(specifier: string): string | undefined {
    const found = this.settings
      .paths(specifier)
      .map(findLocalFile)
      .find((path) => path !== undefined);
    return found && pathToFileURL(found).href;
  }

  #notebookUrl(): string {
    return pathToFileURL(join(process.cwd(), "cell")).href;
  }

  #versioned<R extends { url: string }>(resolved: R, context: Context, importer?: string): R {
    if (!resolved.url.startsWith("file:") || resolved.url.includes("/node_modules/")) return resolved;
    const path = fileURLToPath(withoutQuery(resolved.url));
    let module = this.#local.get(path);
    if (!module) {
      module = { version: 0, modified: modifiedAt(path), importers: new Set() };
      this.#local.set(path, module);
    }
    if (importer) module.importers.add(importer);
    if (isRequire(context)) return resolved;
    const url = module.version === 0 ? resolved.url : `${withoutQuery(resolved.url)}?v=${module.version}`;
    // A local JSON file needs no `with { type: "json" }`, as in TypeScript.
    return { ...resolved, url, ...(path.endsWith(".json") ? { importAttributes: { type: "json" } } : {}) };
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
      // CommonJS has a cache of its own, by path.
      delete this.require.cache[path];
    }
  }
}

/**
 * What a cell imports. Node finds the names that a CommonJS module exports by reading its text, and not all of them: the
 * rest are taken from `module.exports`. A name that is not there at all is an error, as in a module.
 */
function withNames(module: Record<string, unknown>, names: string[], specifier: string): object {
  const whole = withAllOf(module);
  for (const name of names) {
    if (!(name in whole)) {
      throw new SyntaxError(
        `the module ${JSON.stringify(specifier)} does not provide an export named ${JSON.stringify(name)}`,
      );
    }
  }
  return whole;
}

/** Those of CommonJS with all that they export, as `module.exports` has it at the time. */
const completed = new WeakMap<object, object>();

function withAllOf(module: Record<string, unknown>): object {
  const exported: unknown = module["module.exports"];
  if ((typeof exported !== "object" && typeof exported !== "function") || exported === null) return module;
  const known = completed.get(module);
  if (known) return known;
  const whole: object = Object.create(null, { [Symbol.toStringTag]: { value: "Module" } });
  const keys = new Set<string>();
  // What it inherits is taken too: a module may export an object of a class.
  for (let at: object | null = exported; at && !BUILT_IN.has(at); at = Object.getPrototypeOf(at))
    for (const key of Object.getOwnPropertyNames(at)) keys.add(key);
  if (typeof exported === "function") for (const key of OF_FUNCTIONS) keys.delete(key);
  keys.delete("constructor");
  for (const key of keys) {
    const get = () => (exported as Record<string, unknown>)[key];
    Object.defineProperty(whole, key, { enumerable: true, configurable: true, get });
  }
  for (const key of Object.keys(module)) {
    if (keys.has(key) && key !== "default") continue;
    Object.defineProperty(whole, key, { enumerable: true, configurable: true, get: () => module[key] });
  }
  completed.set(module, whole);
  return whole;
}

const BUILT_IN = new Set<object>([Object.prototype, Function.prototype, Array.prototype]);
const OF_FUNCTIONS = ["length", "name", "prototype", "arguments", "caller"];

type Next = Parameters<NonNullable<Parameters<typeof registerHooks>[0]["resolve"]>>[2];
type Context = Parameters<NonNullable<Parameters<typeof registerHooks>[0]["resolve"]>>[1];

function resolveLocal(specifier: string, parentURL: string, context: Context, next: Next) {
  const target = specifier.startsWith("file:") ? new URL(specifier) : new URL(specifier, parentURL);
  const found = findLocalFile(fileURLToPath(withoutQuery(target.href)));
  if (!found) return next(specifier, { ...context, parentURL });
  // `require` takes no URLs.
  return next(isRequire(context) ? found : pathToFileURL(found).href, { ...context, parentURL });
}

function isRequire({ conditions }: Context): boolean {
  return [...(conditions ?? [])].includes("require");
}

function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/, "");
}

function notFound(specifier: string, code: string): Error {
  const name = specifier.startsWith("@")
    ? specifier.split("/").slice(0, 2).join("/")
    : specifier.split("/")[0]!;
  const error = new Error(
    `there is no package ${JSON.stringify(name)} in ${process.cwd()} or the repository`,
  );
  return Object.assign(error, {
    code,
    name: "ModuleNotFound",
    fix: `npm install ${name}   (in ${process.cwd()})`,
  });
}
