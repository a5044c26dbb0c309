/** Vision Transformers as timm names them: queries, keys and values in one tensor. */

import { CheckpointError } from "../../checkpoint/errors.js";
import type { Json } from "../pretrained/folders.js";
import type { Listed } from "../pretrained/weights.js";
import { type Layout, type Rules, renamed } from "./family.js";
import type { VitConfig } from "./vit.js";

const rules: Rules = [
  [/^tower\.embeddings\.class_token$/, "cls_token"],
  [/^tower\.embeddings\.positions$/, "pos_embed"],
  [/^tower\.embeddings\.patches\./, "patch_embed.proj."],
  [/^tower\.layers\./, "blocks."],
  [/^tower\.norm\./, "norm."],
  [/\.attention\.[qkv]_proj\./, ".attn.qkv."],
  [/\.attention\.out_proj\./, ".attn.proj."],
  [/\.mlp\.up_proj\./, ".mlp.fc1."],
  [/\.mlp\.down_proj\./, ".mlp.fc2."],
  [/^classifier\./, "head."],
];

export const timmLayout: Layout = {
  name: "timm",
  stored(_model, path, shape) {
    const [, letter] = /\.attention\.([qkv])Proj\./.exec(path) ?? [];
    const lead = path.endsWith("classToken") ? 2 : path.endsWith("positions") ? 1 : 0;
    return {
      names: [renamed(path, rules)],
      stacked: false,
      transposed: false,
      ...(letter !== undefined && { part: { index: "qkv".indexOf(letter), of: 3 } }),
      ...(lead > 0 && { shape: [...new Array<number>(lead).fill(1), ...shape] }),
    };
  },
};

/** Whether a `config.json` is timm's of a plain Vision Transformer. */
export function isTimmVit(json: Json): boolean {
  return /^vit_(tiny|small|base|large|huge)_patch\d+_\d+$/.test(String(json.architecture));
}

/** What timm knows by its code, of the model that the tensors have the sizes of. */
export function timmConfig(json: Json, tensors: Listed, path: string): VitConfig {
  const shape = (name: string): readonly number[] => {
    const found = tensors.get(name)?.shape;
    if (found !== undefined) return found;
    throw new CheckpointError(`${path}: a timm ViT without ${name}`, "give a folder with all its files");
  };
  const projection = shape("patch_embed.proj.weight");
  const [hiddenSize, channels, patchSize] = projection as [number, number, number];
  const places = shape("pos_embed")[1]! - 1;
  const layers = new Set([...tensors.keys()].flatMap((name) => /^blocks\.(\d+)\./.exec(name)?.[1] ?? []))
    .size;
  const given = (json.model_args ?? {}) as { num_heads?: number; init_values?: unknown };
  const refused = Object.keys(given).filter((name) => !timmArguments.includes(name));
  if (refused.length > 0)
    throw new CheckpointError(
      `${path}: model_args has ${refused.join(", ")}`,
      `only ${timmArguments.join(", ")} can be computed yet`,
    );
  // Of its ViTs only that of patches of 14 has other heads than of 64 features.
  const heads = given.num_heads ?? (hiddenSize === 1280 ? 16 : hiddenSize / 64);
  return {
    imageSize: patchSize * Math.round(Math.sqrt(places)),
    patchSize,
    channels,
    hiddenSize,
    intermediateSize: shape("blocks.0.mlp.fc1.weight")[0]!,
    layers,
    heads,
    normEpsilon: 1e-6,
    ...(tensors.has("head.weight") && { classes: shape("head.weight")[0]! }),
  };
}

const timmArguments = [
  "img_size",
  "patch_size",
  "in_chans",
  "num_classes",
  "embed_dim",
  "depth",
  "num_heads",
  "mlp_ratio",
];
