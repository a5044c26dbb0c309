/** Files that hold a JSON object. */
import { existsSync, readFileSync } from "node:fs";
import { CheckpointError } from "./errors.js";

/** @throws CheckpointError where there is none, or something else */
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
