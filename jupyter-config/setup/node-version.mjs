// Read by whatever Node is there, to say that it is too old: nothing newer than ES2019 in this file and the entry files.

/** The oldest Node that the workspace runs on. */
export const MINIMUM = { major: 20, minor: 19 };

/**
 * Ends the process with one line where Node is too old.
 * @param {string} version of Node, such as "20.19.0"
 */
export function requireNode(version) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > MINIMUM.major || (major === MINIMUM.major && minor >= MINIMUM.minor)) return;
  process.stderr.write(
    `Node ${version} is too old: Aronnax needs Node ${MINIMUM.major}.${MINIMUM.minor} or newer. ` +
      "Install a current one (nodejs.org, or `nvm install 24`), then run the command again.\n",
  );
  process.exit(1);
}

/**
 * Loads the rest, which a current Node alone can read, and runs it.
 * @param {() => Promise<{ main: (args: string[]) => Promise<number> }>} load
 */
export function start(load) {
  requireNode(process.versions.node);
  load()
    .then((module) => module.main(process.argv.slice(2)))
    .then((code) => {
      process.exitCode = code;
    })
    .catch((error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exitCode = 1;
    });
}
