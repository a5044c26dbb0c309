/** What was done to a language model after it was made, as far as its checkpoints can tell. */
import { refuseChanged as refuse } from "../pretrained/changes.js";
import { build } from "./build.js";
import type { ResolvedConfig } from "./config.js";
import type { Decoder } from "./decoder.js";

/**
 * Refuses a model of which a model of its family and configuration would not have the same parameters, or would compute something else with
 * them.
 *
 * @param config - that will be saved
 * @throws CheckpointError with the fields that differ
 */
export function refuseChanged(model: Decoder, config: ResolvedConfig): void {
  const like = build(model.family!, config);
  refuse(model, like, { name: model.family!.name, fields: ["model", "lmHead"], call: "save" });
}
