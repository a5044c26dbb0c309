/**
 * The decoder that all language models here are: pre-normalized blocks of attention and feed-forward layers. A family (llama.ts, gemma.ts,
 * ...) is a choice of its parts. Fields are named as in Hugging Face's Llama checkpoints, in camel case.
 */
import { broadcastTo, zeros } from "../../array/broadcast.js";
import { iota } from "../../array/creation.js";
import { add, cast, div, equal, mul, stopGradient, tanh, where } from "../../array/elementwise.js";
import { slice } from "../../array/indexing.js";
import { concatenate, split } from "../../array/joining.js";
import { expandDims, reshape } from "../../array/shaping.js";
import { Tensor } from "../../array/tensor.js";
import { ArgumentError, ShapeError } from "../../graph/errors.js";
import { attention } from "../../nn/attention.js";
import { KeyValueCache } from "../../nn/cache.js";
import { ExpertMlp, type RouterStatistics, routerBalance } from "../../nn/experts.js";
import { type Initializer, normalInit } from "../../nn/initializers.js";
import { Embedding, LayerNorm, Linear, RMSNorm } from "../../nn/layers.js";
import { linearCrossEntropy } from "../../nn/losses.js";
import { GatedMlp, Mlp } from "../../nn/mlp.js";
import { Module, checkpointName as parameterName } from "../../nn/module.js";
import { applyRotary, type RotaryTables, rotaryTables } from "../../nn/rotary.js";
import { applyLayers, checkLayerOptions, type LayerOptions } from "../../nn/stack.js";
import { jit } from "../../transform/jit.js";
import { checkpointName } from "../../transform/remat.js";
import { flatten } from "../../transform/tree.js";
import { type DecoderConfig, hasExperts, type ResolvedConfig, resolve, rotaryFeatures } from "./config.js";
import {
  configText,
  type Family,
  type Json,
  resolved,
  type Stored,
  storedAs,
  writeConfig,
} from "./family.js";
import type { ForwardOptions, LanguageModel, Lead, TokenBatch } from "./model.js";
import { paddedAttention, withoutPadding } from "./padding.js";
import { noisyEmbeddings, supervisedPositions } from "./supervised.js";

function norm(
  config: ResolvedConfig,
  features = config.hiddenSize,
  axis: string | null = "embed",
): RMSNorm | LayerNorm {
  const { norm: kind, normEpsilon: epsilon } = config;
  return kind === "layer"
    ? new LayerNorm(features, { epsilon })
    : new RMSNorm(features, { epsilon, plusOne: kind === "rmsPlusOne", axis });
}

/** Layers that write to the residual stream begin smaller, the deeper the model (Radford et al. 2019). */
function residual({ initStd, layers }: ResolvedConfig): Initializer {
  return normalInit(initStd / Math.sqrt(2 * layers));
}

/** What a layer computes with beside its input. */
interface Surroundings extends Omit<ForwardOptions, "lead"> {
  readonly full: RotaryTables | null;
  readonly sliding: RotaryTables | null;
}

/** Keys and values [count, keyHeads, headDim] that come before those of the tokens. */
type KeysAndValues = NonNullable<Lead["keyValues"]>[number];

class Attention extends Module {
  qProj: Linear | null;
  kProj: Linear | null;
  vProj: Linear | null;
  qkvProj: Linear | null;
  oProj: Linear;
  qNorm: RMSNorm | LayerNorm | null;
  kNorm: RMSNorm | LayerNorm | null;

  constructor(config: ResolvedConfig) {
    super();
    const { hiddenSize, heads, keyValueHeads, headDim, initStd, qkvBias: bias, fusedQkv, qkNorm } = config;
    const init = normalInit(initStd);
    const layer = (count: number, axis: string): Linear =>
      new Linear(hiddenSize, count * headDim, { init, bias, axes: [axis, "embed"] });
    this.qProj = fusedQkv ? null : layer(heads, "heads");
    this.kProj = fusedQkv ? null : layer(keyValueHeads, "kv");
    this.vProj = fusedQkv ? null : layer(keyValueHeads, "kv");
    this.qkvProj = fusedQkv ? layer(heads + 2 * keyValueHeads, "heads") : null;
    this.oProj = new Linear(heads * headDim, hiddenSize, {
      init: residual(config),
      bias: config.outputBias,
      axes: ["embed", "heads"],
    });
    this.qNorm = qkNorm ? norm(config, headDim, null) : null;
    this.kNorm = qkNorm ? norm(config, headDim, null) : null;
  }

