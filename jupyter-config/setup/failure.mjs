// What can go wrong on somebody's machine, and the one line that says so.

/** A failure that its message explains: shown as one line, without a stack. */
export class SetupError extends Error {
  /**
   * @param {string} what is wrong, with the value
   * @param {string} fix what to do
   */
  constructor(what, fix) {
    super(`${what} ${fix}`);
    this.name = "SetupError";
  }
}

/** A child process that ended with an error; `output` is the end of what it wrote. */
export class ChildError extends Error {
  /**
   * @param {string} command
   * @param {number | null} code exit status
   * @param {string} output
   */
  constructor(command, code, output) {
    super(`${command} ended with ${code === null ? "a signal" : `exit status ${code}`}`);
    this.name = "ChildError";
    this.output = output;
  }
}

const AGAIN = "then run the command again.";

/**
 * Causes known by what npm, pip, venv or the operating system print; the first that matches wins, so the specific
 * ones stand first.
 * @type {{ pattern: RegExp, what: string, fix: string }[]}
 */
const CAUSES = [
  {
    pattern: /ENOSPC|No space left on device|EDQUOT|Disk quota exceeded/,
    what: "The disk is full.",
    fix: `Free some space (about 3 GB here, and room in the temporary folder), ${AGAIN}`,
  },
  {
    pattern: /EROFS|Read-only file system/,
    what: "The folder is on a read-only file system.",
    fix: "Clone the repository to a place that can be written to.",
  },
  {
    pattern: /EACCES|EPERM|Permission denied|Operation not permitted/,
    what: "A file or folder cannot be written to.",
    fix: "Give yourself write access to the repository, or clone it to a folder of your own.",
  },
  {
    pattern:
      /CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT|UNABLE_TO_(GET_ISSUER|VERIFY)|self-signed certificate/,
    what: "The package server's certificate is not trusted.",
    fix: `Name your network's certificate file in NODE_EXTRA_CA_CERTS and PIP_CERT, ${AGAIN}`,
  },
  {
    pattern: /DO NOT MATCH THE HASHES|EINTEGRITY/,
    what: "A downloaded package is not the one that the lock file names.",
    fix: "Check the proxy or mirror in between (a second try may do, if the download was cut).",
  },
  {
    pattern:
      /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTCACHED|ERR_SOCKET_TIMEOUT|NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ConnectionResetError|ProxyError|Connection refused|Network is unreachable|Read timed out|[Nn]ame resolution/,
    what: "The package server cannot be reached.",
    fix: `Check the network (and HTTPS_PROXY, the npm registry and the pip index, if you set them), ${AGAIN}`,
  },
  {
    pattern: /No matching distribution found|E404|ETARGET/,
    what: "The package server lacks a package that the lock file names.",
    fix: "Use a complete mirror, and a Python and processor that docs/set-up.md lists.",
  },
  {
    pattern: /can only install packages when your package\.json and package-lock\.json/,
    what: "package-lock.json does not belong to the package.json files.",
    fix: "Run `npm install` and look at what it changed, or restore both with git.",
  },
];

/**
 * What a tool said first about an unknown failure.
 * @param {ChildError} error
 */
function firstComplaint({ output, message }) {
  const lines = output.split("\n").map((line) => line.trim());
  return (
    lines.find((line) => /\berror\b/i.test(line) && !/^(npm |>)/.test(line)) ??
    lines.filter(Boolean).pop() ??
    message
  );
}

/**
 * The explanation of an error, if it has a known cause.
 * @param {unknown} error
 * @param {string} doing what was going on, such as "Node packages"
 * @param {string} log where the full output is
 * @returns {SetupError | undefined}
 */
export function explain(error, doing, log) {
  if (error instanceof SetupError) return error;
  if (error instanceof ChildError) {
    const cause = CAUSES.find(({ pattern }) => pattern.test(error.output));
    if (cause) return new SetupError(`${doing}: ${cause.what}`, cause.fix);
    return new SetupError(`${doing} failed: ${firstComplaint(error)}`, `(The whole output is in ${log}.)`);
  }
  const { code, path } = /** @type {NodeJS.ErrnoException} */ (error ?? {});
  const cause = code === undefined ? undefined : CAUSES.find(({ pattern }) => pattern.test(code));
  if (cause) return new SetupError(`${doing}: ${cause.what}${path ? ` (${path})` : ""}`, cause.fix);
  return undefined;
}
