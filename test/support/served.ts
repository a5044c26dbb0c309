/** A tiny language model of random weights behind the service. Import `runtime.js` before. */
import { llm, nn, text } from "aronnax";
import { type ServeOptions, Service } from "../../core/src/serve/api/index.js";
import { createEngine, type EngineOptions } from "../../core/src/serve/engine/index.js";

export const tokenizer = text.byteTokenizer();
tokenizer.config.chat_template =
  "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

export const tiny = () =>
  nn.initialize(
    llm.llama({ vocabSize: 257, hiddenSize: 16, intermediateSize: 32, layers: 2, heads: 2, initStd: 0.5 }),
    1,
  );

/** Few programs: three numbers of pages, three of texts. */
export function tinyEngine(options: Partial<EngineOptions> = {}) {
  return createEngine(tiny(), {
    tokenizer,
    context: 256,
    pageSize: 64,
    pages: 32,
    maxBatch: 4,
    chunk: 32,
    ...options,
  });
}

export async function startTiny(options: ServeOptions = {}) {
  const engine = tinyEngine();
  const service = await Service.start([{ name: "tiny", engine, tokenizer, parser: "hermes" }], {
    port: 0,
    ...options,
  });
  return { engine, service };
}

/** Waits for a condition, at most two minutes. */
export async function until(holds: () => boolean): Promise<void> {
  const end = Date.now() + 120_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`in two minutes it did not become so: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