  /** @param lead - keys and values before those of `x` */
  forward(
    x: Tensor,
    config: ResolvedConfig,
    index: number,
    around: Surroundings,
    lead: KeysAndValues | null,
  ): Tensor {
    const { headDim, heads, keyValueHeads, attentionScale: scale, attentionSoftCap: softCap } = config;
    const [batch, time] = x.shape as [number, number];
    const sliding = config.layerTypes[index] === "sliding";
    const tables = sliding ? around.sliding : around.full;
    const place = (y: Tensor, n: RMSNorm | LayerNorm | null): Tensor => {
      const perHead = reshape(y, [batch, time, -1, headDim]);
      const normed = n === null ? perHead : n.forward(perHead);
      return tables === null ? normed : applyRotary(normed, tables);
    };
    const sizes = [heads, keyValueHeads, keyValueHeads].map((n) => n * headDim);
    const [rawQ, rawK, rawV] = (
      this.qkvProj === null
        ? [this.qProj!.forward(x), this.kProj!.forward(x), this.vProj!.forward(x)]
        : split(this.qkvProj.forward(x), sizes, -1)
    ) as [Tensor, Tensor, Tensor];
    const behind = (own: Tensor, before: Tensor | undefined): Tensor =>
      before === undefined
        ? own
        : concatenate([broadcastTo(cast(before, own.dtype), [batch, ...before.shape]), own], 1);
    const q = place(rawQ, this.qNorm);
    const k = behind(place(rawK, this.kNorm), lead?.keys);
    const v = behind(reshape(rawV, [batch, time, -1, headDim]), lead?.values);
    const { cache, segments } = around;
    const options = { scale, softCap, segments, window: sliding ? config.window : undefined };
    const mixed =
      cache === undefined
        ? around.padding === undefined
          ? attention(q, k, v, options)
          : paddedAttention(q, k, v, { ...options, causal: true }, around.padding)
        : attention(q, ...cache.append(index, k, v), {
            ...options,
            offset: cache.position,
            keyStart: cache.keyStart ?? undefined,
            lead: cache.lead,
          });
    return this.oProj.forward(checkpointName(reshape(mixed, [batch, time, -1]), "attention"));
  }
}

function feedForward(config: ResolvedConfig, index: number): GatedMlp | Mlp | ExpertMlp {
  const { hiddenSize, intermediateSize, activation, mlpBias: bias, experts } = config;
  const options = { activation, bias, init: normalInit(config.initStd), outputInit: residual(config) };
  if (experts !== undefined && hasExperts(config, index)) {
    const { count, perToken, normalize, capacity } = experts;
    return new ExpertMlp(hiddenSize, experts.intermediateSize ?? intermediateSize, {
      ...options,
      experts: count,
      perToken,
      normalize,
      capacity,
    });
  }
  return config.mlp === "plain"
    ? new Mlp(hiddenSize, intermediateSize, options)
    : new GatedMlp(hiddenSize, intermediateSize, { ...options, fused: config.fusedGateUp });
}

class Block extends Module {
  selfAttn: Attention;
  mlp: GatedMlp | Mlp | ExpertMlp;
  inputLayernorm: RMSNorm | LayerNorm;
  /** Before the feed-forward layers; after attention where there are norms after both. */
  postAttentionLayernorm: RMSNorm | LayerNorm;
  preFeedforwardLayernorm: RMSNorm | LayerNorm | null;
  postFeedforwardLayernorm: RMSNorm | LayerNorm | null;

  constructor(config: ResolvedConfig, index: number) {
    super();
    this.selfAttn = new Attention(config);
    this.mlp = feedForward(config, index);
    this.inputLayernorm = norm(config);
    this.postAttentionLayernorm = norm(config);
    this.preFeedforwardLayernorm = config.postNorms ? norm(config) : null;
    this.postFeedforwardLayernorm = config.postNorms ? norm(config) : null;
  }

