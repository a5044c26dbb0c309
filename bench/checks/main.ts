/**
 * Runs the checks of the array language and of attention on the device and prints one line of JSON for each, the failures again at the end.
 *
 * usage: checks [array | attention] [elements | structure | windows | linear | part of a name]
 */
import { Runtime } from "../../core/src/runtime/runtime.js";
import { checkArray } from "./array.js";
import { checkAttention } from "./attention.js";

const [which, only] = process.argv.slice(2);
const print = (row: object): void => console.log(JSON.stringify(row));
const rows = [
  ...(which === "array" ? [] : await checkAttention(only, print)),
  ...(which === "attention" ? [] : await checkArray(only, print)),
];
const failed = rows.filter(({ relativeError, limit }) => !(relativeError <= limit));
print({ platform: Runtime.default().platform, checks: rows.length, failed });
process.exit(failed.length === 0 ? 0 : 1);
