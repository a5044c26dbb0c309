/** Parameters in the layout of checkpoints: by which names, how put together, straight from the disk to the devices and back. */
import { existsSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { materialize } from "../../array/evaluate.js";
import { slice } from "../../array/indexing.js";
import { concatenate, stack } from "../../array/joining.js";
import { reshape, transpose } from "../../array/shaping.js";
import { loadTensors, saveTensors } from "../../array/storage.js";
import type { Tensor } from "../../array/tensor.js";
import { CheckpointError } from "../../checkpoint/errors.js";
import { type DType, itemSize } from "../../graph/dtype.js";
import { type Mesh, type Placement, placementKey } from "../../graph/mesh.js";
import type { Shape } from "../../graph/node.js";
import { type Module, parameterLayout } from "../../nn/module.js";
import type { Rules } from "../../sharding/rules.js";
import { jit } from "../../transform/jit.js";
import { scope } from "../../transform/scope.js";
import { flatten, named } from "../../transform/tree.js";
import { type Json, readJson } from "./folders.js";

/** Where a parameter lies in a checkpoint. */
export interface Stored {
  /** Several: each is one along the parameter's first axis. */
  readonly names: readonly string[];
  readonly stacked: boolean;
  readonly transposed: boolean;
  /** The tensor holds `of` parameters one after the other along its first axis, of which this is one. */
  readonly part?: { readonly index: number; readonly of: number };
  /** The shape that the tensor has, where it has the parameter's elements in another one. */
  readonly shape?: Shape;
}

/** The tensors that a checkpoint has, by name. */
export type Listed = ReadonlyMap<string, { readonly shape: readonly number[]; readonly dtype: string }>;

interface Parameter {
  readonly leaf: Tensor;
  readonly stored: Stored;
  readonly to: Placement | undefined;
}

/** What each tensor in the file has for its axes, from what the parameter has. */
function axesOf<T>(axes: readonly T[], { stacked, transposed }: Stored): readonly T[] {
  if (stacked) return axes.slice(1);
  return transposed ? [...axes].reverse() : axes;
}

function shapeInFile(shape: Shape, stored: Stored): Shape {
  if (stored.shape !== undefined) return stored.shape;
  const own = axesOf(shape, stored);
  return stored.part === undefined ? own : [own[0]! * stored.part.of, ...own.slice(1)];
}

export interface WeightsOptions {
  /** Element type of the floating-point parameters. Default the file's own. */
  readonly dtype?: DType;
  readonly mesh?: Mesh;
  readonly rules?: Rules;
  /** Names that the file may have and the model does not need. */
  ignores?(name: string): boolean;
}

/**
 * The model with the parameters of a checkpoint, which go from the disk to the devices without passing through this process.
 *
 * @param weights - a safetensors file, an index or a folder with either
 * @param stored - of each leaf, in the order of `flatten`
 * @throws CheckpointError with the names that are missing, unexpected or have another shape
 */
export async function loadWeights<M extends Module>(
  model: M,
  weights: string,
  stored: readonly Stored[],
  { folder, tensors, dtype, mesh, rules, ignores }: WeightsOptions & { folder: string; tensors: Listed },
): Promise<M> {
  const flat = flatten(model);
  const layout = mesh && parameterLayout(model, mesh, rules);
  const parameters = flat.leaves.map((leaf, i) => ({
    leaf,
    stored: stored[i]!,
    to: layout?.get(flat.paths[i]!),
  }));
  refuseUnlike(folder, parameters, tensors, ignores);
  const own = (name: string, leaf: Tensor): DType =>
    leaf.dtype.startsWith("int") ? leaf.dtype : (dtype ?? (tensors.get(name)!.dtype as DType));
  const isPlain = ({ stacked, transposed, part, shape }: Stored): boolean =>
    !stacked && !transposed && part === undefined && shape === undefined;
  const plain = parameters.filter(({ stored: s }) => isPlain(s));
  const requests = plain.map(({ leaf, stored: { names }, to }) => ({
    name: names[0]!,
    shape: leaf.shape,
    dtype: own(names[0]!, leaf),
    to,
  }));
  const found = new Map<Tensor, Tensor>();
  for (const [i, tensor] of (await loadTensors(weights, requests, "parameter")).entries())
    found.set(plain[i]!.leaf, tensor);
  // One by one: for a moment its parts lie beside the whole.
  for (const { leaf, stored: s, to } of parameters) {
    if (found.has(leaf)) continue;
    const direct = s.shape === undefined && s.part === undefined;
    const part = to && direct ? { mesh: to.mesh, spec: axesOf(to.spec, s) } : undefined;
    const whole = await scope(async () => {
      const parts = s.names.map((name) => ({
        name,
        shape: shapeInFile(leaf.shape, s),
        dtype: own(name, leaf),
        to: part,
      }));
      const { stacked, transposed, part: piece } = s;
      const how = { stacked, transposed, ...(piece !== undefined && { part: piece }) };
      return assembler(to)(await loadTensors(weights, parts, "parameter"), leaf.shape, how);
    });
    found.set(leaf, whole);
  }
  return flat.rebuild(flat.leaves.map((leaf) => found.get(leaf)!)) as M;
}

type Assemble = (
  parts: Tensor[],
  shape: Shape,
  how: Pick<Stored, "stacked" | "transposed" | "part">,
) => Tensor;

/** Makes a parameter of what the file holds, where it shall lie. */
function assembler(to: Placement | undefined): Assemble {
  const key = to === undefined ? "" : placementKey(to);
  const known = assemblers.get(key);
  if (known !== undefined) return known;
  const assemble: Assemble = (parts, shape, { stacked, transposed, part }) => {
    if (stacked) return stack(parts);
    const whole = transposed ? transpose(parts[0]!) : parts[0]!;
    if (part === undefined) return reshape(whole, shape);
    const length = shape[0]!;
    return slice(whole, [part.index * length, (part.index + 1) * length]);
  };
  const made = jit(assemble, {
    name: "assemble_parameter",
    tag: () => "parameter",
    place: () => to,
    manyTraces: true,
  });
  assemblers.set(key, made);
  return made;
}

const assemblers = new Map<string, Assemble>();

/** Throws where the file and the model do not fit. */
function refuseUnlike(
  folder: string,
  parameters: readonly Parameter[],
  tensors: Listed,
  ignores: (name: string) => boolean = () => false,
): void {
  const [missing, unexpected, misshapen]: [string[], string[], string[]] = [[], [], []];
  const known = new Set<string>();
  for (const { leaf, stored } of parameters) {
    const wanted = shapeInFile(leaf.shape, stored);
    for (const name of stored.names) {
      if (known.has(name)) continue;
      known.add(name);
      const found = tensors.get(name);
      if (found === undefined) missing.push(name);
      else if (found.shape.join() !== wanted.join())
        misshapen.push(
          `${name} is [${found.shape.join(", ")}], the configuration says [${wanted.join(", ")}]`,
        );
    }
  }
  for (const name of tensors.keys()) if (!known.has(name) && !ignores(name)) unexpected.push(name);
  const list = (what: string, names: readonly string[], separator = ", "): string[] => {
    if (names.length === 0) return [];
    const rest = names.length > 5 ? `${separator}and ${names.length - 5} more` : "";
    return [`${what}${names.slice(0, 5).join(separator)}${rest}`];
  };
  const problems = [
    ...list("missing: ", missing),
    ...list("unexpected: ", unexpected),
    ...list("", misshapen, "; "),
  ];
  if (problems.length === 0) return;
  throw new CheckpointError(
    `${folder} does not fit its config.json: ${problems.join("; ")}`,
    "check that all files of the checkpoint are there and belong together",
  );
}

/** The Tensors of a tree of a model's structure by the names, and in the layout, that its checkpoint has. */
export function storedTensors(
  tree: unknown,
  storedAs: (path: string, shape: Shape) => Stored,
): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  const pieces = new Map<string, Tensor[]>();
  for (const [path, tensor] of named(tree)) {
    const { names, stacked, transposed, part, shape } = storedAs(path, tensor.shape);
    if (part !== undefined) {
      const [name] = names as [string];
      const all = pieces.get(name) ?? [];
      all[part.index] = tensor;
      pieces.set(name, all);
      // In the order of the model, not of the pieces.
      if (all.filter((each) => each !== undefined).length === part.of) found.set(name, concatenate(all));
      continue;
    }
    for (const [i, name] of names.entries()) {
      const own = stacked ? slice(tensor, i) : transposed ? transpose(tensor) : tensor;
      found.set(name, shape === undefined ? own : reshape(own, shape));
    }
  }
  return found;
}

