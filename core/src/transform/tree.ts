/**
 * Trees: any nesting of plain objects, arrays and Modules with Tensors as leaves. Everything else in them (numbers, strings, typed
 * arrays, functions, null) is static: part of the structure, not of the data.
 */
import { createHash } from "node:crypto";
import { Tensor } from "../array/tensor.js";
import { itemSize } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { bytesText } from "./bytes.js";

/** Classes whose instances are taken apart and rebuilt as trees carry this on their prototype. */
export const treeNode: unique symbol = Symbol.for("aronnax.tree-node");

/** Nodes of trees say here what their Tensor fields are. */
export const fieldKind: unique symbol = Symbol.for("aronnax.field-kind");

/**
 * A parameter, trained or (frozen) not; a buffer, whose new values come from the function or, "cotangent", from its derivative; or neither, a
 * Tensor that stays as it is, "fixed" in its element type too, as quantized weights.
 */
export type FieldKind = "parameter" | "frozen" | "buffer" | "cotangent" | "constant" | "fixed";

interface TreeNode {
  readonly [treeNode]: true;
  [fieldKind]?(name: string): FieldKind;
}

/** A tree taken apart. */
export interface Flat {
  readonly leaves: Tensor[];
  /** Where each leaf stands, e.g. `layers.0.attention.weight`. */
  readonly paths: string[];
  /** What each leaf is; "parameter" outside of nodes that say. */
  readonly kinds: FieldKind[];
  /** Equal for trees of the same structure and static values. */
  readonly key: string;
  /** The same tree with other leaves. */
  rebuild(leaves: readonly unknown[]): unknown;
}

type Build = (leaves: readonly unknown[], at: { next: number }) => unknown;

const identities = new WeakMap<object, number>();
const symbols = new Map<symbol, number>();
let nextIdentity = 0;

