/** The command `aronnax`. */
import { inspect } from "node:util";
import { AronnaxError } from "./graph/errors.js";
import { trainCommand, trainUsage } from "./recipes/command.js";
import { runtimeCommand, runtimeUsage } from "./runtime/cli.js";
import { verifyCommand, verifyUsage } from "./verify/command.js";

const serveUsage = `aronnax serve MODEL [--port N] [--host ADDRESS] [--api-key KEY]... [--name NAME] [--context N]
                     [--max-batch N] [--adapters DIR]

  MODEL             a checkpoint folder with its tokenizer
  --port N          default 8000; 0 takes a free one
  --host ADDRESS    default 127.0.0.1: nothing else reaches it
  --api-key KEY     requests need one of these; default: none
  --name NAME       as requests name the model; default the folder's name
  --context N       tokens of a text at most
  --max-batch N     texts computed at once; default 32
  --adapters DIR    a folder of adapter folders, each served under its name

SIGTERM or Ctrl-C takes no more requests and lets those under way end; a second one ends at once.`;

const [command, ...args] = process.argv.slice(2);
try {
  if (command === "runtime") process.exitCode = await runtimeCommand(args);
  else if (command === "train") process.exitCode = await trainCommand(args);
  else if (command === "verify") process.exitCode = await verifyCommand(args);
  else if (command === "serve") {
    const { serveCommand } = await import("./serve/command.js");
    process.exitCode = await serveCommand(args, serveUsage);
  } else {
    const asked = command === "help" || command === "--help" || command === "-h";
    if (command !== undefined && !asked) console.error(`error: there is no command ${command}\n`);
    console.error(
      `usage: ${trainUsage}\n\n       ${verifyUsage}\n\n       ${serveUsage}\n\n       ${runtimeUsage}`,
    );
    process.exitCode = asked ? 0 : 2;
  }
} catch (error) {
  if (!(error instanceof Error)) throw error;
  // Of one's own code it is the line that one needs to know; Node's of arguments name the argument.
  const known =
    error instanceof AronnaxError || String((error as { code?: string }).code).startsWith("ERR_PARSE_ARGS");
  console.error(`error: ${known ? error.message : inspect(error)}`);
  if (error instanceof AronnaxError && error.fix !== undefined) console.error(`  fix: ${error.fix}`);
  process.exitCode = 1;
}
