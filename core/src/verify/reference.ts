/** What a checkpoint computed where it was made: `reference.safetensors` and what lies beside it. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { decode, type TypedArray } from "../array/hostdata.js";
import { CheckpointError } from "../checkpoint/errors.js";
import { readObject } from "../checkpoint/read-object.js";
import { TensorFiles } from "../checkpoint/tensor-files.js";
import { type DType, isDType } from "../graph/dtype.js";
import type { HostArray } from "./verifiable.js";

export type ReferenceLoss = "the model's own" | "sum over outputs of mean(output**2)";

const losses: readonly ReferenceLoss[] = ["the model's own", "sum over outputs of mean(output**2)"];

/** Arrays that are read one at a time: together they are as large as the model. */
export interface Stored {
  readonly names: readonly string[];
  shape(name: string): readonly number[];
  read(name: string): Promise<TypedArray>;
}

export class Reference {
  private constructor(
    readonly inputs: ReadonlyMap<string, HostArray>,
    readonly outputs: Stored,
    /** Undefined where there is none. */
    readonly loss: number | undefined,
    readonly lossKind: ReferenceLoss,
    /** By the checkpoint's parameter names; undefined where there is no file of them. */
    readonly gradients: Stored | undefined,
    private readonly files: readonly TensorFiles[],
  ) {}

  /** @throws CheckpointError for what is missing or named otherwise */
  static async open(folder: string): Promise<Reference> {
    const path = join(folder, "reference.safetensors");
    if (!existsSync(path))
      throw new CheckpointError(
        `there is no ${path}`,
        "write it where the checkpoint was made: docs/verify.md has the lines of Python",
      );
    const lossKind = lossKindOf(folder);
    const files: TensorFiles[] = [];
    try {
      const file = await TensorFiles.open(path);
      files.push(file);
      const names = [...file.tensors.keys()];
      const odd = names.find((name) => !/^(input|output)\../.test(name) && name !== "loss");
      if (odd !== undefined)
        throw new CheckpointError(
          `${path} holds ${JSON.stringify(odd)}`,
          "names are input.NAME, output.NAME and loss",
        );
      const under = (prefix: string) =>
        stored(
          file,
          names.filter((name) => name.startsWith(prefix)),
          prefix,
        );
      const inputs = new Map<string, HostArray>();
      const given = under("input.");
      for (const name of given.names) {
        const { shape, dtype } = file.tensors.get(`input.${name}`)!;
        inputs.set(name, { shape, dtype: dtype as DType, data: await given.read(name) });
      }
      const loss = names.includes("loss")
        ? Number((await stored(file, ["loss"]).read("loss"))[0])
        : undefined;
      const outputs = under("output.");
      if (outputs.names.length === 0 && loss === undefined)
        throw new CheckpointError(`${path} holds no output.NAME and no loss`, "save what the model gave");
      const gradientPath = join(folder, "reference-grads.safetensors");
      let gradients: Stored | undefined;
      if (existsSync(gradientPath)) {
        const gradientFile = await TensorFiles.open(gradientPath);
        files.push(gradientFile);
        gradients = stored(gradientFile, [...gradientFile.tensors.keys()]);
      }
      return new Reference(inputs, outputs, loss, lossKind, gradients, files);
    } catch (error) {
      await Promise.all(files.map((file) => file.close()));
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.files.map((file) => file.close()));
  }
}

function stored(file: TensorFiles, names: readonly string[], prefix = ""): Stored {
  const entry = (name: string) => file.tensors.get(prefix + name)!;
  return {
    names: names.map((name) => name.slice(prefix.length)),
    shape: (name) => entry(name).shape,
    async read(name) {
      const { dtype } = entry(name);
      if (!isDType(dtype))
        throw new CheckpointError(
          `${file.path}: ${prefix}${name} is ${String(dtype)}`,
          "save it as float32, or integers",
        );
      return decode(await file.read(prefix + name), dtype);
    },
  };
}

function lossKindOf(folder: string): ReferenceLoss {
  const path = join(folder, "reference.json");
  if (!existsSync(path)) return "the model's own";
  const { loss = "the model's own" } = readObject(
    path,
    `write {"loss": ${JSON.stringify(losses[0])}} into it`,
  );
  if (losses.includes(loss as ReferenceLoss)) return loss as ReferenceLoss;
  throw new CheckpointError(
    `${path}: the loss is ${JSON.stringify(loss)}`,
    `one of ${losses.map((each) => JSON.stringify(each)).join(", ")}`,
  );
}