/** Writes the parameters of a model into one safetensors file, or several with their index, in a folder. */
export async function saveWeights(
  model: Module,
  folder: string,
  storedAs: (path: string, shape: Shape) => Stored,
  {
    maxFileBytes = 5e9,
    file = "model.safetensors",
    metadata = { format: "pt" } as Record<string, string>,
  } = {},
): Promise<void> {
  // The scope below would free the model's own leaves, were they computed in it.
  const leaves = [...named(model).values()];
  materialize(leaves);
  const bytes = leaves.reduce((n, { size, dtype }) => n + size * itemSize(dtype), 0);
  const whole = bytes <= maxFileBytes;
  const indexed = indexedFiles(folder);
  await scope(async () => {
    await saveTensors(whole ? join(folder, file) : folder, storedTensors(model, storedAs), {
      metadata,
      maxFileBytes,
    });
  });
  // What an earlier save in another number of files has left would be read too.
  for (const left of whole ? [...indexed, `${file}.index.json`] : [file])
    rmSync(join(folder, left), { force: true });
}

/** The files that the folder's index names. */
function indexedFiles(folder: string): string[] {
  const index = join(folder, "model.safetensors.index.json");
  if (!existsSync(index)) return [];
  const { weight_map: map } = readJson(index).json as { weight_map?: Record<string, string> };
  return [...new Set(Object.values(map ?? {}))].filter((file) => basename(file) === file);
}

/** Text of a configuration as Python writes it; transformers refuses integers for fields that are `floats`, and to JavaScript 30.0 is one. */
export function jsonText(json: Json, floats: readonly string[]): string {
  const whole = new RegExp(`^( *"(?:${floats.join("|")})": -?\\d+)(?=,?$)`, "gm");
  return `${JSON.stringify(json, null, 2).replace(whole, "$1.0")}\n`;
}
