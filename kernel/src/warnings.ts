/** Node's notes on features that the kernel itself uses; they tell the user of a notebook nothing. */
const OWN = ["stripTypeScriptTypes", "SQLite", "Type Stripping", "module.registerHooks"];

/** Replaces Node's printing of warnings, for this thread. */
export function filterWarnings(print: (text: string) => void): void {
  process.removeAllListeners("warning");
  process.on("warning", (warning: Error & { code?: string }) => {
    if (warning.name === "ExperimentalWarning" && OWN.some((part) => warning.message.includes(part))) return;
    if (warning.code === "MODULE_TYPELESS_PACKAGE_JSON") return;
    print(`${warning.name}: ${warning.message}\n`);
  });
}
