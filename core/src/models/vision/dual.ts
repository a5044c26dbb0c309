/** Models of pictures and texts that meet in one space. */

import { sum } from "../../array/broadcast.js";
import { matmul } from "../../array/contraction.js";
import { add, div, exp, mul, sqrt, square } from "../../array/elementwise.js";
import { transpose } from "../../array/shaping.js";
import type { Tensor } from "../../array/tensor.js";
import { VisionModel } from "./family.js";

/** Pictures and their texts, pairs by row. */
export interface PairBatch {
  /** Normalized pixels [batch, channels, height, width]; of SigLIP 2 patches [batch, places, channels · side²]. */
  readonly pixels: Tensor;
  /** Tokens, integer [texts, time]. */
  readonly tokens: Tensor;
  /** bool [texts, time]: false is padding. */
  readonly mask?: Tensor;
}

/** Features of length 1. */
export function unit(x: Tensor): Tensor {
  return div(x, sqrt(sum(square(x), -1, { keepDims: true })));
}

/** An encoder of pictures beside one of texts. */
export abstract class DualEncoder extends VisionModel {
  abstract logitScale: Tensor;
  abstract readonly logitBias: Tensor | null;

  /** Pictures to features [batch, features], not normalized. */
  abstract imageFeatures(pixels: Tensor): Tensor;
  /** Tokens, integer [texts, time], to features [texts, features], not normalized. */
  abstract textFeatures(tokens: Tensor, mask?: Tensor): Tensor;
  /** The family's loss of logits [n, n], pairs on the diagonal. */
  abstract pairLoss(logits: Tensor): Tensor;

  /** Features of length 1 of both. */
  embed({ pixels, tokens, mask }: PairBatch): { image: Tensor; text: Tensor } {
    return { image: unit(this.imageFeatures(pixels)), text: unit(this.textFeatures(tokens, mask)) };
  }

  /** Logits [pictures, texts] of features of length 1: how well each text fits each picture. */
  similarity({ image, text }: { image: Tensor; text: Tensor }): Tensor {
    const scaled = mul(matmul(image, transpose(text)), exp(this.logitScale));
    return this.logitBias === null ? scaled : add(scaled, this.logitBias);
  }

  /** Logits [pictures, texts]. */
  forward(batch: PairBatch): Tensor {
    return this.similarity(this.embed(batch));
  }

  /** The family's loss of a batch of pairs. */
  loss(batch: PairBatch): Tensor {
    return this.pairLoss(this.forward(batch));
  }
}
