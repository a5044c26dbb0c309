/** Trees on the disk: each Tensor under the name of its path, straight between the files and the devices. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { join, resolve } from "node:path";
import { loadTensors, saveTensors } from "../array/storage.js";
import type { Tensor } from "../array/tensor.js";
import { itemSize } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import type { Placement } from "../graph/mesh.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { checkpointName } from "../nn/module.js";
import type { BufferTag } from "../runtime/runtime.js";
import { flatten } from "../transform/tree.js";
import type { TensorFolder } from "./checkpoint-store.js";
import { CheckpointError } from "./errors.js";
import { listFiles } from "./pieces.js";
import { placeOf, replaceFolder } from "./replace-folder.js";

/** The name on the disk of the Tensor at a path such as `layers.0.selfAttn.qProj.weight`. */
export type TensorNames = (path: string) => string;

export interface SaveTreeOptions {
  /** Default `checkpointName`: `layers.0.self_attn.q_proj.weight`. */
  names?: TensorNames;
  /** Kept in the header of each file. Default `{ format: "pt" }`, which transformers asks for. */
  metadata?: Readonly<Record<string, string>>;
  /** Written beside the tensors as `config.json`: its text, or what is to be written as JSON. */
  config?: string | object;
  /** Bytes of tensors after which another file is begun. Default 5 GB. */
  maxFileBytes?: number;
}

export interface LoadTreeOptions {
  /** Default `checkpointName`. */
  names?: TensorNames;
  /**
   * "exact": every Tensor is in the files with its shape and element type, and no other is. "partial": takes what fits, and leaves the rest
   * of the tree as it is. Default "exact".
   */
  match?: "exact" | "partial";
  /** Whether Tensors that the files lack keep their values. Default "refuse", with `match: "partial"` "keep". */
  missing?: "refuse" | "keep";
  /** Where each Tensor shall lie. Default whole on the first device. */
  place?: (path: string, leaf: Tensor) => Placement | undefined;
  /** Frees those Tensors of `like` that are replaced before the new ones are read: both at once may be too much. Default false. */
  donate?: boolean;
  /** What memory reports count the Tensors as. Default "parameter". */
  tag?: BufferTag;
  /** Is told what was not loaded. Default, where something was not: a line of `console.warn`. */
  onReport?: (report: TreeReport) => void;
}

/** How a tree and a folder fit. Names are those on the disk. */
export interface TreeReport {
  /** Of the tree, and not in the folder. */
  readonly missing: readonly string[];
  /** In the folder, and not of the tree. */
  readonly unexpected: readonly string[];
  /** In both, of another shape or element type: a sentence that names both. */
  readonly different: readonly string[];
}

/** The comparison of a tree with the files of a folder. */
export interface TreeFit extends TreeReport {
  /** Positions of the leaves that are there with the same shape and element type. */
  readonly fitting: readonly number[];
}

/**
 * Saves every Tensor of a tree (a Module, or any nesting of plain objects and arrays) as safetensors files in `folder`, in several with an
 * index if they are large. They go from the devices to the disk without passing through this process. The folder is there whole or not at
 * all; an earlier save in it is replaced. The values are those of the moment of the call.
 *
 * @throws ArgumentError if two Tensors have one name, CheckpointError if the folder holds other things than a save
 */
export async function saveTree(tree: unknown, folder: string, options: SaveTreeOptions = {}): Promise<void> {
  checkFolder("saveTree", folder);
  refuseUnknownOptions("saveTree", options, ["names", "metadata", "config", "maxFileBytes"]);
  const { maxFileBytes } = options;
  if (maxFileBytes !== undefined && !(maxFileBytes > 0))
    throw new ArgumentError(`saveTree: maxFileBytes is ${maxFileBytes}`, "give a positive number of bytes");
  const target = resolve(folder);
  const content = treeFolder(tree, options);
  refuseOthers(target);
  await replaceFolder(target, (draft) => content.write(draft));
}

