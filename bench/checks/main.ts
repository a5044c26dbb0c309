/**
 * Runs the checks of the array language on the device and prints one line of JSON for each, the failures again at the end.
 *
 * usage: checks [part of a name]
 */
import { Runtime } from "../../core/src/runtime/runtime.js";
import { checkArray } from "./array.js";

const rows = await checkArray(process.argv[2], (row) => console.log(JSON.stringify(row)));
const failed = rows.filter(({ relativeError, limit }) => !(relativeError <= limit));
console.log(JSON.stringify({ platform: Runtime.default().platform, checks: rows.length, failed }));
process.exit(failed.length === 0 ? 0 : 1);