  forward(
    x: Tensor,
    config: ResolvedConfig,
    index: number,
    around: Surroundings,
    lead: KeysAndValues | null,
  ): [x: Tensor, statistics: RouterStatistics | null] {
    const mixed = this.selfAttn.forward(this.inputLayernorm.forward(x), config, index, around, lead);
    const attended = add(x, config.postNorms ? this.postAttentionLayernorm.forward(mixed) : mixed);
    const before = this.preFeedforwardLayernorm ?? this.postAttentionLayernorm;
    const given = before.forward(attended);
    const { output, statistics } =
      this.mlp instanceof ExpertMlp
        ? this.mlp.forward(given)
        : { output: this.mlp.forward(given), statistics: null };
    const after = this.postFeedforwardLayernorm;
    return [add(attended, after === null ? output : after.forward(output)), statistics];
  }
}

class Trunk extends Module {
  embedTokens: Embedding;
  embedPositions: Embedding | null;
  layers: Block[];
  norm: RMSNorm | LayerNorm;

  constructor(config: ResolvedConfig) {
    super();
    const init = normalInit(config.initStd);
    this.embedTokens = new Embedding(config.vocabSize, config.hiddenSize, { init, axes: ["vocab", "embed"] });
    this.embedPositions =
      config.positions === "learned"
        ? new Embedding(config.maxPositions!, config.hiddenSize, { init, axes: [null, "embed"] })
        : null;
    this.layers = Array.from({ length: config.layers }, (_, i) => new Block(config, i));
    this.norm = norm(config);
  }
}

export interface DecoderOptions extends LayerOptions {
  /** The family it is of, which says how checkpoints of it look. Default none. */
  family?: Family;
  /** The `config.json` it was opened from: what the model does not use of it is saved again. */
  source?: Json;
  /** The `generation_config.json` beside it, which is saved again as it is. */
  generation?: string;
}

/** A layer, and the keys and values that its tokens see before their own. */
interface Led {
  readonly block: Block;
  readonly led: KeysAndValues | null;
}

interface State {
  readonly x: Tensor;
  /** Of the layers so far; null in models without experts. */
  readonly statistics: RouterStatistics | null;
}

export class Decoder extends Module implements LanguageModel {
  model: Trunk;
  lmHead: Linear | null;
  readonly config: ResolvedConfig;
  readonly family: Family | null;
  readonly source: Json | null;
  readonly generation: string | null;
  readonly execution: LayerOptions;

  constructor(config: DecoderConfig, { family, source, generation, ...execution }: DecoderOptions = {}) {
    super();
    this.config = family === undefined ? resolve(config, "decoder") : resolved(family, config);
    checkLayerOptions(family?.name ?? "decoder", execution);
    this.family = family ?? null;
    this.source = source ?? null;
    this.generation = generation ?? null;
    this.execution = execution;
    this.model = new Trunk(this.config);
    const { hiddenSize, vocabSize, initStd } = this.config;
    this.lmHead = this.config.tieEmbeddings
      ? null
      : new Linear(hiddenSize, vocabSize, { init: normalInit(initStd), axes: ["vocab", "embed"] });
  }

  /** Logits of the next token at each position: integer [batch, time] to [batch, time, vocabSize]. */
  forward(tokens: Tensor, options: ForwardOptions = {}): Tensor {
    return this.logits(this.hidden(tokens, options));
  }

  /** The output layer: states [batch, time, hiddenSize] of `hidden` to logits [batch, time, vocabSize]. */
  logits(x: Tensor): Tensor {
    const logits = this.lmHead === null ? this.model.embedTokens.attend(x) : this.lmHead.forward(x);
    const cap = this.config.logitSoftCap;
    return cap === undefined ? logits : mul(tanh(div(logits, cap)), cap);
  }

  /** The states that the output layer reads: integer [batch, time] to [batch, time, hiddenSize], normalized. */
  hidden(tokens: Tensor, options: ForwardOptions = {}): Tensor {
    return this.run(tokens, options).x;
  }

  /** Mean cross-entropy of the next token in nats, and the experts' auxiliary loss; the logits never exist for the whole batch. */
  loss(batch: TokenBatch): Tensor {
    return this.lossAndPositions(batch).loss;
  }