/**
 * The tree with the values that `saveTree`, or whatever else writes safetensors, has left in a folder (or in a single file).
 *
 * @param like - a tree of the same structure: of its Tensors only shapes and element types are looked at
 * @throws CheckpointError with the names that are missing, unexpected or of another shape or element type
 */
export async function loadTree<T>(like: T, folder: string, options: LoadTreeOptions = {}): Promise<T> {
  checkFolder("loadTree", folder);
  refuseUnknownOptions("loadTree", options, [
    "names",
    "match",
    "missing",
    "place",
    "donate",
    "tag",
    "onReport",
  ]);
  const { match = "exact", donate = false } = options;
  const { missing = match === "exact" ? "refuse" : "keep" } = options;
  checkChoice("match", match, ["exact", "partial"]);
  checkChoice("missing", missing, ["refuse", "keep"]);
  const path = placeOf(resolve(folder));
  const fit = await compareTree(like, path, options.names);
  const wrong: TreeReport = {
    missing: missing === "refuse" ? fit.missing : [],
    unexpected: match === "exact" ? fit.unexpected : [],
    different: match === "exact" ? fit.different : [],
  };
  if (!fits(wrong)) {
    throw new CheckpointError(
      `${folder} does not fit the tree: ${describeReport(wrong)}`,
      'load it with the structure that it was saved from, or pass match: "partial" for what fits',
    );
  }
  const { missing: lacking, unexpected, different } = fit;
  const report = { missing: lacking, unexpected, different };
  if (options.onReport !== undefined) options.onReport(report);
  else if (!fits(fit)) console.warn(`${folder} was loaded in part: ${describeReport(report)}`);
  if (donate) releaseFitting(like, fit);
  return readTree(like, path, fit, options);
}

/** The Tensors of a tree as a folder of a `CheckpointStore`, with `config.json` beside them if there is a configuration. */
export function treeFolder(
  tree: unknown,
  { names = checkpointName, metadata = { format: "pt" }, config, maxFileBytes = 5e9 }: SaveTreeOptions = {},
): TensorFolder {
  const flat = flatten(tree);
  const tensors = new Map<string, Tensor>();
  for (const [i, name] of namesOf(flat.paths, names).entries()) tensors.set(name, flat.leaves[i]!);
  const sizes = flat.leaves.map((leaf) => leaf.size * itemSize(leaf.dtype));
  const inOne = sizes.reduce((sum, size) => sum + size, 0) <= maxFileBytes;
  return {
    bytes: sizes.reduce((sum, size) => sum + size + 256, 4096),
    async write(folder) {
      // Begun before anything is waited for: later programs may take the Tensors over at once.
      await saveTensors(inOne ? join(folder, "model.safetensors") : folder, tensors, {
        metadata: { ...metadata },
        maxFileBytes,
      });
      if (config === undefined) return;
      const text = typeof config === "string" ? config : `${JSON.stringify(config, null, 2)}\n`;
      await using file = await open(join(folder, "config.json"), "wx");
      await file.writeFile(text);
      await file.sync();
    },
  };
}

/** How a tree and the tensors of a folder, an index or a file fit. */
export async function compareTree(
  tree: unknown,
  path: string,
  names: TensorNames = checkpointName,
): Promise<TreeFit> {
  const flat = flatten(tree);
  const saved = await listFiles(path);
  const expected = namesOf(flat.paths, names);
  const known = new Set(expected);
  const different: string[] = [];
  const fitting = flat.leaves.flatMap((leaf, i) => {
    const name = expected[i]!;
    const found = saved.get(name);
    if (found === undefined) return [];
    if (found.dtype === leaf.dtype && found.shape.join() === leaf.shape.join()) return [i];
    different.push(
      `${name} is ${found.dtype}[${found.shape.join(", ")}], the tree's is ${leaf.dtype}[${leaf.shape.join(", ")}]`,
    );
    return [];
  });
  return {
    fitting,
    missing: expected.filter((name) => !saved.has(name)),
    unexpected: [...saved.keys()].filter((name) => !known.has(name)),
    different,
  };
}

