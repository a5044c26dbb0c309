/** What a decoder is made of, with defaults and checks. */
import { ArgumentError } from "../../graph/errors.js";
import { refuseUnknown } from "../../graph/spelling.js";
import { type Activation, activations } from "../../nn/mlp.js";
import type { RotaryScaling } from "../../nn/rotary.js";

export interface DecoderConfig {
  vocabSize: number;
  /** Width of the residual stream. */
  hiddenSize: number;
  /** Width of the feed-forward layers. */
  intermediateSize: number;
  layers: number;
  heads: number;
  /** Heads of keys and values; default `heads`. */
  keyValueHeads?: number;
  /** Default hiddenSize / heads. */
  headDim?: number;
  /** "rms", "rmsPlusOne" (Gemma's, which multiplies by 1 + weight) or "layer". Default "rms". */
  norm?: "rms" | "rmsPlusOne" | "layer";
  /** Default 1e-5. */
  normEpsilon?: number;
  /** Normalizes what attention and feed-forward layers give to the residual stream too (Gemma 2). Default false. */
  postNorms?: boolean;
  /** Normalizes each head's queries and keys (Qwen 3, Gemma 3). Default false. */
  qkNorm?: boolean;
  /** Queries, keys and values from one product. Default false. */
  fusedQkv?: boolean;
  /** Gate and up from one product. Default false. */
  fusedGateUp?: boolean;
  qkvBias?: boolean;
  outputBias?: boolean;
  mlpBias?: boolean;
  /** Default "gated". */
  mlp?: "gated" | "plain";
  /** Default "silu". */
  activation?: Activation;
  /** Default "rotary". */
  positions?: "rotary" | "learned";
  /** Number of learned positions: the longest text. */
  maxPositions?: number;
  /** Base of the rotary frequencies. Default 10,000. */
  ropeTheta?: number;
  /** Stretching of the rotary frequencies for longer contexts. Default none. */
  ropeScaling?: RotaryScaling;
  /** Base in the layers with a window, whose frequencies are not stretched; default as in the others. */
  windowRopeTheta?: number;
  /** Share of a head's features that is rotated. Default 1. */
  rotaryShare?: number;
  /** Keys that a layer with a window sees. Default none. */
  window?: number;
  /** Which layers have the window; default all, if there is one. */
  layerTypes?: readonly ("full" | "sliding")[];
  /** Factor of the scores; default 1 / sqrt(headDim). */
  attentionScale?: number;
  /** Bounds the scores (Gemma 2). Default none. */
  attentionSoftCap?: number;
  /** Bounds the logits (Gemma 2). Default none. */
  logitSoftCap?: number;
  /** Factor of the embeddings (Gemma: sqrt(hiddenSize)). Default 1. */
  embeddingScale?: number;
  /** Feed-forward experts in place of one feed-forward layer. Default none. */
  experts?: ExpertConfig;
  /** The output layer shares the embedding's table. Default false. */
  tieEmbeddings?: boolean;
  /** Standard deviation of the initial weights. Default 0.02. */
  initStd?: number;
}

export interface ExpertConfig {
  count: number;
  /** Experts that a token passes through. */
  perToken: number;
  /** Width of an expert; default the model's intermediateSize. */
  intermediateSize?: number;
  /** Divides the chosen experts' probabilities by their sum. Default true. */
  normalize?: boolean;
  /** Weight of the auxiliary loss that balances the experts. Default 0.001. */
  auxiliaryWeight?: number;
  /** Room of an expert as a multiple of its even share; tokens beyond pass it by. Default: room for all, at the cost of all experts. */
  capacity?: number;
  /** Layers that have one feed-forward layer instead. Default none. */
  denseLayers?: readonly number[];
}

type Optional =
  | "ropeScaling"
  | "windowRopeTheta"
  | "window"
  | "attentionSoftCap"
  | "logitSoftCap"
  | "maxPositions"
  | "experts";

/** Far beyond any model: a slip of the pen must not take all memory. */
const mostLayers = 10_000;

/** A configuration with its defaults. */
export type ResolvedConfig = Required<Omit<DecoderConfig, Optional>> & Pick<DecoderConfig, Optional>;