  /** `loss`, and the states and targets of the positions that it is computed of: all, or those that the batch names as `supervised`. */
  lossAndPositions(
    batch: TokenBatch,
    { noise }: Pick<ForwardOptions, "noise"> = {},
  ): { loss: Tensor; positions: ReturnType<typeof supervisedPositions> } {
    const { inputs, targets, segments, positions: places } = batch;
    if (!(targets instanceof Tensor)) {
      throw new ArgumentError(
        `${this.family?.name ?? "decoder"}: the loss of a batch without targets`,
        "give { inputs, targets }, integers [batch, time] each",
      );
    }
    const { logitSoftCap: softCap, experts } = this.config;
    const { hidden, balance } = this.hiddenAndBalance(inputs, { segments, positions: places, noise });
    const positions = supervisedPositions(hidden, batch);
    const loss = linearCrossEntropy(positions.hidden, this.outputLayer, positions.targets, {
      weights: positions.weights,
      softCap,
    });
    const whole = balance === null ? loss : add(loss, mul(balance, experts?.auxiliaryWeight ?? 0.001));
    return { loss: whole, positions };
  }

  /** What makes logits of states: a layer, or the embedding whose table is the output layer's too. */
  get outputLayer(): Linear | Embedding {
    return this.lmHead ?? this.model.embedTokens;
  }

  /** `hidden`, and the experts' auxiliary loss before its weight, a scalar; null in models without experts. */
  hiddenAndBalance(tokens: Tensor, options: ForwardOptions = {}): { hidden: Tensor; balance: Tensor | null } {
    const { x: hidden, statistics } = this.run(tokens, options);
    if (statistics === null) return { hidden, balance: null };
    const { experts, layers } = this.config;
    const { states } = options.lead ?? this.lead ?? {};
    const read = tokens.size + tokens.shape[0]! * (states?.shape[0] ?? 0);
    const chosen = read * (layers - (experts?.denseLayers?.length ?? 0));
    return { hidden, balance: routerBalance(statistics, chosen) };
  }

  /** What every text begins with: nothing, in a model that was not adapted by a prompt. */
  get lead(): Lead | undefined {
    return undefined;
  }

  private run(tokens: Tensor, options: ForwardOptions): State {
    const { config } = this;
    const { embedTokens, embedPositions, layers, norm: last } = this.model;
    if (!(tokens instanceof Tensor) || tokens.ndim !== 2) {
      const what = tokens instanceof Tensor ? `of shape [${tokens.shape.join(", ")}]` : "that are no Tensor";
      throw new ShapeError(
        `${this.family?.name ?? "decoder"}: tokens ${what}`,
        "give integers [batch, time]",
      );
    }
    const { states, keyValues } = options.lead ?? (options.cache === undefined ? this.lead : undefined) ?? {};
    const before = states?.shape[0] ?? 0;
    const earlier = before + (keyValues?.[0]?.keys.shape[0] ?? 0);
    if (earlier > 0 && options.segments !== undefined) {
      throw new ArgumentError(
        `${this.family?.name ?? "decoder"}: packed texts, and a model that begins each with a prompt or prefix`,
        "give each text a row of its own, filled up with padding",
      );
    }
    const time = earlier + tokens.shape[1]!;
    const counted = options.positions === undefined && options.cache === undefined;
    if (embedPositions !== null && counted && time > config.maxPositions!) {
      throw new ArgumentError(
        `${this.family?.name ?? "decoder"}: ${time} tokens, where positions are learned up to ${config.maxPositions}`,
        "give shorter texts",
      );
    }
    const positions = this.positions(tokens.shape[1]!, before, earlier, options);
    const padding = options.padding && before > 0 ? withoutPadding(options.padding, before) : options.padding;
    const around = { ...options, padding, ...this.tables(positions) };
    let x = embedTokens.forward(tokens);
    if (options.noise !== undefined) x = noisyEmbeddings(x, options.noise, options.segments);
    const { fixedToken } = options;
    if (fixedToken !== undefined) x = where(equal(expandDims(tokens, -1), fixedToken), stopGradient(x), x);
    if (config.embeddingScale !== 1) x = mul(x, config.embeddingScale);
    if (states !== undefined) {
      const led = broadcastTo(cast(states, x.dtype), [x.shape[0]!, ...states.shape]);
      x = x.shape[1] === 0 ? led : concatenate([led, x], 1);
    }
    if (embedPositions !== null) x = add(x, embedPositions.forward(positions));
    const none = (): Tensor => zeros([config.experts!.count]);
    const start: State = {
      x,
      statistics: config.experts === undefined ? null : { chosen: none(), probability: none() },
    };
    const apply = ({ block, led }: Led, state: State, index: number): State => {
      const [next, statistics] = block.forward(state.x, config, index, around, led);
      if (statistics === null || state.statistics === null) return { ...state, x: next };
      const { chosen, probability } = state.statistics;
      return {
        x: next,
        statistics: {
          chosen: add(chosen, statistics.chosen),
          probability: add(probability, statistics.probability),
        },
      };
    };
    // A cache has a place for each layer, so its layers are unrolled.
    const how = options.cache === undefined ? { ...this.execution, period: period(config) } : {};
    const pairs = layers.map((block, i): Led => ({ block, led: keyValues?.[i] ?? null }));
    const after = applyLayers(pairs, start, apply, how);
    const kept = before === 0 || options.withLead === true ? after.x : slice(after.x, null, [before]);
    return { ...after, x: last.forward(kept) };
  }