/** The tree with those of its leaves from a folder that fit. */
export async function readTree<T>(
  tree: T,
  path: string,
  { fitting }: TreeFit,
  {
    names = checkpointName,
    place = () => undefined,
    tag = "parameter",
  }: Pick<LoadTreeOptions, "names" | "place" | "tag"> = {},
): Promise<T> {
  const flat = flatten(tree);
  const leaves = [...flat.leaves];
  const wanted = fitting.map((i) => {
    const leaf = leaves[i]!;
    const at = flat.paths[i]!;
    return { name: names(at), shape: leaf.shape, dtype: leaf.dtype, to: place(at, leaf) };
  });
  for (const [k, tensor] of (await loadTensors(path, wanted, tag)).entries()) leaves[fitting[k]!] = tensor;
  return flat.rebuild(leaves) as T;
}

/** Frees the values that are about to be replaced. */
export function releaseFitting(tree: unknown, { fitting }: TreeFit): void {
  const { leaves } = flatten(tree);
  for (const i of fitting) leaves[i]!.dispose();
}

export function fits({ missing, unexpected, different }: TreeReport): boolean {
  return missing.length + unexpected.length + different.length === 0;
}

/** The report as one line. */
export function describeReport({ missing, unexpected, different }: TreeReport): string {
  const parts = [
    listed("missing", missing),
    listed("unexpected", unexpected),
    listed("different", different),
  ];
  return parts.filter((each) => each !== "").join("; ") || "everything fits";
}

function listed(what: string, names: readonly string[]): string {
  if (names.length === 0) return "";
  const shown = names.slice(0, 5).join(", ");
  return `${names.length} ${what} (${shown}${names.length > 5 ? ", …" : ""})`;
}

/** @throws ArgumentError where a Tensor has no name of its own */
function namesOf(paths: readonly string[], names: TensorNames): string[] {
  const pathOf = new Map<string, string>();
  for (const path of paths) {
    const name = names(path);
    if (typeof name !== "string" || name === "")
      throw new ArgumentError(
        `the Tensor at "${path}" has the name ${JSON.stringify(name)}`,
        path === "" ? "put it into an object, as { value: tensor }" : "let `names` give a text",
      );
    const other = pathOf.get(name);
    if (other !== undefined)
      throw new ArgumentError(
        `the Tensors at "${other}" and "${path}" would both be called ${name}`,
        "give a `names` that keeps them apart, or rename a field",
      );
    pathOf.set(name, path);
  }
  return [...pathOf.keys()];
}

/** Only what `saveTree` itself writes may be replaced. */
function refuseOthers(folder: string): void {
  if (!existsSync(folder)) return;
  if (!statSync(folder).isDirectory())
    throw new CheckpointError(`saveTree: ${folder} is a file`, "give a folder that is not there yet");
  const own = /^model(-[\w-]+)?\.safetensors(\.index\.json)?$|^config\.json$/;
  const others = readdirSync(folder).filter((name) => !own.test(name));
  if (others.length === 0) return;
  throw new CheckpointError(
    `saveTree: ${folder} holds other things, which would be lost: ${others.slice(0, 5).join(", ")}`,
    "give a folder of its own, for example one below it",
  );
}

function checkFolder(operation: string, folder: unknown): void {
  if (typeof folder !== "string" || folder === "")
    throw new ArgumentError(
      `${operation}: the folder is ${JSON.stringify(folder) ?? typeof folder}`,
      "give its path",
    );
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (!choices.includes(value))
    throw new ArgumentError(`loadTree: ${name} is ${JSON.stringify(value)}`, `one of ${choices.join(", ")}`);
}
