import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { DataError } from "../errors.js";
import { type BlockOptions, type ReaderPosition, readBlocks, type TokenBlock } from "./blocks.js";
import type { SourceRecipe, TextSource } from "./sources.js";
import {
  HuggingFaceTokenizer,
  type Tokenizer,
  type TokenizerConfig,
  type TokenizerJson,
} from "./tokenizer.js";

/** Gives the blocks of a source one after another. */
export interface BlockReader {
  read(): Promise<TokenBlock>;
  close(): void;
}

/** What a worker is started with. */
export interface BlockRequest {
  recipe: SourceRecipe;
  tokenizer: { json: TokenizerJson; config: TokenizerConfig };
  options: BlockOptions;
  from: ReaderPosition;
}

export type BlockReply =
  | { block: TokenBlock; error?: undefined }
  | { error: { name: string; message: string; fix?: string } };

/** Blocks that a worker makes ahead. */
const ahead = 2;

/**
 * Reads in a worker thread, ahead of what is asked for, where source and tokenizer can be sent to one; else on this
 * thread when asked. The blocks are the same.
 */
export function blockReader(
  source: TextSource,
  tokenizer: Tokenizer,
  options: BlockOptions,
  from: ReaderPosition,
): BlockReader {
  // Absent where the package is bundled into one file, and where its TypeScript is run as it is.
  const worker = fileURLToPath(new URL("./block-worker.js", import.meta.url));
  if (source.recipe !== undefined && tokenizer instanceof HuggingFaceTokenizer && existsSync(worker)) {
    const sent = { json: tokenizer.toJSON(), config: tokenizer.config };
    return new WorkerReader(worker, { recipe: source.recipe, tokenizer: sent, options, from }, source);
  }
  const blocks = readBlocks(source, tokenizer, options, from);
  return {
    read: async () => (await blocks.next()).value,
    close: () => void blocks.return(undefined as never),
  };
}

class WorkerReader implements BlockReader {
  private readonly worker: Worker;
  private readonly ready: BlockReply[] = [];
  private wake = () => {};

  constructor(
    file: string,
    request: BlockRequest,
    private readonly source: TextSource,
  ) {
    this.worker = new Worker(file, { workerData: request, name: "aronnax-tokenizer" });
    const receive = (reply: BlockReply) => {
      this.ready.push(reply);
      this.wake();
    };
    this.worker.on("message", receive);
    this.worker.on("error", ({ name, message }) => receive({ error: { name, message } }));
    this.worker.on("exit", () =>
      receive({ error: { name: "Error", message: "the tokenizing thread has ended" } }),
    );
    this.worker.postMessage(ahead);
    // Work ahead must not keep the process alive.
    this.worker.unref();
  }

  async read(): Promise<TokenBlock> {
    if (this.ready.length === 0) {
      this.worker.ref();
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      this.worker.unref();
    }
    const reply = this.ready[0]!;
    if (reply.error !== undefined) {
      // It stays in place: a further read fails in the same way.
      throw new DataError(reply.error.message, reply.error.fix);
    }
    this.ready.shift();
    this.worker.postMessage(1);
    const { broken } = reply.block;
    if (broken !== undefined && this.source.broken !== undefined) Object.assign(this.source.broken, broken);
    return reply.block;
  }

  close(): void {
    void this.worker.terminate();
  }
}
