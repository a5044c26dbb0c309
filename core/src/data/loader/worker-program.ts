/** The program of a decoding worker thread, as text; see `decoding.ts` for why. */
import type { MessagePort } from "node:worker_threads";
import { Sfc32 } from "../random.js";
import {
  callDecode,
  type DecodeFailure,
  type DecodeReply,
  type DecodeTask,
  failureOf,
  ownSample,
  sampleProblem,
} from "./decoding.js";
import type { Decode, Sample } from "./types.js";

/** Where `decode` comes from. Plain data. */
export type DecodeRecipe =
  | { readonly kind: "module"; readonly url: string; readonly name: string }
  | {
      readonly kind: "text";
      readonly text: string;
      /** A file in the folder that imports are relative to. */
      readonly base: string;
      /** A file from whose folder packages are found that are not found from there: this framework itself. */
      readonly home: string;
    };

/** What a worker is started with. */
export interface WorkerRequest {
  readonly recipe: DecodeRecipe;
  readonly context: unknown;
  readonly seed: number;
  readonly reserved: readonly string[];
  readonly importName: string;
}

/** The first reply says that the worker has `decode`, or why not; then there is one for each task, in their order. */
export type WorkerReply = { readonly ready: true } | { readonly unusable: DecodeFailure } | DecodeReply;

interface Parts {
  readonly Random: typeof Sfc32;
  readonly call: typeof callDecode;
  readonly problemOf: typeof sampleProblem;
  readonly own: typeof ownSample;
  readonly failureOf: typeof failureOf;
}

/** Sent as its text. */
async function workerMain({ Random, call, problemOf, own, failureOf }: Parts): Promise<void> {
  const threads = process.getBuiltinModule("node:worker_threads");
  const vm = process.getBuiltinModule("node:vm");
  const port = threads.parentPort as MessagePort;
  const { recipe, context, seed, reserved, importName } = threads.workerData as WorkerRequest;
  const closing = new AbortController();

  const importFrom = (filename: string): ((specifier: string, options?: object) => Promise<object>) => {
    return vm.compileFunction("return import(specifier, options)", ["specifier", "options"], {
      filename,
      importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    }) as (specifier: string, options?: object) => Promise<object>;
  };
  const load = async (): Promise<Decode<unknown, Sample>> => {
    if (recipe.kind === "module") {
      const module = (await importFrom("/")(recipe.url)) as Record<string, unknown>;
      const found = module[recipe.name];
      if (typeof found === "function") return found as Decode<unknown, Sample>;
      const names = Object.keys(module).filter((name) => typeof module[name] === "function");
      throw Object.assign(new Error(`${recipe.url} exports no function ${recipe.name}`), {
        fix: names.length > 0 ? `it exports ${names.join(", ")}` : "export the function by this name",
      });
    }
    const [near, far] = [importFrom(recipe.base), importFrom(recipe.home)];
    const importModule = async (specifier: string, options?: object): Promise<object> => {
      try {
        return await near(specifier, options);
      } catch (error) {
        const missing = (error as { code?: string }).code === "ERR_MODULE_NOT_FOUND";
        if (!missing || /^(?:\.|\/|\w+:)/.test(specifier)) throw error;
        try {
          return await far(specifier, options);
        } catch {
          throw error;
        }
      }
    };
    return new Function(importName, `"use strict"; return ${recipe.text}`)(importModule);
  };

  let decode: Decode<unknown, Sample>;
  try {
    // Node warns once that this way to import is new, which is nothing that the user can act on.
    const { emitWarning } = process;
    process.emitWarning = () => {};
    await importFrom("/")("node:vm");
    process.emitWarning = emitWarning;
    decode = await load();
  } catch (error) {
    port.postMessage({ unusable: failureOf(error) });
    return;
  }
  const setup = { decode, context, seed, signal: closing.signal, Random };
  const decodeTask = async (task: DecodeTask): Promise<void> => {
    const memory: ArrayBuffer[] = [];
    let reply: DecodeReply;
    try {
      const sample = await call(setup, task);
      const problem = problemOf(sample, reserved);
      reply =
        problem === undefined
          ? { sample: own(sample, memory) }
          : { failure: { name: "DataError", ...problem } };
    } catch (error) {
      memory.length = 0;
      reply = { failure: failureOf(error) };
    }
    port.postMessage(reply, memory);
  };
  // One after another: where a worker ends, the first task without a reply is what it was at.
  let last = Promise.resolve();
  port.on("message", (task: DecodeTask | "close") => {
    if (task === "close") closing.abort();
    else last = last.then(() => decodeTask(task));
  });
  port.postMessage({ ready: true });
}

/** For `new Worker(text, { eval: true })`. */
export function workerProgram(): string {
  const parts = { Random: Sfc32, call: callDecode, problemOf: sampleProblem, own: ownSample, failureOf };
  const fields = Object.entries(parts).map(([name, part]) => `${name}: (${part.toString()})`);
  // Some tools wrap functions in a helper that keeps their names.
  return `const __name = (f) => f;\n(${workerMain.toString()})({ ${fields.join(",\n")} });`;
}
