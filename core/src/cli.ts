/** The command `aronnax`. */
import { trainCommand, trainUsage } from "./recipes/command.js";
import { runtimeCommand, runtimeUsage } from "./runtime/cli.js";

const [command, ...args] = process.argv.slice(2);
try {
  if (command === "runtime") process.exitCode = await runtimeCommand(args);
  else if (command === "train") process.exitCode = await trainCommand(args);
  else {
    console.error(`usage: ${trainUsage}\n\n       ${runtimeUsage}`);
    process.exitCode = 2;
  }
} catch (error) {
  if (!(error instanceof Error)) throw error;
  console.error(`error: ${error.message}`);
  if ("fix" in error && typeof error.fix === "string") console.error(`  fix: ${error.fix}`);
  process.exitCode = 1;
}
