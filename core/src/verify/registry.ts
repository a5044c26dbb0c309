/** The architectures and adapters that can be opened, of every domain: a domain registers by an entry here. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError } from "../checkpoint/errors.js";
import { families } from "../models/llm/pretrained.js";
import { openLanguageModel } from "./language-models.js";
import type { Adapter, Architecture } from "./verifiable.js";

export const architectures: readonly Architecture[] = [
  ...families.map(({ architecture, modelType }) => ({
    name: architecture,
    modelType,
    open: openLanguageModel,
  })),
];

/** None yet: LoRA and the like come with fine-tuning. */
export const adapters: readonly Adapter[] = [];

/** @throws CheckpointError with the list of what is there */
export function architectureOf(folder: string): Architecture {
  const path = join(folder, "config.json");
  const config = readObject(path, "give a folder that transformers' or diffusers' save_pretrained wrote");
  const { architectures: named, _class_name: className, model_type: modelType } = config;
  const name = (Array.isArray(named) ? named[0] : undefined) ?? className;
  const found = architectures.find((each) =>
    name === undefined ? each.modelType === modelType : each.name === name,
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
    adapters.length === 0
      ? "no adapter can be opened yet: merge it in Python (merge_and_unload) and verify the merged model"
      : `those that can be opened: ${adapters.map(({ name }) => name).join(", ")}`,
  );
}

/** A file that holds a JSON object. */
export function readObject(path: string, fix: string): Record<string, unknown> {
  if (!existsSync(path)) throw new CheckpointError(`there is no ${path}`, fix);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new CheckpointError(`${path} cannot be read: ${(error as Error).message}`, fix, { cause: error });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new CheckpointError(`${path} holds no JSON object`, fix);
}
