/** What vision models share: where they come from, how their checkpoints look, and what every encoder of pictures offers. */

import type { Tensor } from "../../array/tensor.js";
import type { Shape } from "../../graph/node.js";
import type { Linear } from "../../nn/layers.js";
import { checkpointName, Module } from "../../nn/module.js";
import type { LayerOptions } from "../../nn/stack.js";
import type { Json } from "../pretrained/folders.js";
import type { Stored } from "../pretrained/weights.js";
import type { ImageConfig } from "./config.js";

/** Names of one layout of checkpoints. */
export interface Layout {
  readonly name: string;
  /** Where the parameter at `path` lies. */
  stored(model: VisionModel, path: string, shape: Shape): Stored;
}

export interface VisionFamily {
  readonly name: string;
  /** As the `model_type` of `config.json` names it. */
  readonly modelType: string;
  /** As its `architectures` name it, those that can be opened; the first where the file names none. */
  readonly architectures: readonly string[];
  /** The layouts that its checkpoints have; of a new model the first. */
  readonly layouts: readonly Layout[];
  /** The model that a `config.json` describes. */
  open(json: Json, architecture: string, path: string, options: LayerOptions): VisionModel;
  /** What of `config.json` follows from a model. */
  write(model: VisionModel): Json;
  /** The architecture of a model that was not opened from a folder. */
  architectureOf(model: VisionModel): string;
  /** What transformers calls a parameter in memory, from the name that the checkpoint has. */
  pythonName?(name: string): string;
  /** Names that checkpoints may have and the model does not need. */
  readonly ignored?: RegExp;
}

/** Files beside the weights as they were read: saved again as they are, so long as they still tell the truth. */
export interface Source {
  readonly config: string;
  /** `preprocessor_config.json`. */
  readonly processor?: string;
  /** Names of the file of weights and of that of the configuration. */
  readonly files?: { readonly config: string; readonly weights: string };
}

/** A model that has a family. */
export abstract class VisionModel extends Module {
  abstract readonly config: object;
  abstract readonly family: VisionFamily;
  /** The class of transformers that it was opened as; null of a new model. */
  architecture: string | null = null;
  layout = 0;
  source: Source | null = null;
}

/** What an encoder makes of pictures. */
export interface Encoded {
  /** [batch, tokens, features], or [batch, features, rows, columns] of convolutional models. */
  readonly states: Tensor;
  /** [batch, features]: what the classifier reads, or the pooled features. */
  readonly pooled: Tensor;
}

export interface EncodeOptions {
  /** Whether batch norms take the batch's statistics. Default false. */
  training?: boolean;
}

/** A model of single pictures. */
export abstract class ImageModel extends VisionModel {
  abstract override readonly config: ImageConfig;
  abstract readonly classifier: Linear | null;

  /** Pixels [batch, channels, height, width], normalized, to features. */
  abstract encode(pixels: Tensor, options?: EncodeOptions): Encoded;

  /** Logits [batch, classes], or the pooled features of a model without a classifier. */
  forward(pixels: Tensor, options?: EncodeOptions): Tensor {
    const { pooled } = this.encode(pixels, options);
    return this.classifier === null ? pooled : this.classifier.forward(pooled);
  }
}

export type Rules = readonly (readonly [RegExp, string])[];

/** A path of ours as a checkpoint's name. */
export function renamed(path: string, rules: Rules): string {
  return rules.reduce((name, [from, to]) => name.replace(from, to), checkpointName(path));
}

/** A layout by names alone, with other shapes for some. */
export function layoutOf(
  rules: (model: VisionModel) => Rules,
  shapes: readonly (readonly [RegExp, (shape: Shape) => Shape])[] = [],
  name = "huggingface",
): Layout {
  return {
    name,
    stored(model, path, shape) {
      const other = shapes.find(([pattern]) => pattern.test(path))?.[1](shape);
      return {
        names: [renamed(path, rules(model))],
        stacked: false,
        transposed: false,
        ...(other !== undefined && { shape: other }),
      };
    },
  };
}