/** Fills in the defaults and checks every field; `where` begins the messages. */
export function resolve(config: DecoderConfig, where: string): ResolvedConfig {
  const { layers } = config;
  // Before anything is made for each layer.
  if (!(Number.isInteger(layers) && layers >= 1 && layers <= mostLayers))
    throw new ArgumentError(
      `${where}: layers is ${String(layers)}`,
      `give an integer from 1 to ${mostLayers}`,
    );
  const filled: ResolvedConfig = {
    keyValueHeads: config.heads,
    headDim: config.hiddenSize / config.heads,
    norm: "rms",
    normEpsilon: 1e-5,
    postNorms: false,
    qkNorm: false,
    fusedQkv: false,
    fusedGateUp: false,
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    mlp: "gated",
    activation: "silu",
    positions: "rotary",
    ropeTheta: 10_000,
    rotaryShare: 1,
    layerTypes: new Array(config.layers).fill(config.window === undefined ? "full" : "sliding"),
    attentionScale: 1 / Math.sqrt(config.headDim ?? config.hiddenSize / config.heads),
    embeddingScale: 1,
    tieEmbeddings: false,
    initStd: 0.02,
    ...(Object.fromEntries(
      Object.entries(config).filter(([, value]) => value !== undefined && value !== null),
    ) as DecoderConfig),
  };
  check(filled, where);
  return filled;
}

function check(config: ResolvedConfig, where: string): void {
  const refuse = (what: string, fix: string): never => {
    throw new ArgumentError(`${where}: ${what}`, fix);
  };
  const field = <K extends keyof ResolvedConfig>(
    names: readonly K[],
    fits: (value: unknown) => boolean,
    fix: string,
  ): void => {
    for (const name of names) {
      const value = config[name];
      if (value !== undefined && !fits(value))
        refuse(`${name} is ${typeof value === "number" ? value : JSON.stringify(value)}`, fix);
    }
  };
  const integer = (x: unknown): boolean => Number.isInteger(x) && (x as number) >= 1;
  const positive = (x: unknown): boolean => typeof x === "number" && x > 0 && Number.isFinite(x);
  field(
    [
      "vocabSize",
      "hiddenSize",
      "intermediateSize",
      "heads",
      "keyValueHeads",
      "headDim",
      "window",
      "maxPositions",
    ],
    integer,
    "give a positive integer; without headDim, hiddenSize must be a multiple of heads",
  );
  field(
    [
      "normEpsilon",
      "ropeTheta",
      "windowRopeTheta",
      "attentionScale",
      "attentionSoftCap",
      "logitSoftCap",
      "embeddingScale",
      "initStd",
    ],
    positive,
    "give a positive number",
  );
  field(
    ["postNorms", "qkNorm", "fusedQkv", "fusedGateUp", "qkvBias", "outputBias", "mlpBias", "tieEmbeddings"],
    (x) => typeof x === "boolean",
    "give true or false",
  );
  const one = <K extends keyof ResolvedConfig>(name: K, values: readonly string[]): void =>
    field([name], (x) => values.includes(x as string), `one of ${values.join(", ")}`);
  one("norm", ["rms", "rmsPlusOne", "layer"]);
  one("mlp", ["gated", "plain"]);
  one("positions", ["rotary", "learned"]);
  one("activation", Object.keys(activations));
  const { heads, keyValueHeads, headDim, rotaryShare, layers, layerTypes, positions, ropeScaling, experts } =
    config;
  if (heads % keyValueHeads !== 0)
    refuse(
      `${heads} heads cannot share ${keyValueHeads} keyValueHeads`,
      "heads must be a multiple of keyValueHeads",
    );
  const rotated = rotaryFeatures(config);
  if (positions === "rotary" && !(integer(rotated) && rotated % 2 === 0 && rotated <= headDim)) {
    refuse(
      `headDim is ${headDim}${rotaryShare === 1 ? "" : ` of which ${rotaryShare} is rotated`}`,
      "rotary embeddings need an even number of features",
    );
  }
  if (positions === "learned" && config.maxPositions === undefined)
    refuse("maxPositions is missing", "give the length of the longest text");
  if (layerTypes.length !== layers || layerTypes.some((t) => t !== "full" && t !== "sliding"))
    refuse(
      `layerTypes is ${JSON.stringify(layerTypes)} for ${layers} layers`,
      '"full" or "sliding" for each layer',
    );
  if (layerTypes.includes("sliding") && config.window === undefined)
    refuse("layerTypes has sliding layers, and there is no window", "give the window");
  if (ropeScaling !== undefined) checkScaling(ropeScaling, rotated / 2, where, refuse);
  if (experts !== undefined) checkExperts(experts, layers, where, refuse);
}

