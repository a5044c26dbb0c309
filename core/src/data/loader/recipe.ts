/** Where a loader's `decode` comes from, in this thread and in workers. */
import { existsSync } from "node:fs";
import { extname, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { locate } from "../../graph/site.js";
import { DataError } from "../errors.js";
import { portable } from "./captured.js";
import type { Decode, DecodeModule, Sample } from "./types.js";
import type { DecodeRecipe } from "./worker-program.js";

export type AnyDecode = Decode<never, object, never> | DecodeModule;

/** The file that called the loader, if it is one; imports in `decode` are relative to it. */
export function callersFile(): string {
  const own = /\/data\/loader\//;
  const lines = (new Error().stack ?? "").split("\n").filter((line) => !own.test(line));
  const file = locate(lines.join("\n"))?.file;
  return file !== undefined && isAbsolute(file) && existsSync(file) ? file : join(process.cwd(), "decode.js");
}

/**
 * What a worker makes `decode` of.
 *
 * @param base - see `callersFile`
 * @throws DataError for a function that is not self-contained, and for a module that is not there or that this Node cannot run
 */
export async function recipeOf(decode: AnyDecode, base: string): Promise<DecodeRecipe> {
  if (typeof decode === "function") {
    const name = decode.name === "" ? "decode" : decode.name;
    const { text } = await portable(decode, name);
    return { kind: "text", text, base, home: fileURLToPath(import.meta.url) };
  }
  return moduleRecipe(decode);
}

function moduleRecipe({ module, export: name = "decode" }: DecodeModule): DecodeRecipe & { kind: "module" } {
  const isUrl = /^[a-z][a-z+.-]+:/i.test(module);
  if (isUrl && !module.startsWith("file:")) {
    throw new DataError(
      `decode.module is ${module}, which is no file`,
      "a notebook's cell is no module: pass the function itself, or put it into a file beside the notebook and give its path",
    );
  }
  const path = isUrl ? fileURLToPath(module) : resolve(module);
  if (extname(path) === ".ipynb") {
    throw new DataError(
      `decode.module is the notebook ${path}, which is no module`,
      "pass the function itself, or put it into a file beside the notebook",
    );
  }
  if (!existsSync(path)) {
    throw new DataError(`decode.module: there is no file ${path}`, `paths are relative to ${process.cwd()}`);
  }
  const features = process.features as { typescript?: false | string };
  if (/^\.[cm]?ts$/.test(extname(path)) && !features.typescript) {
    throw new DataError(
      `decode.module is TypeScript, ${path}, which Node ${process.versions.node} does not run`,
      "use Node 22.18 or newer, give the JavaScript compiled from it, or pass a self-contained function",
    );
  }
  return { kind: "module", url: pathToFileURL(path).href, name };
}

/** `decode` for this thread, where it may use any name. */
export async function localDecode(decode: AnyDecode): Promise<Decode<unknown, Sample>> {
  if (typeof decode === "function") return decode as unknown as Decode<unknown, Sample>;
  const { url, name } = moduleRecipe(decode);
  const module = (await import(url)) as Record<string, unknown>;
  const found = module[name];
  if (typeof found === "function") return found as Decode<unknown, Sample>;
  throw new DataError(
    `${url} exports no function ${name}`,
    `it exports ${Object.keys(module).join(", ") || "nothing"}`,
  );
}
