/**
 * Published trainings of language models as functions that return a TrainerConfig: `{ ...llm.recipes.llama3_8b.pretrain(), steps: 1000 }`.
 *
 * The defaults of `pretrain` are those of NVIDIA's NeMo (its `llama3_8b.pretrain_recipe` and kin: AdamW with betas 0.9 and 0.95, epsilon 1e-5,
 * decay 0.1, gradients clipped at norm 1, 2,000 steps of warm-up, a cosine to a tenth, 512 sequences of 8,192 tokens), those of `finetune` of
 * its `finetune_recipe` (50 steps of warm-up, a cosine to 0, beta2 0.98, 128 sequences of 2,048; learning rate 5e-6 for all parameters, 1e-4 for LoRA of rank
 * 8 and alpha 16 on all linear layers). What a model's authors published themselves goes before; the source stands with each recipe.
 */
import type { TokenSource } from "../data/batch.js";
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknown } from "../graph/spelling.js";
import * as models from "../models/llm/index.js";
import { adamw, cosine, type Optimizer } from "../optim/index.js";
import { type LoraOptions, lora as loraOf } from "../peft/index.js";
import type { Loss, TrainableModel, TrainerConfig } from "../train/index.js";
import { type AdaptConfig, type AdaptOptions, adaptation } from "./finetuning.js";
import { RandomTokens } from "./random-tokens.js";

export interface BatchShape {
  /** Sequences of an update. */
  readonly batchSize: number;
  readonly sequenceLength: number;
  /** Ids must be below it. */
  readonly vocabSize: number;
}

const { configs, llama, supervised } = models;

type Model = TrainableModel & { readonly config: { readonly vocabSize: number } };

export interface RecipeOptions<M extends Model> {
  /** Names the run. Default the recipe's own name. */
  name?: string;
  /** Makes the source of batches of the recipe's shape. Default tokens without meaning, to measure the speed with. */
  data?: (shape: BatchShape) => TokenSource;
  /** In place of the recipe's. */
  batchSize?: number;
  sequenceLength?: number;
  steps?: number;
  /** Sequences that are computed at once on all devices together; the batch is accumulated from them. Default 1. */
  microBatchSize?: number;
  /** In place of the recipe's, which has no values yet. */
  model?: M;
}

const optionNames: readonly (keyof RecipeOptions<Model>)[] = [
  "name",
  "data",
  "batchSize",
  "sequenceLength",
  "steps",
  "microBatchSize",
  "model",
];

export interface FinetuneOptions<M extends Model> extends Omit<RecipeOptions<M>, "data"> {
  /** What to start from: `await llm.load(folder)`. */
  model: M;
  /** A source, such as `text.chat(...)`, whose shape the recipe takes; or a function that makes one of the recipe's shape. */
  data: TokenSource | ((shape: BatchShape) => TokenSource);
  /** All parameters, or low-rank products beside the linear layers (`peft.lora`). Default `"full"`. */
  method?: "full" | "lora";
  /** Of `method: "lora"`, in place of the recipe's: rank 8, alpha 16, all linear layers. */
  lora?: LoraOptions;
  /** Noise on the embeddings, alpha of NEFTune. Default 0. */
  neftune?: number;
  /** Largest learning rate. Default the recipe's for the method. */
  learningRate?: number;
}

/** Of a recipe: both are always there. */
export type RecipeConfig<M extends Model> = TrainerConfig<M> & {
  data: TokenSource;
  optimizer: Optimizer;
};

export interface Recipe<M extends Model> {
  /** From parameters that are drawn. */
  pretrain(options?: RecipeOptions<M>): RecipeConfig<M>;
  /** A model that was trained before, on conversations or other sequences, whose targets or weights say which tokens count. */
  finetune(options: FinetuneOptions<M>): RecipeConfig<M>;
  /** Continued pretraining on texts of a domain. */
  adapt(options: AdaptOptions): AdaptConfig;
}

interface Settings {
  readonly peak: number;
  readonly final?: number;
  readonly warmup: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly steps: number;
}

/** NeMo's of every family. */
const nemoPretraining: Settings = {
  peak: 3e-4,
  warmup: 2000,
  beta2: 0.95,
  epsilon: 1e-5,
  batchSize: 512,
  sequenceLength: 8192,
  steps: 1_168_251,
};

