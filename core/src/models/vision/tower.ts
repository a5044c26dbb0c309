/** Encoders: a transformer over the patches of a picture, and one over the tokens of a text. */
import { broadcastTo } from "../../array/broadcast.js";
import { dotGeneral } from "../../array/contraction.js";
import { add, cast, where } from "../../array/elementwise.js";
import { slice } from "../../array/indexing.js";
import { concatenate } from "../../array/joining.js";
import { expandDims, reshape, transpose } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { ArgumentError, ShapeError } from "../../graph/errors.js";
import { type Initializer, normalInit } from "../../nn/initializers.js";
import { Embedding, LayerNorm } from "../../nn/layers.js";
import { Module, redeclare } from "../../nn/module.js";
import { applyLayers, type LayerOptions } from "../../nn/stack.js";
import { resizePositions } from "./positions.js";
import { type Block, type BlockOptions, blocks, type Seen } from "./transformer.js";

/** @throws ShapeError that says what is wrong with pictures for a model, e.g. channels last */
export function checkPixels(name: string, pixels: Tensor, channels: number, patch = 1): void {
  const { shape } = pixels;
  const said = `${name}: the pictures have shape [${shape.join(", ")}]`;
  if (shape.length !== 4)
    throw new ShapeError(said, `give [batch, ${channels}, height, width], e.g. of a processor's normalize`);
  if (shape[1] !== channels)
    throw new ShapeError(
      said,
      shape[3] === channels
        ? `channels come second: transpose([0, 3, 1, 2]) makes it [batch, ${channels}, height, width]`
        : `the model takes ${channels} channels: [batch, ${channels}, height, width]`,
    );
  if (shape[2]! < patch || shape[3]! < patch)
    throw new ShapeError(said, `pictures have at least the ${patch} x ${patch} pixels of a patch`);
}

/** Pixels [batch, channels, height, width] as patches [batch, rows, columns, channels, side, side]; what is over at the edges is left out. */
export function patchesOf(pixels: Tensor, side: number): Tensor {
  const [batch, channels, height, width] = pixels.shape as [number, number, number, number];
  const [rows, columns] = [Math.floor(height / side), Math.floor(width / side)];
  const whole =
    rows * side === height && columns * side === width
      ? pixels
      : slice(pixels, null, null, [0, rows * side], [0, columns * side]);
  return transpose(reshape(whole, [batch, channels, rows, side, columns, side]), [0, 2, 4, 1, 3, 5]);
}

/** A convolution whose steps are as long as its kernel, computed as one product of matrices. */
export class PatchEmbedding extends Module {
  weight: Tensor;
  bias: Tensor | null;

  constructor(channels: number, features: number, side: number, { bias = true, initStd = 0.02 } = {}) {
    super();
    this.weight = this.parameter("weight", [features, channels, side, side], {
      init: normalInit(initStd),
      axes: ["embed", null, null, null],
    });
    this.bias = bias ? this.parameter("bias", [features], { init: normalInit(0), axes: ["embed"] }) : null;
  }

  /** [batch, channels, height, width] to [batch, rows, columns, features]. */
  forward(pixels: Tensor): Tensor {
    const [, , , side] = this.weight.shape as [number, number, number, number];
    const patches = cast(patchesOf(pixels, side), this.weight.dtype);
    const contract = [
      [3, 4, 5],
      [1, 2, 3],
    ] as const;
    const y = dotGeneral(patches, this.weight, { contract, batch: [[], []] });
    return this.bias === null ? y : add(y, this.bias);
  }
}

export interface ImageTowerOptions extends BlockOptions {
  readonly layers: number;
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
  /** Whether patches are embedded with a bias. Default true. */
  readonly patchBias?: boolean;
  /** Whether a learned token stands before the patches. Default true. */
  readonly classToken?: boolean;
  /** A second one, which learns from a teacher (DeiT). Default false. */
  readonly distillationToken?: boolean;
  /** Tokens without positions behind the first (Darcet et al. 2024, "Vision transformers need registers"). Default 0. */
  readonly registers?: number;
  /** Whether there is a token in place of masked patches. Default false. */
  readonly maskToken?: boolean;
  /** How positions are resized for pictures of other sides. Default bicubic without antialias. */
  readonly antialias?: boolean;
  /** Whether embeddings are normalized before the first layer (CLIP). Default false. */
  readonly preNorm?: boolean;
}

/** Patches and other tokens with their positions. */
export class ImageEmbeddings extends Module {
  classToken: Tensor | null;
  distillationToken: Tensor | null;
  registerTokens: Tensor | null;
  maskToken: Tensor | null;
  patches: PatchEmbedding;
  positions: Tensor;
  readonly side: number;
  readonly antialias: boolean;

  constructor(options: ImageTowerOptions) {
    super();
    const { hiddenSize, imageSize, patchSize, channels, initStd, patchBias: bias, registers = 0 } = options;
    const init = normalInit(initStd);
    const token = (name: string, there = false): Tensor | null =>
      there ? this.parameter(name, [hiddenSize], { init, axes: ["embed"] }) : null;
    this.antialias = options.antialias ?? false;
    this.side = Math.floor(imageSize / patchSize);
    this.classToken = token("classToken", options.classToken ?? true);
    this.distillationToken = token("distillationToken", options.distillationToken);
    this.registerTokens =
      registers > 0
        ? this.parameter("registerTokens", [registers, hiddenSize], { init, axes: [null, "embed"] })
        : null;
    this.maskToken = token("maskToken", options.maskToken);
    this.patches = new PatchEmbedding(channels, hiddenSize, patchSize, { bias, initStd });
    this.positions = this.parameter("positions", [this.prefix + this.side ** 2, hiddenSize], {
      init,
      axes: [null, "embed"],
    });
  }

