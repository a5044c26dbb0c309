/** Whether a transform is running a user's function now: what it builds must stay as it was built until the transform is done. */

let depth = 0;

/** Whether a transform is running a user's function now. */
export function tracing(): boolean {
  return depth > 0;
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