const nemoFinetuning: Settings & { readonly loraPeak: number } = {
  peak: 5e-6,
  loraPeak: 1e-4,
  final: 0,
  warmup: 50,
  beta2: 0.98,
  epsilon: 1e-5,
  batchSize: 128,
  sequenceLength: 2048,
  steps: 1000,
};

function trainingOf<M extends Model>(
  name: string,
  model: M,
  settings: Settings,
  options: RecipeOptions<M>,
): RecipeConfig<M> {
  const { batchSize = settings.batchSize, sequenceLength = settings.sequenceLength } = options;
  const { steps = settings.steps, microBatchSize = 1 } = options;
  refuseUnknown(`${name}: there is no option`, Object.keys(options), optionNames);
  for (const [field, value] of Object.entries({ batchSize, sequenceLength, steps })) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new ArgumentError(`${name}: ${field} is ${JSON.stringify(value)}`, "give a positive integer");
  }
  if (!(Number.isInteger(microBatchSize) && microBatchSize >= 1 && batchSize % microBatchSize === 0)) {
    throw new ArgumentError(
      `${name}: microBatchSize is ${microBatchSize}, batchSize ${batchSize}`,
      "give a divisor of batchSize",
    );
  }
  const shape = { batchSize, sequenceLength, vocabSize: model.config.vocabSize };
  const { peak, final = peak / 10, beta2, epsilon } = settings;
  return {
    name: options.name ?? name,
    model,
    data: options.data?.(shape) ?? new RandomTokens(shape),
    optimizer: adamw({
      // A short trial would else be warm-up only.
      learningRate: cosine({ peak, final, warmup: Math.min(settings.warmup, Math.ceil(steps / 10)) }),
      beta1: 0.9,
      beta2,
      epsilon,
      weightDecay: 0.1,
      clipNorm: 1,
    }),
    steps,
    precision: "bf16",
    accumulate: batchSize / microBatchSize,
    validation: { every: Math.min(2000, steps), batches: 32 },
    checkpoints: { every: Math.min(1000, steps), keep: 3, keepBest: 1 },
  };
}

const finetuneOnly: readonly (keyof FinetuneOptions<Model>)[] = ["method", "lora", "neftune", "learningRate"];

function finetuned<M extends Model>(
  name: string,
  settings: typeof nemoFinetuning,
  options: FinetuneOptions<M>,
): RecipeConfig<M> {
  refuseUnknown(`${name}: there is no option`, Object.keys(options), [...optionNames, ...finetuneOnly]);
  const { data, method = "full", lora, neftune = 0, learningRate, model: given, ...rest } = options;
  if (method !== "full" && method !== "lora")
    throw new ArgumentError(`${name}: method is ${JSON.stringify(method)}`, 'use "full" or "lora"');
  if (lora !== undefined && method !== "lora")
    throw new ArgumentError(`${name}: options of LoRA without LoRA`, 'add method: "lora", or leave lora out');
  if (data === undefined)
    throw new ArgumentError(
      `${name}: finetune without data`,
      "give a source of batches, or a function of their shape",
    );
  const model =
    method === "full" ? given : loraOf(given, { rank: 8, alpha: 16, targetModules: "all-linear", ...lora });
  const peak = learningRate ?? (method === "full" ? settings.peak : settings.loraPeak);
  const shape =
    typeof data === "function" ? {} : { batchSize: data.batchSize, sequenceLength: data.sequenceLength };
  return {
    ...trainingOf(
      `${name}-finetune`,
      model,
      { ...settings, peak },
      {
        ...shape,
        ...rest,
        data: typeof data === "function" ? data : () => data,
      },
    ),
    loss: supervised({ neftune }) as Loss<M>,
  };
}

function recipe<M extends Model>(
  name: string,
  build: () => M,
  published: Partial<Settings> = {},
  tuning: Partial<typeof nemoFinetuning> = {},
): Recipe<M> {
  const pretraining = { ...nemoPretraining, ...published };
  return {
    pretrain: (options = {}) =>
      trainingOf(`${name}-pretrain`, options.model ?? build(), pretraining, options),
    finetune: (options) => finetuned(name, { ...nemoFinetuning, ...tuning }, options),
    adapt: (options) => adaptation(name, pretraining, options),
  };
}

