/**
 * Values that a traced function gives new values beside what it returns: the buffers of Modules. A Module is a value; what `forward` sets is
 * set in a copy that `withUpdates` made, and comes back from it. The transforms carry what is set inside them out, or refuse it.
 */
import { cast, stopGradient } from "../array/elementwise.js";
import { Tensor } from "../array/tensor.js";
import { isFloat } from "../graph/dtype.js";
import { ArgumentError, ShapeError, TraceError } from "../graph/errors.js";
import { type FieldKind, fieldKind, flatten, treeNode } from "./tree.js";

/** A node with buffers. */
type Holder = Record<string, Tensor> & { [fieldKind]?(name: string): FieldKind };

interface Frame {
  /** Nodes whose buffers may be set while this is the innermost frame, or others above it that do not refuse. */
  readonly holders: ReadonlySet<Holder>;
  /** Why buffers of the frames below cannot be set here. */
  readonly refusal?: string;
}

const frames: Frame[] = [];

function buffersOf(node: Holder): string[] {
  const kind = node[fieldKind];
  if (kind === undefined) return [];
  return Object.keys(node).filter((name) => {
    const of = node[name] instanceof Tensor && node[fieldKind]!(name);
    return of === "buffer" || of === "cotangent";
  });
}

/** Calls `visit` with each node that has buffers and the node in its place in `other`, a tree of the same structure. */
export function sameNodes(
  tree: unknown,
  other: unknown,
  visit: (node: Record<string, Tensor>, twin: Record<string, Tensor>) => void,
): void {
  if (typeof tree !== "object" || tree === null || tree instanceof Tensor || ArrayBuffer.isView(tree)) return;
  if (typeof other !== "object" || other === null) return;
  const node = treeNode in tree;
  if (!node && !Array.isArray(tree)) {
    const prototype: unknown = Object.getPrototypeOf(tree);
    if (prototype !== Object.prototype && prototype !== null) return;
  }
  if (node && buffersOf(tree as Holder).length > 0) visit(tree as Holder, other as Holder);
  for (const [name, field] of Object.entries(tree)) sameNodes(field, (other as Holder)[name], visit);
}

/** Why a buffer of `node` cannot be set now; undefined if it can. */
function refusalOf(node: Holder): string | undefined {
  const at = frames.findLastIndex(({ holders }) => holders.has(node));
  if (at < 0) return "nothing would keep it";
  return frames.slice(at + 1).find(({ refusal }) => refusal !== undefined)?.refusal;
}

/**
 * Sets a buffer of a node of a tree.
 *
 * @throws TraceError where the value would be lost
 */
export function setBuffer(node: object, name: string, value: Tensor): void {
  const holder = node as Holder;
  const what = `${node.constructor.name}: the buffer "${name}"`;
  if (!buffersOf(holder).includes(name)) {
    throw new ArgumentError(
      `${node.constructor.name} has no buffer "${name}"`,
      `declare it in the constructor: this.${name} = this.buffer("${name}", shape)`,
    );
  }
  const before = holder[name]!;
  if (!(value instanceof Tensor))
    throw new ArgumentError(`${what} was to be set to ${String(value)}`, "give a Tensor");
  if (value.shape.join() !== before.shape.join())
    throw new ShapeError(`${what} is ${before} and was to be set to ${value}`, "keep its shape");
  const refusal = refusalOf(holder);
  if (refusal !== undefined) {
    throw new TraceError(
      `${what} is set where its new value cannot come back: ${refusal}`,
      refusal === "nothing would keep it"
        ? "call it inside nn.withUpdates(model, f), which returns the model with its new buffers (the Trainer does), or without training"
        : "set buffers outside of it",
    );
  }
  if (isFloat(before.dtype) !== isFloat(value.dtype) && before.dtype !== value.dtype)
    throw new ArgumentError(`${what} is ${before} and was to be set to ${value}`, "convert it with astype()");
  holder[name] = stopGradient(cast(value, before.dtype));
}

/** A buffer's new value, as a transform found it. */
export interface Update {
  /** Where it belongs. */
  readonly holder: Record<string, Tensor>;
  readonly name: string;
  readonly value: Tensor;
  /** Position of the tree that the node is of; -1 for one that the function refers to without being given it. */
  readonly of: number;
}

/** Sets what was found, to `values` if given. */
export function apply(updates: readonly Update[], values?: readonly Tensor[]): void {
  for (const [i, { holder, name, value }] of updates.entries()) holder[name] = values?.[i] ?? value;
}

