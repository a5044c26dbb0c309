import { existsSync } from "node:fs";
import { join } from "node:path";
import { createPathsMatcher, parseTsconfig } from "get-tsconfig";
import { log } from "./log.js";

/** The compiler settings that hold for the cells of a notebook: those of `tsconfig.json` in its folder, and the defaults. */
export interface NotebookSettings {
  /** The path of the `tsconfig.json`, where there is one. */
  file: string | undefined;
  /** What it says, with what it extends. */
  options: CompilerOptions;
  /** Whether a type that is `any` by want of an annotation is an error. */
  strict: boolean;
  /** Paths that its `paths` give for a module specifier. */
  paths: (specifier: string) => string[];
}

type CompilerOptions = NonNullable<ReturnType<typeof parseTsconfig>["compilerOptions"]>;

/** Those of a notebook without a `tsconfig.json`. */
export const DEFAULTS: NotebookSettings = { file: undefined, options: {}, strict: false, paths: () => [] };

export function readSettings(folder: string): NotebookSettings {
  const file = join(folder, "tsconfig.json");
  const everywhere = process.env.ARONNAX_TYPE_CHECK === "strict";
  const none = { ...DEFAULTS, strict: everywhere };
  if (!existsSync(file)) return none;
  try {
    const config = parseTsconfig(file);
    const options = config.compilerOptions ?? {};
    return {
      file,
      options,
      strict: options.noImplicitAny ?? options.strict ?? everywhere,
      paths: createPathsMatcher({ path: file, config }) ?? (() => []),
    };
  } catch (error) {
    log(`${file} cannot be read, the defaults hold: ${error instanceof Error ? error.message : error}`);
    return none;
  }
}
