/** The graph: nodes, the values they produce, and the primitives they apply. */
import type { DeviceBuffer } from "../runtime/runtime.js";
import type { DType } from "./dtype.js";
import type { Lowering } from "./lowering.js";
import type { Placement } from "./mesh.js";
import { enroll } from "./scope.js";
import { captureSite, type Site } from "./site.js";
import { tracing } from "./tracing.js";

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
  /**
   * The same as a linear function that is only transposed, never computed: the rule for derivatives forwards, where it differs from `vjp` or
   * there is none.
   */
  pullback?(
    application: Application<A, V>,
    cotangents: readonly (V | undefined)[],
  ): readonly (V | undefined)[];
  /** The derivative is zero everywhere (comparisons, rounding, random bits). */
  readonly zeroDerivative?: boolean;
  /** Vectorising rule: inputs with `batched[i]` have a leading axis of `size`; every output must. */
  batch?(inputs: readonly V[], batched: readonly boolean[], attributes: A, size: number): readonly V[];
  /** Emits the operation; returns the names of its results. */
  lower(lowering: Lowering, application: Application<A, V>, operands: readonly string[]): readonly string[];
  /** The inputs that the lowering reads (default all): others are there for the derivative only. */
  operands?(application: Application<A, V>): readonly V[];
  /** How its output lies on a mesh, where the operation is there to say so. */
  placement?(attributes: A): Placement;
  /**
   * Arithmetic operations of one application (default 0: data only move). Not asked where the lowering writes other primitives, which
   * count themselves.
   */
  flops?(application: Application<A, V>): number;
  /** Whether XLA computes it inside of what reads it ("element"), or reads what it computes from there ("reduction"). Default neither. */
  readonly fusion?: "element" | "reduction";
  /** The graphs that one application runs, for the account of memory. */
  bodies?(attributes: A): readonly Graph<V>[];
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
  attributes: Attributes;
  avals: readonly Aval[];
  readonly site: Site | undefined;
  /** Whether it was made while a transform ran a user's function. */
  readonly traced = tracing();
  inputs: readonly Value[];
  outputs: readonly Value[] = [];
  /** A compiled function refers to its data: no scope frees them. */
  pinned = false;
  /** Whether a program has computed it, if only on the way to what was asked for. */
  ran = false;
  /** The last traversal that met this node. */
  visit = 0;
  /** Device buffers of outputs that have been computed. */
  buffers: (DeviceBuffer | undefined)[] | undefined;

  constructor(
    primitive: Primitive,
    inputs: readonly Value[],
    attributes: Attributes,
    avals: readonly Aval[],
    site?: Site | null,
  ) {
    this.primitive = primitive;
    this.inputs = inputs;
    this.attributes = attributes;
    this.avals = avals;
    // Finding the user's line costs more than all the rest: null where nothing will ask.
    this.site = site === null ? undefined : (site ?? captureSite());
  }

  /**
   * Records the buffer of output `index`. A node whose outputs are all computed lets go of its inputs, unless it is part of a trace:
   * then a derivative may yet ask how it was computed.
   */
  materialize(index: number, buffer: DeviceBuffer): void {
    if (this.buffers === undefined) {
      this.buffers = new Array(this.avals.length).fill(undefined);
      enroll(this);
    }
    this.buffers[index] = buffer;
    if (!this.traced && this.buffers.every((b) => b !== undefined)) this.inputs = [];
  }

  /** Appends outputs: what a derivative needs of the inside of a loop or a checkpoint. The others stay as they are. */
  extend(attributes: Attributes, avals: readonly Aval[], make: (node: Node, index: number) => Value): void {
    const first = this.avals.length;
    this.attributes = attributes;
    this.avals = [...this.avals, ...avals];
    this.outputs = [...this.outputs, ...avals.map((_, i) => make(this, first + i))];
    this.buffers?.push(...avals.map(() => undefined));
  }
}

/** One output of a node. */
export class Value {
  readonly node: Node;
  readonly index: number;
  readonly shape: Shape;
  readonly dtype: DType;
  /** The type in MLIR text, once it has been printed. */
  mlir: string | undefined = undefined;

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

/**
 * A closed program: outputs as a function of parameters. A parameter is a placeholder, or any value computed outside the program that
 * its operations refer to.
 */
export interface Graph<V extends Value = Value> {
  readonly parameters: readonly V[];
  readonly outputs: readonly V[];
}

let visits = 0;

/**
 * The nodes that `outputs` need, in topological order, stopping at `isLeaf` values (computed ones, parameters). Iterative: programs are
 * deeper than the call stack. `isLeaf` and `inputsOf` must not traverse themselves.
 */
export function reachable(
  outputs: readonly Value[],
  isLeaf: (value: Value) => boolean,
  inputsOf: (node: Node) => readonly Value[] = (node) => node.inputs,
): Node[] {
  const visit = ++visits;
  const found: Node[] = [];
  const stack: Value[] = [...outputs];
  for (let value = stack.pop(); value !== undefined; value = stack.pop()) {
    const { node } = value;
    if (node.visit === visit || isLeaf(value)) continue;
    node.visit = visit;
    found.push(node);
    for (const input of inputsOf(node)) stack.push(input);
  }
  return found.sort((a, b) => a.id - b.id);
}

/** The inputs that a node's lowering reads. */
export function operandsOf(node: Node): readonly Value[] {
  return node.primitive.operands?.(node as Application) ?? node.inputs;
}