/**
 * Runs `f`, which computes with copies of trees (each pair is a tree and its copy), and finds the buffers that it set: of the copies, and of
 * nodes outside that it refers to. Those are put back as they were: it is for the caller to carry the values out and `apply` them.
 */
export function tracked<R>(
  copies: readonly (readonly [tree: unknown, copy: unknown])[],
  f: () => R,
): [result: R, updates: Update[]] {
  if (frames.length === 0) return [f(), []];
  const origins = new Map<Holder, { holder: Holder; of: number }>();
  for (const [of, [tree, copy]] of copies.entries()) {
    sameNodes(tree, copy, (holder, twin) => {
      if (refusalOf(holder) === undefined) origins.set(twin, { holder, of });
    });
  }
  const inside = new Set(origins.keys());
  const watched = new Set([...frames.flatMap(({ holders }) => [...holders]), ...inside]);
  const before = [...watched].flatMap((node) =>
    buffersOf(node).map((name) => ({ node, name, value: node[name]! })),
  );
  const result = within({ holders: inside }, f);
  const updates: Update[] = [];
  for (const { node, name, value } of before) {
    const now = node[name]!;
    if (now === value) continue;
    const origin = origins.get(node);
    updates.push({ holder: origin?.holder ?? node, name, value: now, of: origin?.of ?? -1 });
    if (origin === undefined) node[name] = value;
  }
  return [result, updates];
}

function within<R>(frame: Frame, f: () => R): R {
  frames.push(frame);
  try {
    return f();
  } finally {
    frames.pop();
  }
}

/** Sets the buffers of a tree's nodes that take their new values from the derivative to those of `cotangents`, a tree of the same structure. */
export function applyCotangents(tree: unknown, cotangents: unknown): void {
  if (frames.length === 0) return;
  sameNodes(tree, cotangents, (node, twin) => {
    for (const name of buffersOf(node as Holder)) {
      if ((node as Holder)[fieldKind]!(name) === "cotangent" && refusalOf(node as Holder) === undefined)
        node[name] = twin[name]!;
    }
  });
}

/** Runs `f`, in which no buffers can be set. */
export function refusingUpdates<R>(refusal: string, f: () => R): R {
  return frames.length === 0 ? f() : within({ holders: new Set(), refusal }, f);
}

/**
 * Runs `f` on a copy of a tree of Modules whose buffers it may set, as layers in training do.
 *
 * @returns the result, and the tree with the buffers' new values
 * @throws TraceError if `f` gives another field of a Module a new value, which would be lost
 */
export function withUpdates<T, R>(tree: T, f: (tree: T) => R): [result: R, updated: T] {
  const flat = flatten(tree);
  const copy = flat.rebuild(flat.leaves) as T;
  const holders = new Set<Holder>();
  sameNodes(copy, copy, (node) => holders.add(node));
  const check = watchFields(copy, "withUpdates");
  const result = within({ holders }, () => f(copy));
  check();
  return [result, copy];
}

/**
 * Watches the fields of the Modules of a copy that a transform made; the result throws if one that is no buffer got another value: with the copy
 * it would be lost, unless the Module itself is returned.
 */
export function watchFields(copy: unknown, transform: string): (returned?: unknown) => void {
  const fields: { node: object; path: string; before: [string, unknown][] }[] = [];
  eachNode(copy, "", (node, path) => fields.push({ node, path, before: Object.entries(node) }));
  return (returned) => {
    const kept = new Set<object>();
    eachNode(returned, "", (node) => kept.add(node));
    for (const { node, path, before } of fields) {
      if (kept.has(node)) continue;
      const known = new Map(before);
      const buffers = new Set(buffersOf(node as Holder));
      for (const [name, now] of Object.entries(node)) {
        if (buffers.has(name) || (known.has(name) && Object.is(known.get(name), now))) continue;
        const at = path === "" ? name : `${path}.${name}`;
        throw new TraceError(
          `${transform}: the field "${at}" of ${node.constructor.name} was assigned while the function was traced, and would be lost`,
          `return the value; or declare it as this.buffer("${name}", shape) and set it with this.setBuffer("${name}", value)`,
        );
      }
    }
  };
}

/** Visits the Modules of a tree. */
function eachNode(value: unknown, path: string, visit: (node: object, path: string) => void): void {
  if (typeof value !== "object" || value === null || value instanceof Tensor || ArrayBuffer.isView(value))
    return;
  if (treeNode in value) visit(value, path);
  else if (!Array.isArray(value) && Object.getPrototypeOf(value) !== Object.prototype) return;
  for (const [name, field] of Object.entries(value))
    eachNode(field, path === "" ? name : `${path}.${name}`, visit);
}
