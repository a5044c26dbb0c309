import type { TransformOptions } from "esbuild";
import type { NotebookSettings } from "../notebook-settings.js";
import { jsxWay } from "./jsx.js";
import type { CellSyntax } from "./syntax.js";

/** What the compiler is told of a cell or a local file, so that the settings that the checker follows hold when it runs. */
export function emitOptions(
  { dialect, pragma }: Pick<CellSyntax, "dialect" | "pragma">,
  settings: NotebookSettings,
): TransformOptions {
  const { options } = settings;
  const { runtime, factory, fragment, source } = jsxWay(pragma, settings);
  const isLegacy = options.experimentalDecorators === true;
  return {
    loader: dialect === "jsx" ? "tsx" : "ts",
    jsx: runtime === "classic" ? "transform" : "automatic",
    ...(factory ? { jsxFactory: factory } : {}),
    ...(fragment ? { jsxFragment: fragment } : {}),
    ...(source ? { jsxImportSource: source } : {}),
    supported: isLegacy ? {} : { decorators: false },
    tsconfigRaw: {
      compilerOptions: {
        verbatimModuleSyntax: true,
        experimentalDecorators: isLegacy,
        useDefineForClassFields: options.useDefineForClassFields ?? true,
      },
    },
  };
}
