/**
 * Calls `gone` when the process that started the kernel has died, so that no kernel is left behind. Jupyter clients
 * give their id in `JPY_PARENT_PID`; without it nobody is watched.
 */
export function watchParent(gone: () => void): void {
  const parent = Number(process.env.JPY_PARENT_PID);
  if (!Number.isInteger(parent) || parent <= 1) return;
  // A dead parent may stay a zombie, which still takes signals: a direct child looks at its parent's id instead.
  const direct = process.ppid === parent;
  const timer = setInterval(() => {
    if (direct ? process.ppid === parent : alive(parent)) return;
    clearInterval(timer);
    gone();
  }, 1_000);
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
