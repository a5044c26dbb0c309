/** What was done to a model after it was made, as far as its checkpoints can tell. */
import { Tensor } from "../../array/tensor.js";
import { CheckpointError } from "../../checkpoint/errors.js";
import { isFloat } from "../../graph/dtype.js";
import { Module } from "../../nn/module.js";
import { flatten } from "../../transform/tree.js";

/**
 * Refuses a model of which one that is made of its configuration would not have the same parameters, or would compute something else with them.
 *
 * @param like - the model that the saved configuration makes
 * @param fields - those that make the model, beside what holds Tensors: its configuration and the like may say more than that of a fresh one
 * @throws CheckpointError with the fields that differ
 */
export function refuseChanged(
  model: Module,
  like: Module,
  { name, fields, call }: { name: string; fields: readonly string[]; call: string },
): void {
  const changes: string[] = [];
  for (const field of new Set([...Object.keys(like), ...Object.keys(model)])) {
    const [found, wanted] = [model, like].map((each) => (each as unknown as Record<string, unknown>)[field]);
    if (fields.includes(field) || holdsTensors(found) || holdsTensors(wanted))
      compare(found, wanted, field, changes);
  }
  if (changes.length === 0) return;
  const shown = changes.slice(0, 5).join("; ");
  throw new CheckpointError(
    `${call}: a ${name} could not be opened again as this model: ${shown}${changes.length > 5 ? `; and ${changes.length - 5} more` : ""}`,
    "bring the model into the family's form first (what a replaced layer computes goes into its weight), or keep its tensors with checkpoint.saveTree, to be opened with checkpoint.loadTree",
  );
}

function compare(found: unknown, wanted: unknown, path: string, changes: string[]): void {
  if (found instanceof Tensor && wanted instanceof Tensor) {
    if (found.shape.join() !== wanted.shape.join())
      changes.push(
        `${path} is [${found.shape.join(", ")}], the configuration says [${wanted.shape.join(", ")}]`,
      );
    else if (isFloat(wanted.dtype) && !isFloat(found.dtype)) changes.push(`${path} is ${found.dtype}`);
    return;
  }
  if (found instanceof Module && wanted instanceof Module && found.constructor === wanted.constructor) {
    const fields = found as unknown as Record<string, unknown>;
    for (const [name, value] of Object.entries(wanted))
      compare(fields[name], value, `${path}.${name}`, changes);
    for (const [name, value] of Object.entries(found))
      if (!(name in wanted) && holdsTensors(value)) changes.push(`${path}.${name} is ${kindOf(value)} more`);
    return;
  }
  if (Array.isArray(found) && Array.isArray(wanted)) {
    if (found.length !== wanted.length)
      changes.push(`${path} holds ${found.length}, the configuration says ${wanted.length}`);
    else for (const [i, value] of wanted.entries()) compare(found[i], value, `${path}.${i}`, changes);
    return;
  }
  if (found === undefined && wanted === undefined) return;
  // Options of layers; how a model is run (`execution`) is no part of what it computes.
  if (isPlain(found) && isPlain(wanted) && JSON.stringify(found) === JSON.stringify(wanted)) return;
  if (path.endsWith(".execution")) return;
  if (!Object.is(found, wanted))
    changes.push(`${path} is ${kindOf(found)}, the family has ${kindOf(wanted)}`);
}

function isPlain(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function holdsTensors(value: unknown): boolean {
  return typeof value === "object" && value !== null && flatten(value).leaves.length > 0;
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "none";
  if (value instanceof Tensor) return `a Tensor [${value.shape.join(", ")}]`;
  if (typeof value === "object") return `a ${value.constructor?.name ?? "object"}`;
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
