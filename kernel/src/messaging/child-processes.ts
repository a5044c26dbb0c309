import { readFileSync } from "node:fs";

/**
 * Interrupts the processes that the main thread has started, and those that they have, as Ctrl+C in a terminal does: a call such as
 * `execSync` returns no sooner than its process ends. Those of a session of their own, such as the runtime, are left alone. Does
 * nothing where there is no /proc.
 */
export function interruptChildren(): void {
  const session = sessionOf(process.pid);
  const interrupt = (pid: number): void => {
    if (sessionOf(pid) !== session) return;
    const children = childrenOf(pid);
    try {
      process.kill(pid, "SIGINT");
    } catch {
      // It has ended meanwhile.
    }
    for (const child of children) interrupt(child);
  };
  // Each thread has children of its own: the checker is one of this thread's.
  for (const pid of childrenOf(process.pid)) interrupt(pid);
}

/** Those of the main thread of a process. */
function childrenOf(pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).split(" ").map(Number).filter(Boolean);
}

function sessionOf(pid: number): string | undefined {
  // The command's name comes before, in parentheses.
  return read(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ")[3];
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
