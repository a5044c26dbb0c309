/** Adapters laid over models, for `verify`. */

import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { Module } from "../nn/module.js";
import { load } from "../peft/save.js";
import { entriesOf } from "../peft/tensors.js";
import { named } from "../transform/tree.js";
import type { Alias, Verifiable } from "./verifiable.js";

const name = "default";

/** The base with the adapter of a folder: what is trained of it is the adapter alone. */
export async function openAdapter(folder: string, base: Verifiable): Promise<Verifiable> {
  if (!(base.model instanceof Module)) throw new ArgumentError("verify: the base is no Module");
  const model = await load(base.model, folder);
  return {
    ...base,
    model,
    ways: (inputs) => base.ways(inputs),
    stored: (tree) => {
      const leaves = named(tree);
      return new Map(
        entriesOf(tree as Module, name).map(({ key, path, toFile }) => [key, toFile(leaves.get(path)!)]),
      );
    },
    aliases: (tree) => {
      const leaves = named(tree);
      return new Map<string, Alias>(
        entriesOf(tree as Module, name)
          .filter(({ key, parameter }) => key !== parameter)
          .map(({ key, parameter, path, toFile }) => [
            parameter,
            { covers: [key], tensor: (): Tensor => toFile(leaves.get(path)!) },
          ]),
      );
    },
  };
}
