/** Where a model lies: the folder of a checkpoint, a checkpoint of a training, or a run's folder. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CheckpointStore } from "../../checkpoint/checkpoint-store.js";
import { CheckpointError } from "../../checkpoint/errors.js";
import { refuseLoosePieces } from "../../checkpoint/pieces.js";
import { ArgumentError } from "../../graph/errors.js";

/** An object of JSON. */
export type Json = Record<string, unknown>;

/** A file that holds a JSON object, as such and as it is written. */
export function readJson(path: string): { json: Json; text: string } {
  let text: string;
  let json: unknown;
  try {
    text = readFileSync(path, "utf8");
    json = JSON.parse(text);
  } catch (error) {
    const { message } = error as Error;
    throw new CheckpointError(`${path} cannot be read: ${message}`, "give the folder of a checkpoint", {
      cause: error,
    });
  }
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return { json: json as Json, text };
  throw new CheckpointError(`${path} holds no JSON object`, "give the folder of a checkpoint");
}

/**
 * The folder with the model's `config.json`: the one given, the `model` of a training's checkpoint, or that of the newest checkpoint of a
 * run.
 *
 * @throws CheckpointError that says which folder was probably meant, or what is missing in it
 */
export async function modelFolder(folder: string): Promise<string> {
  if (typeof folder !== "string")
    throw new ArgumentError(`load: the folder is ${typeof folder}`, "give the path of a checkpoint's folder");
  if (existsSync(join(folder, "config.json"))) return folder;
  const runs = [join(folder, "checkpoints"), folder].find(holdsSteps);
  if (runs !== undefined) {
    const steps = await new CheckpointStore(runs).steps();
    const newest = steps.at(-1);
    if (newest === undefined)
      throw new CheckpointError(
        `load: ${runs} holds no whole checkpoint`,
        "the trainings that wrote it were cut short: train on, or open another run",
      );
    return modelFolder(join(runs, `step-${String(newest).padStart(6, "0")}`));
  }
  if (existsSync(join(folder, "trainer.json"))) return ofTraining(folder);
  const what = existsSync(folder) ? "holds no config.json" : "does not exist";
  // Hugging Face's cache keeps the files of each revision in a folder of its own.
  const snapshots = join(folder, "snapshots");
  const [revision] = existsSync(snapshots) ? readdirSync(snapshots) : [];
  throw new CheckpointError(
    `load: ${folder} ${what}`,
    revision === undefined
      ? `give the folder of a checkpoint; paths are relative to ${process.cwd()}`
      : `give the folder of a revision, ${join(snapshots, revision)}`,
  );
}

function holdsSteps(folder: string): boolean {
  return existsSync(folder) && readdirSync(folder).some((name) => /^step-\d{6,}$/.test(name));
}

/** The model's part of a training's checkpoint. */
function ofTraining(checkpoint: string): string {
  const model = join(checkpoint, "model");
  if (existsSync(join(model, "config.json"))) return model;
  if (!existsSync(model))
    throw new CheckpointError(
      `load: ${checkpoint} is a training's checkpoint without the folder model`,
      "open another checkpoint of the run",
    );
  throw new CheckpointError(
    `load: the model of this training's checkpoint lies in ${model}, by the names of its fields and without config.json`,
    `make the model as it was trained, and open it with checkpoint.loadTree(model, ${JSON.stringify(model)}); save writes what load opens`,
  );
}

/** What transformers reads: `model.safetensors`, else the files of the index, whatever else lies beside them. */
export function weightsIn(folder: string): string {
  const whole = join(folder, "model.safetensors");
  if (existsSync(whole)) return whole;
  refuseLoosePieces(folder);
  const names = readdirSync(folder);
  if (names.some((name) => name.endsWith(".safetensors") || name.endsWith(".safetensors.index.json")))
    return folder;
  const pickled = names.find((name) => /\.(bin|pt|pth|gguf|msgpack|h5)$/.test(name));
  throw new CheckpointError(
    `load: ${folder} holds no safetensors file${pickled === undefined ? "" : `, but ${pickled}`}`,
    pickled === undefined
      ? "fetch the files of the weights too"
      : "convert it once: in Python, transformers' from_pretrained and save_pretrained",
  );
}
