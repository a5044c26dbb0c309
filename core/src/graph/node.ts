/** The graph: nodes, the values they produce, and the primitives they apply. */
import type { DeviceBuffer } from "../runtime/runtime.js";
import type { DType } from "./dtype.js";
import type { Lowering } from "./lowering.js";
import { captureSite, type Site } from "./site.js";

export type Shape = readonly number[];

/** A value's abstract type: what is known of it while tracing. */
export interface Aval {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** Parameters of one application of a primitive: plain data, or graphs for control flow. */
export type Attributes = Readonly<Record<string, unknown>>;

/**
 * One operation of the language, with all its rules in one place.
 *
 * `V` is the class of values that rules compute with: the array layer's Tensor.
 */
export interface Primitive<A extends Attributes = Attributes, V extends Value = Value> {
  readonly name: string;
  /** Abstract evaluation: the outputs' types, or a throw that names what does not fit. */
  shape(inputs: readonly Aval[], attributes: A): readonly Aval[];
  /** Reverse-mode rule: the inputs' cotangents, `undefined` for a zero. Without one, reaching the operation is an error. */
  vjp?(application: Application<A, V>, cotangents: readonly (V | undefined)[]): readonly (V | undefined)[];
  /** The derivative is zero everywhere (comparisons, rounding, random bits). */
  readonly zeroDerivative?: boolean;
  /** Vectorising rule: inputs with `batched[i]` have a leading axis of `size`; every output must. */
  batch?(inputs: readonly V[], batched: readonly boolean[], attributes: A, size: number): readonly V[];
  /** Emits the operation; returns the names of its results. */
  lower(lowering: Lowering, application: Application<A, V>, operands: readonly string[]): readonly string[];
  /** Whether two applications with equal inputs and attributes are the same value (default true). */
  readonly pure?: boolean;
}

/** What a rule sees of one application of its primitive. */
export interface Application<A extends Attributes = Attributes, V extends Value = Value> {
  readonly inputs: readonly V[];
  readonly outputs: readonly V[];
  readonly attributes: A;
}

let nextId = 0;

/** The id that the next node will have: nodes created from now on, and only those, have ids at or above it. */
export function nextNodeId(): number {
  return nextId;
}

/** An application of a primitive. Ids grow with creation, so inputs always have smaller ids: sorting by id is a topological order. */
export class Node {
  readonly id = nextId++;
  readonly primitive: Primitive;
  readonly attributes: Attributes;
  readonly avals: readonly Aval[];
  readonly site: Site | undefined;
  inputs: readonly Value[];
  outputs: readonly Value[] = [];
  /** Device buffers of outputs that have been computed. */
  buffers: (DeviceBuffer | undefined)[] | undefined;

  constructor(
    primitive: Primitive,
    inputs: readonly Value[],
    attributes: Attributes,
    avals: readonly Aval[],
    site?: Site,
  ) {
    this.primitive = primitive;
    this.inputs = inputs;
    this.attributes = attributes;
    this.avals = avals;
    this.site = site ?? captureSite();
  }

  /** Records the buffer of output `index`; a node whose outputs are all computed lets go of its inputs. */
  materialize(index: number, buffer: DeviceBuffer): void {
    this.buffers ??= new Array(this.avals.length).fill(undefined);
    this.buffers[index] = buffer;
    if (this.buffers.every((b) => b !== undefined)) this.inputs = [];
  }
}

/** One output of a node. */
export class Value {
  readonly node: Node;
  readonly index: number;
  readonly shape: Shape;
  readonly dtype: DType;

  constructor(node: Node, index: number) {
    const aval = node.avals[index];
    if (aval === undefined) throw new RangeError(`node ${node.primitive.name} has no output ${index}`);
    this.node = node;
    this.index = index;
    this.shape = aval.shape;
    this.dtype = aval.dtype;
  }

  /** The device buffer, once computed. */
  get buffer(): DeviceBuffer | undefined {
    return this.node.buffers?.[this.index];
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((a, b) => a * b, 1);
  }
}

/** A closed program: outputs as a function of parameters (placeholders) and of values computed outside it. */
export interface Graph<V extends Value = Value> {
  readonly parameters: readonly V[];
  readonly outputs: readonly V[];
}

/**
 * The nodes that `outputs` need, in topological order, stopping at `isLeaf` values (computed ones, parameters). Iterative: programs are
 * deeper than the call stack.
 */
export function reachable(outputs: readonly Value[], isLeaf: (value: Value) => boolean): Node[] {
  const seen = new Set<Node>();
  const stack: Value[] = [...outputs];
  for (let value = stack.pop(); value !== undefined; value = stack.pop()) {
    if (seen.has(value.node) || isLeaf(value)) continue;
    seen.add(value.node);
    for (const input of value.node.inputs) stack.push(input);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}
