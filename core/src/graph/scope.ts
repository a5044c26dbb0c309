/** Scopes of device memory: which computed nodes end with which scope. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Node } from "./node.js";

const scopes = new AsyncLocalStorage<Set<Node>>();

/** Makes `node`, just computed, part of the scope that runs now. */
export function enroll(node: Node): void {
  scopes.getStore()?.add(node);
}

/** Whether what is computed now ends with a scope. */
export function inScope(): boolean {
  return scopes.getStore() !== undefined;
}

/** Runs `f` with a scope of its own. */
export function runInScope<R>(nodes: Set<Node>, f: () => R): R {
  return scopes.run(nodes, f);
}
