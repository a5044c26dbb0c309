/** Freeing device memory by scope. */
import type { Node } from "../graph/node.js";
import { enroll, runInScope } from "../graph/scope.js";
import { leaves } from "./tree.js";

/**
 * Runs `f`, and frees what was computed while it ran when it ends, except the Tensors of the tree that it returns (which belong to the
 * scope around it, if there is one). Asynchronous functions end when their promise does. Scopes nest.
 */
export function scope<R>(f: () => R): R {
  const computed = new Set<Node>();
  const end = (kept: unknown): void => {
    const keep = new Set(leaves(kept).map((x) => x.node));
    for (const node of computed) {
      if (node.pinned) continue;
      if (keep.has(node)) enroll(node);
      else for (const buffer of node.buffers ?? []) buffer?.free();
    }
  };
  let result: R;
  try {
    result = runInScope(computed, f);
  } catch (error) {
    end(null);
    throw error;
  }
  if (!(result instanceof Promise)) {
    end(result);
    return result;
  }
  return result.then(
    (value: unknown) => {
      end(value);
      return value;
    },
    (error: unknown) => {
      end(null);
      throw error;
    },
  ) as R;
}
