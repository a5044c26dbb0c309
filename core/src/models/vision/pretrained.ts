/** Vision checkpoints in the layouts of Hugging Face, timm and OpenCLIP: straight from the disk to the devices, and the same bytes back. */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Key } from "../../array/random.js";
import { CheckpointError } from "../../checkpoint/errors.js";
import { listFiles } from "../../checkpoint/pieces.js";
import { replaceFileSync } from "../../files/atomic.js";
import { ArgumentError } from "../../graph/errors.js";
import type { Mesh } from "../../graph/mesh.js";
import { initialize, isUndrawn } from "../../nn/module.js";
import type { LayerOptions } from "../../nn/stack.js";
import type { Rules } from "../../sharding/rules.js";
import { flatten, mapNamed, named } from "../../transform/tree.js";
import { refuseChanged } from "../pretrained/changes.js";
import { type Json, modelFolder, readJson, weightsIn } from "../pretrained/folders.js";
import { jsonText, type Listed, loadWeights, saveWeights } from "../pretrained/weights.js";
import { Clip, clipFamily } from "./clip.js";
import { writeClasses } from "./config.js";
import { convNextV2Family } from "./convnext.js";
import { dinov2Family, dinov2RegistersFamily } from "./dinov2.js";
import { type ImageModel, type Layout, type Source, type VisionFamily, VisionModel } from "./family.js";
import { maeFamily } from "./mae.js";
import { openClipConfig } from "./open-clip.js";
import { resNetFamily } from "./resnet.js";
import { siglipFamily } from "./siglip.js";
import { siglip2Family } from "./siglip2.js";
import { swinFamily } from "./swin.js";
import { isTimmVit, timmConfig } from "./timm.js";
import { deitFamily, VisionTransformer, vitFamily } from "./vit.js";

/** Those that can be opened. */
export const visionFamilies: readonly VisionFamily[] = [
  vitFamily,
  deitFamily,
  dinov2Family,
  dinov2RegistersFamily,
  maeFamily,
  clipFamily,
  siglipFamily,
  siglip2Family,
  convNextV2Family,
  resNetFamily,
  swinFamily,
];

export interface VisionLoadOptions extends LayerOptions {
  /** Element type of the parameters. Default the file's own. */
  dtype?: "float32" | "bfloat16" | "float16";
  /** Devices to spread the parameters over: each reads its part. Default whole on the first device. */
  mesh?: Mesh;
  /** Which mesh axes split the logical axes of the parameters. Default `defaultRules`. */
  rules?: Rules;
}

const openClipFiles = { config: "open_clip_config.json", weights: "open_clip_model.safetensors" };
const processorFile = "preprocessor_config.json";

/**
 * Opens a checkpoint folder: Hugging Face's `config.json` and `model.safetensors` (or several files and their index), timm's of plain Vision
 * Transformers, or OpenCLIP's `open_clip_config.json` and `open_clip_model.safetensors`. The architecture that the configuration names decides
 * the family. The parameters go from the disk to the devices without passing through this process.
 *
 * @throws CheckpointError with the names that are missing, unexpected or have another shape, or what cannot be computed
 */
export async function load(folder: string, options: VisionLoadOptions = {}): Promise<VisionModel> {
  const { dtype, mesh, rules, ...execution } = options;
  if (dtype !== undefined && !["float32", "bfloat16", "float16"].includes(dtype))
    throw new ArgumentError(`load: dtype is ${String(dtype)}`, "give float32, bfloat16 or float16");
  const openClip = typeof folder === "string" && existsSync(join(folder, openClipFiles.config));
  const at = openClip ? folder : await modelFolder(folder);
  const path = join(at, openClip ? openClipFiles.config : "config.json");
  const weights = openClip ? openClipWeights(at) : weightsIn(at);
  const { json, text } = readJson(path);
  const tensors = await listFiles(weights);
  const model = opened(json, path, tensors, execution);
  const processor = join(at, processorFile);
  model.source = {
    config: text,
    ...(existsSync(processor) && { processor: readFileSync(processor, "utf8") }),
    ...(openClip && { files: openClipFiles }),
  };
  const flat = flatten(model);
  const stored = flat.paths.map((p, i) => layoutIn(model).stored(model, p, flat.leaves[i]!.shape));
  const { ignored } = model.family;
  return loadWeights(model, weights, stored, {
    ...{ folder: at, tensors, dtype, mesh, rules },
    ignores: (name) => ignored?.test(name) === true,
  });
}

