/** Vision models as transformers computes them, for `verify`. */
import { notEqual } from "../array/elementwise.js";
import { slice } from "../array/indexing.js";
import { expandDims, transpose } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { CheckpointError } from "../checkpoint/errors.js";
import { storedTensors } from "../models/pretrained/weights.js";
import { ConvNextV2 } from "../models/vision/convnext.js";
import { Dinov2 } from "../models/vision/dinov2.js";
import { DualEncoder } from "../models/vision/dual.js";
import { ImageModel, type VisionModel } from "../models/vision/family.js";
import { Mae } from "../models/vision/mae.js";
import { layoutIn, load } from "../models/vision/pretrained.js";
import { Siglip2 } from "../models/vision/siglip2.js";
import { VisionTransformer } from "../models/vision/vit.js";
import { crossEntropy } from "../nn/losses.js";
import { parameterSpecs } from "../nn/module.js";
import type { Alias, Computed, HostArray, Verifiable } from "./verifiable.js";

type Given = Readonly<Record<string, Tensor>>;

export async function openVisionModel(folder: string): Promise<Verifiable<VisionModel>> {
  const model = await load(folder, { dtype: "float32" });
  const { inputs, needed, compute } = kindOf(model);
  return {
    model,
    inputs,
    ways(given: ReadonlyMap<string, HostArray>) {
      const missing = needed.filter((name) => !given.has(name));
      if (missing.length > 0)
        throw new CheckpointError(
          `the reference's input.${missing[0]} is missing`,
          `save all that the model was given: ${needed.join(", ")}`,
        );
      checkLabels(model, given.get("labels"));
      return [{ name: "as torch", compute: (m, tensors) => compute(m as never, tensors) }];
    },
    stored: parametersOf,
    aliases,
  };
}

interface Kind<M> {
  readonly inputs: readonly string[];
  readonly needed: readonly string[];
  compute(model: M, given: Given): Computed;
}

function kindOf(model: VisionModel): Kind<never> {
  const found: Kind<VisionModel> | undefined =
    model instanceof Mae
      ? (autoencoder as Kind<VisionModel>)
      : model instanceof DualEncoder
        ? (pairs(model) as Kind<VisionModel>)
        : model instanceof ImageModel
          ? (images as Kind<VisionModel>)
          : undefined;
  if (found === undefined) throw new CheckpointError(`a ${model.family.name} cannot be verified`);
  return found as unknown as Kind<never>;
}

const images: Kind<ImageModel> = {
  inputs: ["pixel_values", "labels"],
  needed: ["pixel_values"],
  compute(model, { pixel_values: pixels, labels }): Computed {
    if (model.classifier === null) {
      const { states, pooled } = model.encode(pixels!);
      // DINOv2's is the token itself, others' what their layer makes of it; convolutional ones keep their axes.
      const kept = states.ndim === 4 && !(model instanceof ConvNextV2);
      return {
        outputs: { last_hidden_state: states, pooler_output: kept ? expandDims(pooled, [2, 3]) : pooled },
      };
    }
    if (model instanceof VisionTransformer && model.distillationClassifier !== null) {
      const { own, teacher } = model.bothLogits(pixels!);
      return { outputs: { logits: model.forward(pixels!), cls_logits: own, distillation_logits: teacher } };
    }
    const logits = model.forward(pixels!);
    return { outputs: { logits }, ...(labels !== undefined && { loss: crossEntropy(logits, labels) }) };
  },
};

const autoencoder: Kind<Mae> = {
  inputs: ["pixel_values", "noise"],
  needed: ["pixel_values", "noise"],
  compute(model, { pixel_values: pixels, noise }) {
    const found = model.reconstruct(pixels!, noise!);
    return { outputs: { logits: found.patches, mask: found.mask }, loss: model.errorOf(pixels!, found) };
  },
};

function pairs(of: DualEncoder): Kind<DualEncoder> {
  const flexible = of instanceof Siglip2 ? ["pixel_attention_mask", "spatial_shapes"] : [];
  return {
    inputs: ["pixel_values", "input_ids", "attention_mask", ...flexible],
    needed: ["pixel_values", "input_ids", ...flexible],
    compute(model, given) {
      const { pixel_values: pixels, input_ids: tokens, attention_mask: padding } = given;
      const mask = padding && notEqual(padding, 0);
      const { image, text } =
        model instanceof Siglip2
          ? model.embed({
              patches: pixels!,
              mask: given.pixel_attention_mask!,
              shapes: given.spatial_shapes!,
              tokens: tokens!,
            })
          : model.embed({ pixels: pixels!, tokens: tokens!, ...(mask !== undefined && { mask }) });
      const logits = model.similarity({ image, text });
      return {
        outputs: {
          logits_per_image: logits,
          logits_per_text: transpose(logits),
          image_embeds: image,
          text_embeds: text,
        },
        ...(logits.shape[0] === logits.shape[1] && { loss: model.pairLoss(logits) }),
      };
    },
  };
}

function checkLabels(model: VisionModel, labels: HostArray | undefined): void {
  if (labels === undefined || !(model instanceof ImageModel)) return;
  const { classes } = model.config;
  const wrong = Array.from(labels.data, Number).find((label) => !(label >= 0 && label < (classes ?? 0)));
  if (wrong !== undefined)
    throw new CheckpointError(
      `the reference's input.labels holds ${wrong}`,
      `the model has ${classes ?? "no"} classes: give labels from 0 to ${(classes ?? 0) - 1}`,
    );
}

/** What is trained of a tree of the model's structure, by the names that its checkpoint has. */
function parametersOf(tree: VisionModel): Map<string, Tensor> {
  const layout = layoutIn(tree);
  const found = storedTensors(tree, (path, shape) => layout.stored(tree, path, shape));
  for (const [path, { kind, shape }] of parameterSpecs(tree))
    if (kind === "buffer") for (const name of layout.stored(tree, path, shape).names) found.delete(name);
  return found;
}

/** Names that torch's parameters have in memory where the checkpoint's are others. */
function aliases(tree: VisionModel): Map<string, Alias> {
  const found = new Map<string, Alias>();
  const { pythonName } = tree.family;
  for (const [name, tensor] of parametersOf(tree)) {
    const inMemory = pythonName?.(name) ?? name;
    if (inMemory !== name) found.set(inMemory, { covers: [name], tensor: () => tensor });
    const gated = /^(.*\.mlp)\.weights_in\.(weight|bias)$/.exec(name);
    if (gated === null || !(tree instanceof Dinov2)) continue;
    // Two layers in memory, one after the other in the checkpoint.
    const half = tensor.shape[0]! / 2;
    for (const [i, part] of ["gate_proj", "up_proj"].entries())
      found.set(`${gated[1]}.${part}.${gated[2]}`, {
        covers: [name],
        tensor: () => slice(tensor, [i * half, (i + 1) * half]),
      });
  }
  return found;
}
