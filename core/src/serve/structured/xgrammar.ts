/**
 * `@mlc-ai/web-xgrammar` 0.1.27 is a UMD module whose package says it is ESM, so neither `import` nor `require` of it gives its exports; it is
 * compiled here as the CommonJS it is.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { compileFunction, constants } from "node:vm";
import type * as XGrammar from "@mlc-ai/web-xgrammar";

let loaded: typeof XGrammar | undefined;

export function loadXGrammar(): typeof XGrammar {
  if (loaded !== undefined) return loaded;
  const require = createRequire(import.meta.url);
  const file = require.resolve("@mlc-ai/web-xgrammar");
  const run = compileFunction(
    readFileSync(file, "utf8"),
    ["module", "exports", "require", "__filename", "__dirname"],
    {
      filename: file,
      importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    },
  );
  const module = { exports: {} as typeof XGrammar };
  run.call(module.exports, module, module.exports, createRequire(file), file, dirname(file));
  loaded = module.exports;
  return loaded;
}