  /** Tokens with positions before those of the patches. */
  get prefix(): number {
    return Number(this.classToken !== null) + Number(this.distillationToken !== null);
  }

  /** Gives the positions fixed values, which are not learned. */
  fixPositions(init: Initializer): void {
    this.positions = this.parameter("positions", this.positions.shape, { init, axes: [null, "embed"] });
    redeclare(this, { positions: "frozen" });
  }

  /**
   * @param masked - bool [batch, rows · columns]: patches in whose place the mask token stands
   * @returns [batch, tokens, hiddenSize]: class, distillation, registers, patches by rows
   */
  forward(pixels: Tensor, { masked }: { masked?: Tensor } = {}): Tensor {
    const { prefix } = this;
    const grid = this.patches.forward(pixels);
    const [batch, rows, columns, features] = grid.shape as [number, number, number, number];
    const words = reshape(grid, [batch, rows * columns, features]);
    const learned = prefix === 0 ? this.positions : slice(this.positions, [prefix]);
    const seen = masked === undefined ? words : this.hide(words, masked);
    const placed = add(seen, resizePositions(learned, rows, columns, this.antialias));
    const first = [this.classToken, this.distillationToken].flatMap((token, i) =>
      token === null ? [] : [expandDims(add(token, slice(this.positions, i)), 0)],
    );
    if (this.registerTokens !== null) first.splice(1, 0, this.registerTokens);
    const before = first.map((tokens) => broadcastTo(tokens, [batch, ...tokens.shape]));
    return before.length === 0 ? placed : concatenate([...before, placed], 1);
  }

  private hide(words: Tensor, masked: Tensor): Tensor {
    if (this.maskToken === null)
      throw new ArgumentError("the model has no mask token", "make it with maskToken: true");
    return where(expandDims(masked, -1), this.maskToken, words);
  }
}

/** A picture's tokens through all layers. */
export class ImageTower extends Module {
  embeddings: ImageEmbeddings;
  preNorm: LayerNorm | null;
  layers: Block[];
  norm: LayerNorm;
  readonly execution: LayerOptions;

  constructor({ layers, ...options }: ImageTowerOptions, execution: LayerOptions = {}) {
    super();
    const { hiddenSize, normEpsilon: epsilon } = options;
    this.execution = execution;
    this.embeddings = new ImageEmbeddings({ layers, ...options });
    this.preNorm = options.preNorm === true ? new LayerNorm(hiddenSize, { epsilon }) : null;
    this.layers = blocks(layers, options);
    this.norm = new LayerNorm(hiddenSize, { epsilon });
  }

  /**
   * [batch, channels, height, width] to [batch, tokens, hiddenSize], after the last norm.
   *
   * @param options.layers - after so many layers, without the last norm (LLaVA takes all but one)
   */
  forward(pixels: Tensor, { masked, layers }: { masked?: Tensor; layers?: number } = {}): Tensor {
    const { patches } = this.embeddings;
    const [, channels, side] = patches.weight.shape as [number, number, number, number];
    checkPixels("encoder", pixels, channels, side);
    const states = this.run(this.embeddings.forward(pixels, { masked }), {}, layers);
    return layers === undefined ? this.norm.forward(states) : states;
  }

  /** Embeddings through the layers, before the last norm. */
  run(embeddings: Tensor, seen: Seen = {}, layers = this.layers.length): Tensor {
    const start = this.preNorm === null ? embeddings : this.preNorm.forward(embeddings);
    const used = this.layers.slice(0, layers);
    return applyLayers(used, start, (layer, x) => layer.forward(x, seen), this.execution);
  }
}

export interface TextTowerOptions extends BlockOptions {
  readonly layers: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  /** Whether a token sees none behind it. */
  readonly causal: boolean;
}

/** A text's tokens through all layers. */
export class TextTower extends Module {
  tokens: Embedding;
  positions: Embedding;
  layers: Block[];
  norm: LayerNorm;
  readonly causal: boolean;
  readonly execution: LayerOptions;

  constructor(options: TextTowerOptions, execution: LayerOptions = {}) {
    super();
    const { hiddenSize, vocabSize, maxPositions, layers, normEpsilon: epsilon, initStd } = options;
    const init = normalInit(initStd);
    this.causal = options.causal;
    this.execution = execution;
    this.tokens = new Embedding(vocabSize, hiddenSize, { init, axes: ["vocab", "embed"] });
    this.positions = new Embedding(maxPositions, hiddenSize, { init, axes: [null, "embed"] });
    this.layers = blocks(layers, options);
    this.norm = new LayerNorm(hiddenSize, { epsilon });
  }

  /**
   * Integer [batch, time] to [batch, time, hiddenSize].
   *
   * @param mask - bool [batch, time]: false is padding
   */
  forward(ids: Tensor, mask?: Tensor): Tensor {
    const longest = this.positions.weight.shape[0]!;
    if (ids.ndim !== 2 || ids.shape[1]! > longest)
      throw new ShapeError(
        `text encoder: the tokens have shape [${ids.shape.join(", ")}]`,
        `give [batch, time] of at most ${longest} tokens`,
      );
    const places = slice(this.positions.weight, [0, ids.shape[1]!]);
    const seen: Seen = { causal: this.causal, ...(mask !== undefined && { mask }) };
    const start = add(this.tokens.forward(ids), places);
    return this.norm.forward(
      applyLayers(this.layers, start, (layer, x) => layer.forward(x, seen), this.execution),
    );
  }
}
