import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import {
  type NamedTensor,
  SafetensorsError,
  SafetensorsFile,
  writeSafetensors,
} from "../../checkpoint/index.js";
import type { Corpus, TokenArray } from "./corpus.js";
import type { BrokenLines } from "./sources.js";
import type { Tokenizer } from "./tokenizer.js";

/** Counts up when the same text and options give other tokens. */
const formatVersion = 1;

/** Where token caches lie by default: `$XDG_CACHE_HOME/aronnax/tokens`, else `~/.cache/aronnax/tokens`. */
export function defaultTokenCache(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "aronnax", "tokens");
}

/** The cache file of a text under a tokenizer: all that decides the tokens is in its name. */
export function cacheFile(
  folder: string,
  fingerprint: string,
  tokenizer: Tokenizer,
  options: { eosId: number; special: string },
): string {
  const hash = createHash("sha256");
  hash.update(
    JSON.stringify([formatVersion, fingerprint, options.eosId, options.special, tokenizer.toJSON()]),
  );
  return join(folder, `${hash.digest("hex").slice(0, 32)}.safetensors`);
}

/** The tokens in a cache file; undefined if there is none, or a damaged one. */
export async function readCache(path: string, name: string, vocabSize: number): Promise<Corpus | undefined> {
  if (!existsSync(path)) return undefined;
  try {
    const file = await SafetensorsFile.open(path);
    try {
      const bytes = await file.read("tokens");
      const ends = await file.read("document_ends");
      const narrow = file.tensors.get("tokens")?.dtype === "uint16";
      const tokens: TokenArray = narrow ? new Uint16Array(bytes.buffer) : new Int32Array(bytes.buffer);
      const broken = file.header.metadata.broken;
      return {
        name,
        tokens,
        documentEnds: new Float64Array(ends.buffer),
        vocabSize,
        ...(broken !== undefined && { broken: JSON.parse(broken) as BrokenLines }),
      };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof SafetensorsError) return undefined;
    throw error;
  }
}

/** Writes a cache file. A cache is a convenience: where it cannot be written, a warning is all. */
export async function writeCache(path: string, folder: string, corpus: Corpus): Promise<void> {
  const temporary = `${path}.tmp-${process.pid}`;
  const { tokens, documentEnds, broken } = corpus;
  const tensors: NamedTensor[] = [
    tensor("tokens", tokens instanceof Uint16Array ? "uint16" : "int32", tokens),
    tensor("document_ends", "float64", documentEnds),
  ];
  try {
    await mkdir(folder, { recursive: true });
    await rm(temporary, { force: true });
    await writeSafetensors(temporary, tensors, {
      source: corpus.name,
      ...(broken !== undefined && { broken: JSON.stringify(broken) }),
    });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    console.warn(`The tokens of ${corpus.name} cannot be cached in ${folder}: ${(error as Error).message}`);
  }
}

function tensor(name: string, dtype: NamedTensor["dtype"], data: TokenArray | Float64Array): NamedTensor {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { name, dtype, shape: [data.length], bytes: async () => bytes };
}
