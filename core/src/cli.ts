/** The command `aronnax`. */
import { runtimeCommand, runtimeUsage } from "./runtime/cli.js";

const [command, ...args] = process.argv.slice(2);
try {
  if (command === "runtime") process.exitCode = await runtimeCommand(args);
  else {
    console.error(`usage: ${runtimeUsage}`);
    process.exitCode = 2;
  }
} catch (error) {
  if (!(error instanceof Error)) throw error;
  console.error(`error: ${error.message}`);
  if ("fix" in error && typeof error.fix === "string") console.error(`  fix: ${error.fix}`);
  process.exitCode = 1;
}