  /** Of what is computed: `before` positions of the lead, then the tokens', which come after `earlier` ones. */
  private positions(
    time: number,
    before: number,
    earlier: number,
    { positions, cache }: ForwardOptions,
  ): Tensor {
    const first = iota([before + time], 0);
    const from = earlier - before;
    if (positions === undefined)
      return cache?.positions(before + time) ?? (from === 0 ? first : add(first, from));
    if (earlier === 0) return positions;
    const given = add(positions, earlier);
    if (before === 0) return given;
    const led = iota([before], 0, { dtype: given.dtype });
    return concatenate([broadcastTo(led, [...given.shape.slice(0, -1), before]), given], -1);
  }

  private tables(positions: Tensor): Pick<Surroundings, "full" | "sliding"> {
    const { config } = this;
    if (config.positions === "learned") return { full: null, sliding: null };
    const features = rotaryFeatures(config);
    const full = rotaryTables(positions, { features, theta: config.ropeTheta, scaling: config.ropeScaling });
    const { windowRopeTheta: theta } = config;
    return { full, sliding: theta === undefined ? full : rotaryTables(positions, { features, theta }) };
  }

  /** Tokens that end a text, as the checkpoint's files say: chat models often have more than their tokenizer names. */
  get stopIds(): readonly number[] {
    const file = this.generation === null ? this.source : (JSON.parse(this.generation) as Json);
    const named = file?.eos_token_id;
    return [named].flat().filter((id): id is number => Number.isInteger(id));
  }

  get switchLength(): number | undefined {
    const { ropeScaling } = this.config;
    return ropeScaling?.type === "longrope" ? ropeScaling.originalContext : undefined;
  }

  get alikeLength(): number | undefined {
    const { ropeScaling } = this.config;
    return ropeScaling?.type === "dynamic" ? ropeScaling.originalContext : this.switchLength;
  }

  /** An empty cache for `batch` texts of up to `length` tokens; `keyStart`: int32 [batch], the padding tokens that each begins with. */
  newCache(batch: number, length: number, keyStart?: Tensor): KeyValueCache {
    const { layers, keyValueHeads: heads, headDim } = this.config;
    const { dtype } = this.model.embedTokens.weight;
    const shape = { layers, batch, heads, headDim, dtype, keyStart };
    const { lead } = this;
    if (lead === undefined) return new KeyValueCache({ ...shape, length });
    const earlier = (lead.states ?? lead.keyValues![0]!.keys).shape[0]!;
    return filled(this, new KeyValueCache({ ...shape, length: earlier + length, lead: earlier }));
  }

  /** Where the parameter at a path lies in checkpoints of its family. */
  storedAs(path: string, shape: readonly number[]): Stored {
    return this.family === null
      ? { names: [parameterName(path)], stacked: false, transposed: false }
      : storedAs(this.family, path, shape);
  }

