/** What a domain offers so that its checkpoints can be verified. */
import type { TypedArray } from "../array/hostdata.js";
import type { Tensor } from "../array/tensor.js";
import type { DType } from "../graph/dtype.js";
import type { Shape } from "../graph/node.js";

/** An array as the reference holds it. */
export interface HostArray {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: TypedArray;
}

/** What a model gives for its inputs, by the names that the Python model has for them. */
export interface Computed {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** The model's own loss; undefined where the inputs have no labels. */
  readonly loss?: Tensor;
}

/** One way in which the Python library computes the model; its choice of kernels can make more than one. */
export interface Way<M> {
  /** Said in the report where there are several. */
  readonly name: string;
  /** @param inputs - int32 for integers and booleans, float32 for the rest */
  compute(model: M, inputs: Readonly<Record<string, Tensor>>): Computed;
}

/** An opened checkpoint, in float32 and evaluation mode. */
export interface Verifiable<M = unknown> {
  /** A tree: gradients are those of all its Tensors. */
  readonly model: M;
  /** The keyword arguments of the Python model that are computed. */
  readonly inputs: readonly string[];
  /**
   * The ways to compute these inputs, at least one.
   *
   * @throws CheckpointError for values that the model cannot take
   */
  ways(inputs: ReadonlyMap<string, HostArray>): readonly Way<M>[];
  /** The Tensors of a tree of the model's structure by the checkpoint's names. */
  stored(tree: M): ReadonlyMap<string, Tensor>;
  /** The same by further names that Python may have for them. */
  aliases?(tree: M): ReadonlyMap<string, Alias>;
}

/** One Tensor of the Python model for what the checkpoint holds by other names. */
export interface Alias {
  /** Those names. */
  readonly covers: readonly string[];
  /** Makes it. */
  tensor(): Tensor;
}

/** An architecture that can be opened. */
export interface Architecture {
  /** As the `architectures` (diffusers: `_class_name`) of `config.json` name it. */
  readonly name: string;
  /** As its `model_type` names it. */
  readonly modelType?: string;
  /** Whether a folder is one of it though no `architectures` says so. */
  recognizes?(folder: string): boolean;
  open(folder: string): Promise<Verifiable>;
}

/** A kind of adapter, as PEFT's `peft_type` names it, that can be laid over an opened checkpoint. */
export interface Adapter {
  readonly name: string;
  open(folder: string, base: Verifiable): Promise<Verifiable>;
}
