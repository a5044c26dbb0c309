import { existsSync, statSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { replaceFileSync } from "../files/atomic.js";
import { readRegular } from "../files/regular.js";
import { SafetensorsError } from "./errors.js";
import { refuseLoosePieces } from "./pieces.js";
import { type NamedTensor, SafetensorsFile, writeSafetensors } from "./safetensors-file.js";
import { byteLength, type TensorEntry } from "./safetensors-header.js";

/**
 * The tensors of a Hugging Face checkpoint: one safetensors file, or several that a `*.safetensors.index.json` lists.
 */
export class TensorFiles {
  private constructor(
    readonly path: string,
    private readonly files: readonly SafetensorsFile[],
    private readonly fileOf: ReadonlyMap<string, SafetensorsFile>,
  ) {}

  /** Opens a file, an index, or a folder that holds `model.safetensors` or its index. */
  static async open(path: string): Promise<TensorFiles> {
    const file = await locate(path);
    return file.endsWith(".index.json") ? TensorFiles.openIndexed(file) : TensorFiles.openSingle(file);
  }

  private static async openSingle(path: string): Promise<TensorFiles> {
    const file = await SafetensorsFile.open(path);
    return new TensorFiles(path, [file], new Map([...file.tensors.keys()].map((name) => [name, file])));
  }

  private static async openIndexed(path: string): Promise<TensorFiles> {
    const shardOf = await readIndex(path);
    const names = [...new Set(shardOf.values())].sort();
    const missing = names.filter((name) => !existsSync(join(dirname(path), name)));
    if (missing.length > 0) {
      throw new SafetensorsError(
        `${path} lists ${names.length} files, and ${missing.length} of them are missing: ${missing.join(", ")}.`,
        "Download the missing files into the same folder.",
      );
    }
    const files = new Map<string, SafetensorsFile>();
    try {
      for (const name of names) files.set(name, await SafetensorsFile.open(join(dirname(path), name)));
      const fileOf = new Map<string, SafetensorsFile>();
      for (const [tensor, shard] of shardOf) {
        const file = files.get(shard)!;
        if (!file.tensors.has(tensor)) {
          throw new SafetensorsError(
            `${path} says that ${shard} has the tensor ${JSON.stringify(tensor)}; it has not.`,
          );
        }
        fileOf.set(tensor, file);
      }
      return new TensorFiles(path, [...files.values()], fileOf);
    } catch (error) {
      await Promise.all([...files.values()].map((file) => file.close()));
      throw error;
    }
  }

  /** All tensors, without their data, in the order of the files. */
  get tensors(): ReadonlyMap<string, TensorEntry> {
    return new Map([...this.fileOf].map(([name, file]) => [name, file.tensors.get(name)!]));
  }

  /** A tensor's bytes, in a buffer of their own. */
  async read(name: string): Promise<Uint8Array> {
    const file = this.fileOf.get(name);
    if (file === undefined) throw new SafetensorsError(`${this.path} has no tensor ${JSON.stringify(name)}.`);
    return file.read(name);
  }

  async close(): Promise<void> {
    await Promise.all(this.files.map((file) => file.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export interface WriteOptions {
  /** Default `model`. */
  base?: string;
  /** Bytes of tensors a file. Default 5e9, as transformers writes. */
  maxShardBytes?: number;
  /** Default `{ format: "pt" }`, which transformers asks for. */
  metadata?: Readonly<Record<string, string>>;
}

/**
 * Writes tensors as `model.safetensors`, or where they are more than `maxShardBytes` as
 * `model-00001-of-00003.safetensors` and so on with an index. Fails if a file is there.
 *
 * @returns the path of the file or the index.
 */
export async function writeTensorFiles(
  folder: string,
  tensors: readonly NamedTensor[],
  options: WriteOptions = {},
): Promise<string> {
  const { base = "model", maxShardBytes = 5e9, metadata = { format: "pt" } } = options;
  await mkdir(folder, { recursive: true });
  const shards: NamedTensor[][] = [[]];
  let bytes = 0;
  let total = 0;
  for (const tensor of tensors) {
    const size = byteLength(tensor);
    if (bytes > 0 && bytes + size > maxShardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(tensor);
    bytes += size;
    total += size;
  }
  if (shards.length === 1) {
    const path = join(folder, `${base}.safetensors`);
    await writeSafetensors(path, tensors, metadata);
    return path;
  }
  const shardOf: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const name = `${base}-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, name), shard, metadata);
    for (const tensor of shard) shardOf[tensor.name] = name;
  }
  const index = join(folder, `${base}.safetensors.index.json`);
  const sorted = Object.fromEntries(Object.entries(shardOf).sort(([a], [b]) => (a < b ? -1 : 1)));
  replaceFileSync(
    index,
    `${JSON.stringify({ metadata: { total_size: total }, weight_map: sorted }, null, 2)}\n`,
  );
  return index;
}

function digits(number: number): string {
  return String(number).padStart(5, "0");
}

async function locate(path: string): Promise<string> {
  if (!existsSync(path))
    throw new SafetensorsError(`There is no ${path}.`, `Paths are relative to ${process.cwd()}.`);
  if (!statSync(path).isDirectory()) return path;
  for (const name of ["model.safetensors.index.json", "model.safetensors"]) {
    if (existsSync(join(path, name))) return join(path, name);
  }
  refuseLoosePieces(path);
  const names = await readdir(path);
  const candidates = names.filter((name) => name.endsWith(".safetensors"));
  if (candidates.length === 1) return join(path, candidates[0]!);
  throw new SafetensorsError(
    `${path} has no model.safetensors and no model.safetensors.index.json; it has: ${names.slice(0, 12).join(", ") || "nothing"}.`,
    candidates.length > 1
      ? "Give the path of the file that you want."
      : "Only safetensors are read; convert other checkpoints with transformers' `save_pretrained`.",
  );
}

/** The file of each tensor. */
async function readIndex(path: string): Promise<Map<string, string>> {
  let index: unknown;
  try {
    index = JSON.parse(await readRegular(path));
  } catch (error) {
    throw new SafetensorsError(`${path} is not valid JSON: ${(error as Error).message}`, undefined, {
      cause: error,
    });
  }
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null)
    throw new SafetensorsError(`${path} has no object \`weight_map\`.`);
  const entries = Object.entries(map);
  for (const [tensor, file] of entries) {
    // The index comes with a download: it must not lead out of its folder.
    if (typeof file !== "string" || file !== basename(file) || !file.endsWith(".safetensors")) {
      throw new SafetensorsError(
        `${path} gives ${JSON.stringify(file)} as the file of ${JSON.stringify(tensor)}.`,
      );
    }
  }
  return new Map(entries);
}
