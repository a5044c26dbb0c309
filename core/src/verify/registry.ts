/** The architectures and adapters that can be opened, of every domain: a domain registers by an entry here. */
import { join } from "node:path";
import { CheckpointError } from "../checkpoint/errors.js";
import { readObject } from "../checkpoint/read-object.js";
import { families } from "../models/llm/pretrained.js";
import { isForeign, visionFamilies } from "../models/vision/pretrained.js";
import { adapterTypes } from "../peft/save.js";
import { openAdapter } from "./adapters.js";
import { openLanguageModel } from "./language-models.js";
import type { Adapter, Architecture } from "./verifiable.js";
import { openVisionModel } from "./vision-models.js";

export const architectures: readonly Architecture[] = [
  ...families.map(({ architecture, modelType }) => ({
    name: architecture,
    modelType,
    open: openLanguageModel,
  })),
  ...visionFamilies.flatMap(({ architectures: names, modelType }) =>
    names.map((name) => ({ name, modelType, open: openVisionModel })),
  ),
  { name: "timm's vit_*_patch*_*, OpenCLIP's", recognizes: isForeign, open: openVisionModel },
];

/** Those of PEFT, and what is kept in its form. */
export const adapters: readonly Adapter[] = adapterTypes.map((name) => ({ name, open: openAdapter }));

/** @throws CheckpointError with the list of what is there */
export function architectureOf(folder: string): Architecture {
  const foreign = architectures.find((each) => each.recognizes?.(folder) === true);
  if (foreign !== undefined) return foreign;
  const path = join(folder, "config.json");
  const config = readObject(path, "give a folder that transformers' or diffusers' save_pretrained wrote");
  const { architectures: named, _class_name: className, model_type: modelType } = config;
  const name = (Array.isArray(named) ? named[0] : undefined) ?? className;
  const found = architectures.find((each) =>
    name === undefined ? modelType !== undefined && each.modelType === modelType : each.name === name,
  );
  if (found !== undefined) return found;
  throw new CheckpointError(
    `${path}: the architecture is ${String(name ?? modelType ?? "not named")}`,
    `those that can be opened: ${architectures.map((each) => each.name).join(", ")}`,
  );
}

/** @throws CheckpointError with the list of what is there */
export function adapterOf(folder: string): Adapter {
  const path = join(folder, "adapter_config.json");
  const { peft_type: type } = readObject(path, "give a folder that PEFT's save_pretrained wrote");
  const found = adapters.find(({ name }) => name === type);
  if (found !== undefined) return found;
  throw new CheckpointError(
    `${path}: the adapter is ${String(type ?? "not named")}`,
    `those that can be opened: ${adapters.map(({ name: known }) => known).join(", ")}; of others merge_and_unload in Python, and verify the merged model`,
  );
}
