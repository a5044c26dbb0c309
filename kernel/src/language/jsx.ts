import type { NotebookSettings } from "../notebook-settings.js";
import type { CellSyntax } from "./syntax.js";

/** What JSX becomes: calls of a factory in scope, or of a module that is loaded for it. */
export interface JsxWay {
  runtime: "classic" | "automatic";
  factory: string | undefined;
  fragment: string | undefined;
  source: string | undefined;
}

const PRAGMA = /@jsx(Runtime|Frag|ImportSource)?[ \t]+([^\s*]+)/g;

/**
 * The way of a notebook's JSX: as its `tsconfig.json` or a comment in a cell says (`@jsx h`, `@jsxRuntime classic`, ...),
 * which holds for the cells after it too; otherwise classic where a `React` is in scope, and automatic where none is.
 */
export class JsxWays {
  readonly #said = new Map<string, string>();

  constructor(private readonly settings: NotebookSettings) {}

  /** Notes in a cell by which comments its JSX goes, and that it uses the factory. */
  settle(cell: CellSyntax, isKnown: (name: string) => boolean): void {
    if (cell.dialect !== "jsx") return;
    cell.pragma = this.#pragmaFor(cell, isKnown);
    const {
      runtime,
      factory = "React.createElement",
      fragment = "React.Fragment",
    } = jsxWay(cell.pragma, this.settings);
    if (runtime === "classic")
      for (const name of [factory, fragment]) cell.identifiers.add(name.split(".")[0]!);
  }

  #pragmaFor(cell: CellSyntax, isKnown: (name: string) => boolean): string {
    for (const [, what = "", value] of cell.source.matchAll(PRAGMA)) {
      // A factory is of the classic way, a module of the automatic one.
      if (what === "" || what === "Frag") this.#said.set("Runtime", "classic");
      if (what === "ImportSource") this.#said.set("Runtime", "automatic");
      this.#said.set(what, value!);
    }
    if (this.#said.size === 0) {
      if (this.settings.options.jsx) return "";
      const hasReact = cell.identifiers.has("React") || isKnown("React");
      const isDeclared = cell.declarations.some(({ name }) => name === "React");
      return hasReact || isDeclared ? "/** @jsxRuntime classic */" : "";
    }
    return `/** ${[...this.#said].map(([what, value]) => `@jsx${what} ${value}`).join(" */ /** ")} */`;
  }
}

export function jsxWay(pragma: string, { options }: NotebookSettings): JsxWay {
  const said = new Map([...pragma.matchAll(PRAGMA)].map(([, what = "", value]) => [what, value!]));
  const classic = (said.get("Runtime") ?? (options.jsx === "react" ? "classic" : "automatic")) === "classic";
  return {
    runtime: classic ? "classic" : "automatic",
    factory: said.get("") ?? options.jsxFactory,
    fragment: said.get("Frag") ?? options.jsxFragmentFactory,
    source: said.get("ImportSource") ?? options.jsxImportSource,
  };
}
