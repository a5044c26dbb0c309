/** What a model that was trained before goes on with: conversations, or texts of a domain. */

import { type PackedText, packed } from "../data/text/packed.js";
import { type TextInput, textSource } from "../data/text/text-input.js";
import type { HuggingFaceTokenizer } from "../data/text/tokenizer.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknownOptions } from "../graph/spelling.js";
import { addTokens, type Decoder, perplexity } from "../models/llm/index.js";
import { adamw, cosine, type Optimizer } from "../optim/index.js";
import type { TrainerConfig } from "../train/index.js";

export interface AdaptOptions {
  /** What to start from: `await llm.load(folder)`. */
  model: Decoder;
  /** The model's own. */
  tokenizer: HuggingFaceTokenizer;
  /** Texts of the domain. */
  domain: TextInput;
  /** Texts such as the model was trained on before, of which some are repeated. */
  general: TextInput;
  /**
   * Share of the sequences that are general ones. Default 0.05 (Ibrahim et al. 2024, "Simple and scalable strategies to continually pre-train large
   * language models", section 6: 5% where the domain is near, 25% where it is far).
   */
  replay?: number;
  /** Terms that become tokens, each beginning as the mean of the pieces that it was written with. */
  newTokens?: readonly string[];
  /** Texts that are held out, by which both perplexities are measured. */
  heldOut: { domain: readonly string[]; general: readonly string[] };
  /** Largest learning rate, to which it is warmed up again (the same, section 4). Default that of the model's pretraining. */
  learningRate?: number;
  name?: string;
  batchSize?: number;
  sequenceLength?: number;
  steps?: number;
  microBatchSize?: number;
}

export interface AdaptConfig extends TrainerConfig<Decoder> {
  data: PackedText;
  optimizer: Optimizer;
  /** With the new tokens: the model's vocabulary is its. */
  tokenizer: HuggingFaceTokenizer;
}

/** What a recipe knows of its pretraining. */
interface Pretraining {
  readonly peak: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly batchSize: number;
  readonly sequenceLength: number;
}

/**
 * Continued pretraining on a domain: the learning rate rises to that of the pretraining and falls by a cosine to a tenth, some general texts are repeated. Validations
 * measure both perplexities, a token (`valid_domain_perplexity`, `valid_general_perplexity`) and, as that depends on the tokens, a byte (`valid_domain_bits_per_byte`,
 * `valid_general_bits_per_byte`); `await trainer.evaluate()` before `fit` gives those to begin with.
 */
export function adaptation(name: string, settings: Pretraining, options: AdaptOptions): AdaptConfig {
  refuseUnknownOptions(`${name}: adapt`, options, [
    "model",
    "tokenizer",
    "domain",
    "general",
    "replay",
    "newTokens",
    "heldOut",
    "learningRate",
    "name",
    "batchSize",
    "sequenceLength",
    "steps",
    "microBatchSize",
  ]);
  const { replay = 0.05, newTokens = [], heldOut, learningRate = settings.peak, steps = 1000 } = options;
  const {
    batchSize = settings.batchSize,
    sequenceLength = settings.sequenceLength,
    microBatchSize = 1,
  } = options;
  const refuse = (field: string, value: unknown, fix: string): never => {
    throw new ArgumentError(`${name}: ${field} is ${String(value)}`, fix);
  };
  if (!(replay >= 0 && replay < 1)) refuse("replay", replay, "give a share from 0 to below 1");
  if (!(Number.isInteger(microBatchSize) && microBatchSize >= 1 && batchSize % microBatchSize === 0))
    refuse("microBatchSize", microBatchSize, `give a divisor of batchSize, ${batchSize}`);
  for (const part of ["domain", "general"] as const)
    if (!Array.isArray(heldOut?.[part]) || heldOut[part].length === 0)
      refuse(
        `heldOut.${part}`,
        heldOut?.[part],
        "give texts that are held out: { domain: [...], general: [...] }",
      );
  const { model, tokenizer } =
    newTokens.length === 0 ? options : addTokens(options.model, options.tokenizer, newTokens);
  const parts = [
    { source: textSource(options.domain), weight: 1 - replay },
    ...(replay > 0 ? [{ source: textSource(options.general), weight: replay }] : []),
  ];
  return {
    name: options.name ?? `${name}-adapt`,
    model,
    tokenizer,
    data: packed(parts, {
      tokenizer,
      batchSize,
      sequenceLength,
      validation: [...heldOut.domain],
      packing: "best-fit",
    }),
    optimizer: adamw({
      learningRate: cosine({
        peak: learningRate,
        final: learningRate / 10,
        warmup: Math.max(1, Math.ceil(steps / 100)),
      }),
      beta1: 0.9,
      beta2: settings.beta2,
      epsilon: settings.epsilon,
      weightDecay: 0.1,
      clipNorm: 1,
    }),
    steps,
    precision: "bf16",
    accumulate: batchSize / microBatchSize,
    validation: {
      every: Math.max(1, Math.floor(steps / 10)),
      async measure({ model: present }) {
        const figures: Record<string, number> = {};
        for (const part of ["domain", "general"] as const) {
          const found = await perplexity(present, heldOut[part], { tokenizer, context: sequenceLength });
          figures[`${part}_perplexity`] = found.perplexity;
          figures[`${part}_bits_per_byte`] = found.bitsPerByte;
        }
        return figures;
      },
    },
    checkpoints: { every: Math.min(1000, steps), keep: 3 },
  };
}
