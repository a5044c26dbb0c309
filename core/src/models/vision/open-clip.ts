/** CLIP as OpenCLIP names it. */
import { CheckpointError } from "../../checkpoint/errors.js";
import type { Json } from "../pretrained/folders.js";
import type { ClipConfig } from "./clip.js";
import { type Layout, type Rules, renamed } from "./family.js";

const rules: Rules = [
  [/^vision\.embeddings\.class_token$/, "visual.class_embedding"],
  [/^vision\.embeddings\.positions$/, "visual.positional_embedding"],
  [/^vision\.embeddings\.patches\./, "visual.conv1."],
  [/^vision\.pre_norm\./, "visual.ln_pre."],
  [/^vision\.norm\./, "visual.ln_post."],
  [/^vision\.layers\./, "visual.transformer.resblocks."],
  [/^vision_projection\.weight$/, "visual.proj"],
  [/^text\.tokens\./, "token_embedding."],
  [/^text\.positions\.weight$/, "positional_embedding"],
  [/^text\.norm\./, "ln_final."],
  [/^text\.layers\./, "transformer.resblocks."],
  [/^text_projection\.weight$/, "text_projection"],
  [/\.attention\.[qkv]_proj\.(weight|bias)$/, ".attn.in_proj_$1"],
  [/\.attention\.out_proj\./, ".attn.out_proj."],
  [/\.norm([12])\./, ".ln_$1."],
  [/\.mlp\.up_proj\./, ".mlp.c_fc."],
  [/\.mlp\.down_proj\./, ".mlp.c_proj."],
];

export const openClipLayout: Layout = {
  name: "openclip",
  stored(_model, path) {
    const [, letter] = /\.attention\.([qkv])Proj\./.exec(path) ?? [];
    return {
      names: [renamed(path, rules)],
      stacked: false,
      transposed: /^(vision|text)Projection\.weight$/.test(path),
      ...(letter !== undefined && { part: { index: "qkv".indexOf(letter), of: 3 } }),
    };
  },
};

/** The configuration of an `open_clip_config.json`. */
export function openClipConfig(json: Json, path: string): ClipConfig {
  const { embed_dim: projection, vision_cfg, text_cfg, quick_gelu } = (json.model_cfg ?? {}) as Json;
  const [vision, text] = [vision_cfg, text_cfg] as [Json | undefined, Json | undefined];
  const known = {
    vision_cfg: ["image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"],
    text_cfg: ["context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"],
  };
  for (const [name, section] of Object.entries({ vision_cfg: vision, text_cfg: text })) {
    const odd = Object.keys(section ?? {}).filter(
      (field) => !known[name as keyof typeof known].includes(field),
    );
    if (section !== undefined && !Array.isArray(section.layers) && odd.length === 0) continue;
    throw new CheckpointError(
      section === undefined
        ? `${path} has no model_cfg.${name}`
        : `${path}: ${name} has ${odd.join(", ") || "stages"}`,
      `only a ViT and a text transformer with ${known[name as keyof typeof known].join(", ")} can be computed yet`,
    );
  }
  const sizes = (section: Json) => ({
    hiddenSize: section.width as number,
    intermediateSize: Math.trunc(
      (section.width as number) * ((section.mlp_ratio as number | undefined) ?? 4),
    ),
    layers: section.layers as number,
    activation: quick_gelu === true ? ("quickGelu" as const) : ("gelu" as const),
  });
  const v: Json = { width: 768, layers: 12, head_width: 64, patch_size: 16, image_size: 224, ...vision };
  const t: Json = { width: 512, layers: 12, heads: 8, context_length: 77, vocab_size: 49_408, ...text };
  return {
    projection: projection as number,
    vision: {
      ...sizes(v),
      heads: Math.floor((v.width as number) / (v.head_width as number)),
      imageSize: v.image_size as number,
      patchSize: v.patch_size as number,
    },
    text: {
      ...sizes(t),
      heads: t.heads as number,
      vocabSize: t.vocab_size as number,
      maxPositions: t.context_length as number,
      // It takes the greatest token of a text for its end.
      endId: 2,
    },
  };
}
