/** `aronnax serve MODEL`: a checkpoint behind HTTP. */
import { readdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { loadTokenizer } from "../data/text/tokenizer.js";
import { ArgumentError } from "../graph/errors.js";
import { load } from "../models/llm/pretrained.js";
import { Runtime } from "../runtime/runtime.js";
import { serve } from "./serve.js";

/** @returns the exit status, when a signal has ended the service */
export async function serveCommand(args: readonly string[], usage: string): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      port: { type: "string", default: "8000" },
      host: { type: "string", default: "127.0.0.1" },
      "api-key": { type: "string", multiple: true, default: [] },
      name: { type: "string" },
      context: { type: "string" },
      "max-batch": { type: "string" },
      adapters: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const [folder] = positionals;
  if (values.help || folder === undefined || positionals.length > 1) {
    console.log(`usage: ${usage}`);
    return values.help ? 0 : 2;
  }
  const context = whole("--context", values.context);
  const maxBatch = whole("--max-batch", values["max-batch"]);
  const signalled = new Promise<void>((resolve) => {
    let times = 0;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (++times > 1) process.exit(130);
      console.error(`${signal}: no more requests are taken, those under way end; once more ends at once`);
      resolve();
    };
    process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  });
  try {
    const serving = await serve(await load(folder), {
      tokenizer: await loadTokenizer(folder),
      name: values.name ?? basename(resolve(folder)),
      port: whole("--port", values.port)!,
      host: values.host,
      apiKeys: values["api-key"],
      adapters: values.adapters === undefined ? {} : adaptersIn(values.adapters),
      ...(context !== undefined && { context }),
      ...(maxBatch !== undefined && { maxBatch }),
    });
    try {
      console.log(`listening on ${serving.url}`);
      await Promise.race([serving.ready.then(() => console.log("ready")), signalled]);
      await signalled;
    } finally {
      await serving.close();
    }
    return 0;
  } finally {
    Runtime.default().close();
  }
}

function whole(name: string, value: string | undefined): number | undefined {
  if (value !== undefined && !/^\d+$/.test(value))
    throw new ArgumentError(`${name} is ${value}`, "give a whole number");
  return value === undefined ? undefined : Number(value);
}

/** Each folder in it is an adapter of its name. */
function adaptersIn(folder: string): Record<string, string> {
  const found = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return Object.fromEntries(found.map(({ name }) => [name, join(folder, name)]));
}