function identity(value: object | symbol): number {
  let id = typeof value === "symbol" ? symbols.get(value) : identities.get(value);
  if (id === undefined) {
    id = nextIdentity++;
    if (typeof value === "symbol") symbols.set(value, id);
    else identities.set(value, id);
  }
  return id;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/**
 * Takes a tree apart: leaves in a fixed order (keys as written, or those of plain objects sorted, where trees are compared), structure as a
 * key and a rebuilder.
 */
export function flatten(tree: unknown, { sorted = false } = {}): Flat {
  const leaves: Tensor[] = [];
  const paths: string[] = [];
  const kinds: FieldKind[] = [];
  const key: string[] = [];
  const around: object[] = [];
  const visit = (value: unknown, path: string, kind: FieldKind): Build => {
    if (value instanceof Tensor) {
      leaves.push(value);
      paths.push(path);
      kinds.push(kind);
      key.push(kind === "parameter" ? "*" : `*${kind};`);
      return (given, at) => given[at.next++];
    }
    if (typeof value === "object" && value !== null) {
      const below = path === "" ? "" : `${path}.`;
      if (Array.isArray(value)) {
        key.push("[");
        enter(value, path);
        const items = value.map((item, i) => visit(item, `${below}${i}`, kind));
        around.pop();
        key.push("]");
        return (given, at) => items.map((build) => build(given, at));
      }
      const node = treeNode in value;
      if (node || isPlain(value)) {
        key.push(node ? `${value.constructor.name}#${identity(value.constructor)}{` : "{");
        enter(value, path);
        const entries = Object.entries(value);
        if (sorted && !node) entries.sort(([a], [b]) => (a < b ? -1 : 1));
        const fields = entries.map(([name, field]) => {
          key.push(`${name}:`);
          const own = node ? ((value as TreeNode)[fieldKind]?.(name) ?? kind) : kind;
          return [name, visit(field, `${below}${name}`, own)] as const;
        });
        around.pop();
        key.push("}");
        const prototype: object | null = Object.getPrototypeOf(value);
        return (given, at) => {
          const copy = Object.create(prototype) as Record<string, unknown>;
          for (const [name, build] of fields) copy[name] = build(given, at);
          for (const symbol of Object.getOwnPropertySymbols(value)) {
            Object.defineProperty(copy, symbol, Object.getOwnPropertyDescriptor(value, symbol)!);
          }
          return copy;
        };
      }
    }
    checkStatic(value, path);
    key.push(staticKey(value));
    return () => value;
  };
  const enter = (value: object, path: string): void => {
    if (around.includes(value))
      throw new ArgumentError(`a tree holds itself${at(path)}`, "trees have ends: leave the reference out");
    around.push(value);
  };
  const build = visit(tree, "", "parameter");
  return { leaves, paths, kinds, key: key.join(""), rebuild: (given) => build(given, { next: 0 }) };
}

const at = (path: string): string => (path === "" ? "" : ` at "${path}"`);

/** Refuses static values that hold data: a compiled function would keep those that it was traced with. */
function checkStatic(value: unknown, path: string): void {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  if (value instanceof Promise)
    throw new ArgumentError(`a tree holds a Promise${at(path)}`, "await it first");
  const held: Iterable<unknown> =
    value instanceof Map || value instanceof Set ? value.values() : Object.values(value);
  if (![...held].some((x) => x instanceof Tensor)) return;
  throw new ArgumentError(
    `a tree holds a ${value.constructor?.name ?? "object"} with Tensors${at(path)}`,
    "trees are made of plain objects, arrays and Modules: copy it into one, e.g. Object.fromEntries(map)",
  );
}

/** Equal for values that are the same: of typed arrays their elements, of objects and functions the object. */
function staticKey(value: unknown): string {
  switch (typeof value) {
    case "string":
      return `${JSON.stringify(value)};`;
    case "bigint":
      return `${value}n;`;
    case "symbol":
    case "function":
      return `@${identity(value)};`;
    case "object":
      if (value === null) return "null;";
      if (ArrayBuffer.isView(value)) {
        const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
        return `${value.constructor.name}(${createHash("sha1").update(bytes).digest("hex")});`;
      }
      return `@${identity(value)};`;
    default:
      return `${Object.is(value, -0) ? "-0" : String(value)};`;
  }
}

/** The Tensors of a tree. */
export function leaves(tree: unknown): Tensor[] {
  return flatten(tree).leaves;
}

/** The Tensors of a tree by path. */
export function named(tree: unknown): Map<string, Tensor> {
  const flat = flatten(tree);
  return new Map(flat.paths.map((path, i) => [path, flat.leaves[i]!]));
}

/** The tree with each leaf replaced by `f` of the leaves in its place in all the trees, which must have one structure. */
export function map<T>(
  f: (leaf: Tensor, ...others: Tensor[]) => unknown,
  tree: T,
  ...others: readonly unknown[]
): T {
  const first = flatten(tree);
  const rest = others.map((other, k) => {
    const flat = flatten(other);
    const byPath = new Map(flat.paths.map((path, i) => [path, flat.leaves[i]!]));
    const same = flat.paths.length === first.paths.length && first.paths.every((path) => byPath.has(path));
    const differing = same
      ? undefined
      : (first.paths.find((path) => !byPath.has(path)) ??
        flat.paths.find((path) => !first.paths.includes(path)));
    if (differing !== undefined) {
      throw new ArgumentError(
        `tree ${k + 2} of map has another structure than the first: they differ at "${differing}"`,
        "all trees must have leaves at the same paths",
      );
    }
    return first.paths.map((path) => byPath.get(path)!);
  });
  return first.rebuild(first.leaves.map((leaf, i) => f(leaf, ...rest.map((r) => r[i]!)))) as T;
}

/** The tree with each leaf replaced by `f` of it and its path. */
export function mapNamed<T>(f: (leaf: Tensor, path: string) => unknown, tree: T): T {
  const flat = flatten(tree);
  return flat.rebuild(flat.leaves.map((leaf, i) => f(leaf, flat.paths[i]!))) as T;
}

/** What a tree holds, as a table: shows by itself in a notebook, and as text elsewhere. */
export class TreeSummary {
  /** Leaves of one type at places that differ only in their numbers, e.g. `layers.*.attention.weight`. */
  readonly rows: readonly {
    readonly path: string;
    readonly type: string;
    readonly count: number;
    readonly elements: number;
    readonly bytes: number;
  }[];

  constructor(tree: unknown) {
    const rows = new Map<
      string,
      { path: string; type: string; count: number; elements: number; bytes: number }
    >();
    const flat = flatten(tree);
    for (const [i, leaf] of flat.leaves.entries()) {
      const type = `${leaf.dtype}[${leaf.shape.join(", ")}]`;
      const path = flat.paths[i]!.replaceAll(/(^|\.)\d+(?=\.|$)/g, "$1*");
      const row = rows.get(`${path} ${type}`) ?? { path, type, count: 0, elements: 0, bytes: 0 };
      row.count++;
      row.elements += leaf.size;
      row.bytes += leaf.size * itemSize(leaf.dtype);
      // The only one of its kind keeps its name.
      rows.set(`${path} ${type}`, row.count === 1 ? { ...row, path: flat.paths[i]! } : { ...row, path });
    }
    this.rows = [...rows.values()];
  }

  #cells(): string[][] {
    const cells = ({ path, type, count, elements, bytes }: TreeSummary["rows"][number]): string[] => [
      path === "" ? "(the tree itself)" : path,
      count === 1 ? type : `${count} × ${type}`,
      elements.toLocaleString("en"),
      bytesText(bytes),
    ];
    const total = (of: (row: TreeSummary["rows"][number]) => number): number =>
      this.rows.reduce((n, row) => n + of(row), 0);
    const count = total((row) => row.count);
    return [
      ["path", "type", "elements", "size"],
      ...this.rows.map(cells),
      [
        "total",
        `${count} ${count === 1 ? "Tensor" : "Tensors"}`,
        total((row) => row.elements).toLocaleString("en"),
        bytesText(total((row) => row.bytes)),
      ],
    ];
  }

  toString(): string {
    const rows = this.#cells();
    const widths = rows[0]!.map((_, k) => Math.max(...rows.map((row) => row[k]!.length)));
    return rows
      .map((row) =>
        row.map((cell, k) => (k < 2 ? cell.padEnd(widths[k]!) : cell.padStart(widths[k]!))).join("  "),
      )
      .join("\n");
  }

  /** As an HTML table. */
  get html(): string {
    const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    const align = (k: number): string => `style="text-align: ${k < 2 ? "left" : "right"}"`;
    const [head, ...body] = this.#cells().map((row, r) => {
      const tag = r === 0 ? "th" : "td";
      return `<tr>${row.map((cell, k) => `<${tag} ${align(k)}>${escaped(cell)}</${tag}>`).join("")}</tr>`;
    });
    return `<table><thead>${head}</thead><tbody>${body.join("")}</tbody></table>`;
  }

  [Symbol.for("Jupyter.display")](): Record<string, unknown> {
    return { "text/plain": this.toString(), "text/html": this.html };
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

/** What a tree holds: paths, types, elements and bytes. Layers that are alike share a row. */
export function summary(tree: unknown): TreeSummary {
  return new TreeSummary(tree);
}

export type { TreeNode };
