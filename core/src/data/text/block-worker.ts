/** A worker thread that reads and tokenizes a source; see `block-reader.ts`. */
import { parentPort, workerData } from "node:worker_threads";
import type { BlockReply, BlockRequest } from "./block-reader.js";
import { readBlocks } from "./blocks.js";
import { sourceFromRecipe } from "./text-input.js";
import { HuggingFaceTokenizer } from "./tokenizer.js";

const port = parentPort!;
const { recipe, tokenizer, options, from } = workerData as BlockRequest;

/** Blocks that may be sent: the main thread grants one for each that it takes. */
let granted = 0;
let wake = () => {};
port.on("message", (count: number) => {
  granted += count;
  wake();
});

try {
  const source = sourceFromRecipe(recipe);
  for await (const block of readBlocks(
    source,
    new HuggingFaceTokenizer(tokenizer.json, tokenizer.config),
    options,
    from,
  )) {
    while (granted === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    granted--;
    port.postMessage({ block } satisfies BlockReply, [block.tokens.buffer as ArrayBuffer]);
  }
} catch (error) {
  const { name, message, fix } = error as Error & { fix?: string };
  port.postMessage({ error: { name, message, fix } } satisfies BlockReply);
}