type Refuse = (what: string, fix: string) => never;

function checkScaling(scaling: RotaryScaling, pairs: number, where: string, refuse: Refuse): void {
  const needed: Record<RotaryScaling["type"], readonly string[]> = {
    linear: ["factor"],
    dynamic: ["factor", "originalContext"],
    llama3: ["factor", "lowFrequencyFactor", "highFrequencyFactor", "originalContext"],
    yarn: ["factor", "originalContext"],
    longrope: ["factor", "originalContext", "shortFactor", "longFactor"],
  };
  const choices: Partial<Record<RotaryScaling["type"], readonly string[]>> = {
    yarn: ["betaFast", "betaSlow", "attentionFactor", "mscale", "mscaleAllDim", "truncate"],
    longrope: ["attentionFactor"],
  };
  const fields = needed[scaling.type];
  if (fields === undefined)
    refuse(`the rope type is ${JSON.stringify(scaling.type)}`, `one of ${Object.keys(needed).join(", ")}`);
  const values = scaling as unknown as Readonly<Record<string, unknown>>;
  const optional = choices[scaling.type] ?? [];
  refuseUnknown(`${where}: ropeScaling has no field`, Object.keys(values), ["type", ...fields, ...optional]);
  const positive = (x: unknown): boolean => typeof x === "number" && x > 0;
  const field = (name: string, fits: (value: unknown) => boolean, fix: string): void => {
    const value = values[name];
    if (!fits(value)) refuse(`ropeScaling.${name} is ${JSON.stringify(value)}`, fix);
  };
  for (const name of fields) {
    if (name === "shortFactor" || name === "longFactor")
      field(
        name,
        (x) => Array.isArray(x) && x.length === pairs && x.every(positive),
        `give ${pairs} positive numbers`,
      );
    else field(name, positive, "give a positive number");
  }
  for (const name of optional) {
    if (values[name] === undefined) continue;
    if (name === "truncate") field(name, (x) => typeof x === "boolean", "give true or false");
    else field(name, (x) => positive(x) || x === 0, "give a number of at least 0");
  }
}

const expertFields: readonly (keyof ExpertConfig)[] = [
  "count",
  "perToken",
  "intermediateSize",
  "normalize",
  "auxiliaryWeight",
  "capacity",
  "denseLayers",
];

function checkExperts(experts: ExpertConfig, layers: number, where: string, refuse: Refuse): void {
  refuseUnknown(`${where}: experts has no field`, Object.keys(experts), expertFields);
  const {
    count,
    perToken,
    intermediateSize = 1,
    normalize = true,
    auxiliaryWeight = 0,
    capacity = 1,
    denseLayers = [],
  } = experts;
  const integer = (x: number): boolean => Number.isInteger(x) && x >= 1;
  if (!integer(count) || !integer(intermediateSize))
    refuse(`experts has ${count} experts of width ${intermediateSize}`, "give positive integers");
  if (!integer(perToken) || perToken > count)
    refuse(`experts.perToken is ${perToken} of ${count}`, "give an integer from 1 to the number of experts");
  if (typeof normalize !== "boolean")
    refuse(`experts.normalize is ${String(normalize)}`, "give true or false");
  if (!(auxiliaryWeight >= 0))
    refuse(`experts.auxiliaryWeight is ${auxiliaryWeight}`, "give a number of at least 0");
  if (!(capacity > 0))
    refuse(`experts.capacity is ${capacity}`, "give a positive multiple of an even share, such as 1.25");
  if (denseLayers.some((i) => !Number.isInteger(i) || i < 0 || i >= layers))
    refuse(
      `experts.denseLayers is ${JSON.stringify(denseLayers)}`,
      `give numbers of layers, from 0 to ${layers - 1}`,
    );
}

/** Features of a head that are rotated. */
export function rotaryFeatures({ headDim, rotaryShare }: ResolvedConfig): number {
  return Math.floor(headDim * rotaryShare);
}

/** Whether layer `index` has experts. */
export function hasExperts({ experts }: ResolvedConfig, index: number): boolean {
  return experts !== undefined && !(experts.denseLayers ?? []).includes(index);
}