/** Whether a folder is timm's or OpenCLIP's, of such as can be opened. */
export function isForeign(folder: string): boolean {
  if (existsSync(join(folder, openClipFiles.config))) return true;
  const path = join(folder, "config.json");
  return existsSync(path) && isTimmVit(readJson(path).json);
}

function openClipWeights(folder: string): string {
  const path = join(folder, openClipFiles.weights);
  if (existsSync(path)) return path;
  throw new CheckpointError(
    `load: ${folder} has ${openClipFiles.config} but no ${openClipFiles.weights}`,
    "fetch the safetensors file too",
  );
}

/** How the checkpoints of a model name its parameters. */
export function layoutIn(model: VisionModel): Layout {
  return model.family.layouts[model.layout]!;
}

/** The model that a configuration describes, in the layout that the tensors have. */
function opened(json: Json, path: string, tensors: Listed, execution: LayerOptions): VisionModel {
  try {
    if (path.endsWith(openClipFiles.config))
      return inLayout(new Clip(openClipConfig(json, path), execution), 1);
    if (isTimmVit(json))
      return inLayout(new VisionTransformer(timmConfig(json, tensors, path), execution), 1);
    const { family, architecture } = architectureIn(json, path);
    const model = family.open(json, architecture, path, execution);
    model.architecture = architecture;
    const names = (layout: Layout): string[] =>
      [...named(model)].flatMap(([p, { shape }]) => layout.stored(model, p, shape).names);
    const fits = family.layouts.findIndex((layout) => names(layout).every((name) => tensors.has(name)));
    return inLayout(model, Math.max(0, fits));
  } catch (error) {
    if (!(error instanceof ArgumentError) || error instanceof CheckpointError) throw error;
    throw new CheckpointError(`${path}: ${error.message}`, error.fix ?? "correct the file", { cause: error });
  }
}

function inLayout<M extends VisionModel>(model: M, layout: number): M {
  model.layout = layout;
  return model;
}

function architectureIn(json: Json, path: string): { family: VisionFamily; architecture: string } {
  const [first] = Array.isArray(json.architectures) ? (json.architectures as unknown[]) : [];
  const family = visionFamilies.find((each) =>
    first === undefined ? each.modelType === json.model_type : each.architectures.includes(String(first)),
  );
  if (family !== undefined) return { family, architecture: String(first ?? family.architectures[0]) };
  throw new CheckpointError(
    `${path}: the architecture is ${String(first ?? json.architecture ?? json.model_type ?? "not named")}`,
    `those that can be opened: ${visionFamilies.flatMap((each) => each.architectures).join(", ")}, timm's vit_*_patch*_* and OpenCLIP's`,
  );
}

export interface VisionSaveOptions {
  /** Bytes of parameters above which they are divided into several files with an index. Default 5 GB. */
  maxFileBytes?: number;
}

/** Fields that transformers refuses as integers. */
const floats = [
  ...["attention_dropout", "attention_probs_dropout_prob", "drop_path_rate", "hidden_dropout_prob"],
  ...["initializer_factor", "initializer_range", "layer_norm_eps", "layerscale_value"],
  ...["logit_scale_init_value", "mask_ratio"],
];

/**
 * Writes a model as the files that it can be opened from again, in the layout that it was opened from, else in Hugging Face's. The
 * configuration of a model that is as it was opened is written as it was read, and with it the processor's.
 *
 * @throws CheckpointError if the model was changed such that its configuration could not make it again
 */