/** About a million parameters on bytes: minutes on two CPU cores. */
export const tiny = recipe(
  "tiny",
  () => llama(configs.tiny),
  {
    peak: 4e-3,
    warmup: 30,
    epsilon: 1e-8,
    batchSize: 16,
    sequenceLength: 128,
    steps: 400,
  },
  { peak: 1e-3, loraPeak: 5e-3, warmup: 10, batchSize: 16, sequenceLength: 128, steps: 200 },
);

/** nanoGPT's reproduction (github.com/karpathy/nanoGPT, config/train_gpt2.py): half a million tokens an update, 6e-4 to 6e-5. */
export const gpt2 = recipe("gpt2", () => models.gpt2(configs.gpt2), {
  peak: 6e-4,
  epsilon: 1e-8,
  batchSize: 480,
  sequenceLength: 1024,
  steps: 600_000,
});

/** Zhang et al. 2024, "TinyLlama": 2 million tokens an update, learning rate 4e-4 to 4e-5. */
export const llama1b = recipe("llama1b", () => llama(configs.llama1b), {
  peak: 4e-4,
  batchSize: 1024,
  sequenceLength: 2048,
  steps: 1_431_000,
});

/** Touvron et al. 2023, "Llama 2", section 2.2: 4 million tokens an update, 2 trillion in all. */
const llama2Published = { batchSize: 1024, sequenceLength: 4096, steps: 500_000 };
export const llama2_7b = recipe("llama2_7b", () => llama(configs.llama2_7b), llama2Published);
export const llama2_13b = recipe("llama2_13b", () => llama(configs.llama2_13b), llama2Published);
export const llama2_70b = recipe("llama2_70b", () => llama(configs.llama2_70b), {
  ...llama2Published,
  peak: 1.5e-4,
});

/** Learning rates of Llama 3: Grattafiori et al. 2024, "The Llama 3 Herd of Models", table 3; the rest is NeMo's. */
export const llama3_8b = recipe("llama3_8b", () => llama(configs.llama3_8b));
export const llama3_70b = recipe("llama3_70b", () => llama(configs.llama3_70b), { peak: 1.5e-4 });
export const llama3_1_8b = recipe("llama3_1_8b", () => llama(configs.llama3_1_8b));
export const llama3_1_70b = recipe("llama3_1_70b", () => llama(configs.llama3_1_70b), { peak: 1.5e-4 });
/** The same, section 3.4.1: 8,000 steps of warm-up, 8e-5 to 8e-7 over 1,200,000 steps. */
export const llama3_1_405b = recipe("llama3_1_405b", () => llama(configs.llama3_1_405b), {
  peak: 8e-5,
  final: 8e-7,
  warmup: 8000,
  steps: 1_200_000,
});
export const llama3_2_1b = recipe("llama3_2_1b", () => llama(configs.llama3_2_1b));
export const llama3_2_3b = recipe("llama3_2_3b", () => llama(configs.llama3_2_3b));

/** Mistral AI and the Qwen team published no such figures: NeMo's defaults. */
const nemoShort = { sequenceLength: 4096 };
export const mistral_7b = recipe("mistral_7b", () => models.mistral(configs.mistral_7b));
export const mixtral_8x7b = recipe("mixtral_8x7b", () => models.mixtral(configs.mixtral_8x7b), nemoShort);
export const mixtral_8x22b = recipe("mixtral_8x22b", () => models.mixtral(configs.mixtral_8x22b), nemoShort);
export const qwen3_0_6b = recipe("qwen3_0_6b", () => models.qwen3(configs.qwen3_0_6b), nemoShort);
export const qwen3_8b = recipe("qwen3_8b", () => models.qwen3(configs.qwen3_8b), nemoShort);
export const qwen3_32b = recipe("qwen3_32b", () => models.qwen3(configs.qwen3_32b), nemoShort);
export const qwen3_30b_a3b = recipe("qwen3_30b_a3b", () => models.qwen3Moe(configs.qwen3_30b_a3b), nemoShort);