  /** The name that transformers gives the module at a path. */
  moduleName(path: string): string {
    const { family } = this;
    const name = parameterName(path);
    // Its experts and their router are called otherwise in checkpoints than in the model.
    if (family === null || /\.mlp\.(experts|gate)$/.test(name)) return name;
    return (family.rename?.(`${name}.weight`) ?? `${name}.weight`).replace(/\.weight$/, "");
  }

  /**
   * The text of the `config.json` under which its parameters, saved by the names of their paths, are a checkpoint of its family; undefined where the
   * family names or cuts them otherwise (`save` does that).
   */
  configText(): string | undefined {
    const { family } = this;
    if (family === null) return undefined;
    const flat = flatten(this);
    const asTheyAre = flat.paths.every((path, i) => {
      const { names, transposed, stacked } = storedAs(family, path, flat.leaves[i]!.shape);
      return !stacked && !transposed && names[0] === parameterName(path);
    });
    return asTheyAre
      ? configText(writeConfig(family, fittedConfig(this), this.model.embedTokens.weight.dtype, this.source))
      : undefined;
  }

  /**
   * Floating-point operations a trained token costs (forward and backward), at sequences of `time`: 6 a weight that it is multiplied by (of
   * experts, those it passes through), 4 where the weight is frozen, and the attention to the keys that it sees.
   */
  flopsPerToken(time: number): number {
    const {
      hiddenSize,
      vocabSize,
      heads,
      headDim,
      experts,
      layerTypes,
      window = time,
      maxPositions = 0,
    } = this.config;
    let weights = this.parameterCount - (this.lmHead === null ? 0 : vocabSize * hiddenSize);
    if (this.model.embedPositions !== null) weights -= maxPositions * hiddenSize;
    if (experts !== undefined) {
      for (const { mlp } of this.model.layers) {
        if (!(mlp instanceof ExpertMlp)) continue;
        const all = mlp.experts.parameterCount;
        weights -= all - (all * experts.perToken) / experts.count;
      }
    }
    const within = Math.min(window, time);
    const keys = { full: time / 2, sliding: within - (within * within) / (2 * time) };
    const attended = layerTypes.reduce((sum, type) => sum + keys[type], 0);
    // Of weights that are not trained there is no gradient: two operations less.
    const { kinds, leaves } = flatten(this);
    const trained = leaves.reduce((n, leaf, i) => n + (kinds[i] === "parameter" ? leaf.size : 0), 0);
    const frozen = kinds.includes("frozen") || kinds.includes("fixed") ? Math.max(0, weights - trained) : 0;
    return 6 * weights - 2 * frozen + 12 * heads * headDim * attended;
  }
}

/** The configuration of the model as it is now: rows of its tables, layers and the output layer may be others than it was made with. */
export function fittedConfig({ config, model, lmHead }: Decoder): ResolvedConfig {
  const rows = model.embedTokens?.weight?.shape[0] ?? config.vocabSize;
  const layers = model.layers.length;
  return {
    ...config,
    vocabSize: lmHead === null || lmHead.weight?.shape[0] === rows ? rows : config.vocabSize,
    tieEmbeddings: lmHead === null,
    // Further layers would be of no known kind.
    ...(layers > 0 && layers < config.layers && { layers, layerTypes: config.layerTypes.slice(0, layers) }),
  };
}

/** The number of layers after which their kinds repeat. */
function period(config: ResolvedConfig): number {
  const kinds = config.layerTypes.map((type, i) => `${type} ${hasExperts(config, i)}`);
  for (let p = 1; p < kinds.length; p++) if (kinds.every((kind, i) => kind === kinds[i % p])) return p;
  return kinds.length;
}

/** A cache with what a model's texts begin with. */
const filled = jit(
  (model: Decoder, cache: KeyValueCache): KeyValueCache => {
    const { states, keyValues } = model.lead!;
    const batch = cache.keys[0]!.shape[0]!;
    if (states !== undefined) {
      model.hidden(zeros([batch, 0], { dtype: "int32" }), { cache, lead: { states }, withLead: true });
    } else {
      for (const [layer, { keys, values }] of keyValues!.entries()) {
        const each = (x: Tensor): Tensor => broadcastTo(x, [batch, ...x.shape]);
        cache.append(layer, each(keys), each(values));
      }
    }
    cache.advance(cache.lead);
    return cache;
  },
  { name: "fill_cache", manyTraces: true, tag: () => "cache" },
);
