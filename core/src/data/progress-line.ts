const quietSeconds = 2;
const width = 78;

/**
 * Shows progress on one line of the standard output that is written over, in a cell as in a terminal. Work of less than
 * two seconds shows nothing.
 */
export function progressLine<T extends { done: boolean }>(
  describe: (progress: T) => string,
): (progress: T) => void {
  const started = performance.now();
  let shown = false;
  let last = Number.NEGATIVE_INFINITY;
  return (progress) => {
    const now = performance.now();
    const { done } = progress;
    if (done ? !shown : now - started < 1000 * quietSeconds || now - last < 500) return;
    last = now;
    shown = true;
    process.stdout.write(`\r${describe(progress).slice(0, width).padEnd(width)}${done ? "\n" : ""}`);
  };
}

export function bar(fraction: number): string {
  const filled = Math.round(16 * Math.min(1, fraction));
  return `[${"=".repeat(filled)}${" ".repeat(16 - filled)}]`;
}
