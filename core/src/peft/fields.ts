/** Fields of `adapter_config.json` that all methods have, and what is made of those that count. */
import { CheckpointError } from "../checkpoint/errors.js";
import type { Module } from "../nn/module.js";

export type Json = Record<string, unknown>;

/** The fields that every method has. */
export function common(method: string, model: Module): Json {
  return {
    auto_mapping: null,
    base_model_name_or_path: baseOf(model),
    inference_mode: true,
    peft_type: method,
    revision: null,
    task_type: (model as { family?: unknown }).family === undefined ? null : "CAUSAL_LM",
  };
}

/** The folder or name of the model that was adapted, as its configuration says; PEFT opens it by that. */
function baseOf(model: Module): string | null {
  const { source } = model as { source?: Json | null };
  return typeof source?._name_or_path === "string" ? source._name_or_path : null;
}

/** How a field of a configuration counts here. */
export type Rule = "read" | "ignored" | ((value: unknown) => boolean);

export const empty = (value: unknown): boolean =>
  value === null ||
  value === undefined ||
  value === false ||
  (typeof value === "object" && Object.keys(value as object).length === 0);

export const everywhere: Readonly<Record<string, Rule>> = {
  auto_mapping: "ignored",
  base_model_name_or_path: "ignored",
  inference_mode: "ignored",
  peft_type: "read",
  peft_version: "ignored",
  revision: "ignored",
  task_type: "ignored",
  modules_to_save: "read",
};

/** @throws CheckpointError for what would be computed otherwise here */
export function checkConfig(path: string, json: Json, known: Readonly<Record<string, Rule>>): void {
  for (const [field, value] of Object.entries(json)) {
    const rule = known[field] ?? empty;
    if (typeof rule === "string" || rule(value)) continue;
    throw new CheckpointError(
      `${path}: ${field} is ${JSON.stringify(value)}, which cannot be computed here`,
      "merge the adapter in Python (merge_and_unload), and load the merged model",
    );
  }
}
