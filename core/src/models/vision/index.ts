import { clipConfigs } from "./clip.js";
import { convNextConfigs } from "./convnext.js";
import { dinov2Configs } from "./dinov2.js";
import { resNetConfigs } from "./resnet.js";
import { siglipConfigs } from "./siglip.js";
import { swinConfigs } from "./swin.js";
import { vitConfigs } from "./vit.js";

export { Clip, type ClipConfig, type ClipVisionConfig, clip, type TextConfig } from "./clip.js";
export type { ImageConfig, PatchConfig, TransformerConfig } from "./config.js";
export { ConvNextV2, type ConvNextV2Config, convNextV2 } from "./convnext.js";
export { Dinov2, type Dinov2Config, dinov2 } from "./dinov2.js";
export { DualEncoder, type PairBatch, unit } from "./dual.js";
export { type Encoded, type EncodeOptions, ImageModel, VisionModel } from "./family.js";
export { Mae, type MaeConfig, mae, type Reconstruction } from "./mae.js";
export { load, save, type VisionLoadOptions, type VisionSaveOptions, withClasses } from "./pretrained.js";
export { layerwiseRates, nearestNeighbours, zeroShot } from "./readout.js";
export { ResNet, type ResNetConfig, resNet } from "./resnet.js";
export { Siglip, type SiglipConfig, siglip } from "./siglip.js";
export { type FlexibleBatch, Siglip2, type Siglip2Config, siglip2 } from "./siglip2.js";
export { Swin, type SwinConfig, swin } from "./swin.js";
export { deit, VisionTransformer, type VitConfig, vit } from "./vit.js";

/** Named sizes of every family, each for the function of its family. */
export const configs = {
  ...vitConfigs,
  ...dinov2Configs,
  ...clipConfigs,
  ...siglipConfigs,
  ...convNextConfigs,
  ...resNetConfigs,
  ...swinConfigs,
};
