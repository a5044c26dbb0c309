/** Whether a transform is running a user's function now: what it builds must stay as it was built until the transform is done. */

let depth = 0;

/** Whether a transform is running a user's function now. */
export function tracing(): boolean {
  return depth > 0;
}

/** Transforms that are running a user's function now, one inside another: a value of a deeper one does not exist outside it. */
export function traceDepth(): number {
  return depth;
}

/** Runs `f` as part of a trace. */
export function whileTracing<R>(f: () => R): R {
  depth++;
  try {
    return f();
  } finally {
    depth--;
  }
}