export async function save(
  model: VisionModel,
  folder: string,
  { maxFileBytes = 5e9 }: VisionSaveOptions = {},
): Promise<void> {
  if (!(model instanceof VisionModel) || typeof folder !== "string")
    throw new ArgumentError("save: the arguments are no vision model and folder", "call save(model, folder)");
  if (!(maxFileBytes > 0))
    throw new ArgumentError(`save: maxFileBytes is ${maxFileBytes}`, "give a positive number of bytes");
  const files = model.source?.files ?? { config: "config.json", weights: "model.safetensors" };
  const like = remade(model);
  refuseChanged(model, like, { name: model.family.name, fields: [], call: "save" });
  mkdirSync(folder, { recursive: true });
  const layout = layoutIn(model);
  await saveWeights(model, folder, (path, shape) => layout.stored(model, path, shape), {
    maxFileBytes,
    file: files.weights,
  });
  const { source } = model;
  if (source?.processor !== undefined) replaceFileSync(join(folder, processorFile), source.processor);
  replaceFileSync(join(folder, files.config), configTextOf(model, source));
}

/** A model of the same class and configuration. */
function remade(model: VisionModel): VisionModel {
  const { family } = model;
  if (layoutIn(model).name !== "huggingface") {
    const options = {};
    return model instanceof Clip
      ? new Clip(model.config, options)
      : new VisionTransformer((model as VisionTransformer).config, options);
  }
  const architecture = model.architecture ?? family.architectureOf(model);
  return family.open(family.write(model), architecture, "config.json", {});
}

function configTextOf(model: VisionModel, source: Source | null): string {
  const { family } = model;
  const [first] = named(model).values();
  const dtype =
    [...named(model).values()].find((each) => each.dtype.includes("float"))?.dtype ?? first!.dtype;
  const written = family.write(model);
  if (source === null || layoutIn(model).name !== "huggingface") {
    if (source !== null) return source.config;
    const architecture = model.architecture ?? family.architectureOf(model);
    return jsonText(
      { architectures: [architecture], model_type: family.modelType, ...written, dtype },
      floats,
    );
  }
  const json = JSON.parse(source.config) as Json;
  // What the configuration said when the model was opened.
  const before = family.write(family.open(json, model.architecture!, "config.json", {}));
  const changed = Object.entries(written).filter(
    ([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name]),
  );
  const kept = (json.dtype ?? json.torch_dtype ?? dtype) === dtype;
  if (changed.length === 0 && kept) return source.config;
  delete json.torch_dtype;
  for (const [name, value] of changed)
    json[name] = /_config$/.test(name) ? { ...(json[name] as Json | undefined), ...(value as Json) } : value;
  return jsonText({ ...json, dtype }, floats);
}

/**
 * A model with a fresh classifier over other classes, to fine-tune: all else is shared with the one that is given, which may have none.
 *
 * @param classes - their number, or their names
 * @param seed - of the classifier's first weights. Default 0
 */
export function withClasses<M extends ImageModel>(
  model: M,
  classes: number | readonly string[],
  seed: Key | number = 0,
): M {
  const { family } = model;
  const architecture = family.architectures.find((name) => name.endsWith("ForImageClassification"));
  if (architecture === undefined)
    throw new ArgumentError(
      `withClasses: a ${family.name} has no classifier`,
      `those that have: ${visionFamilies
        .filter(({ architectures }) => architectures.some((name) => name.endsWith("ForImageClassification")))
        .map(({ name }) => name)
        .join(", ")}`,
    );
  const wanted = typeof classes === "number" ? { classes } : { classes: classes.length, labels: classes };
  const json = { ...family.write(model), ...writeClasses(wanted) };
  const fresh = family.open(json, architecture, "withClasses", {}) as M;
  const kept = named(model);
  const isHead = (path: string): boolean => /^(classifier|distillationClassifier)\./.test(path);
  const filled = mapNamed((leaf, path) => (isHead(path) ? leaf : (kept.get(path) ?? leaf)), fresh);
  return initialize(filled, seed, undefined, isUndrawn);
}
