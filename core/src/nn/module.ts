/** Modules: trees of parameters with a forward function. */
import { full } from "../array/broadcast.js";
import { tensor } from "../array/creation.js";
import { foldIn, type Key, key as makeKey } from "../array/random.js";
import { Tensor } from "../array/tensor.js";
import { type DType, isFloat } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { type Mesh, type Placement, placementKey } from "../graph/mesh.js";
import type { Shape } from "../graph/node.js";
import type { Layout } from "../sharding/layout.js";
import { defaultRules, placeAxes, type Rules } from "../sharding/rules.js";
import { setBuffer } from "../transform/buffers.js";
import { jit } from "../transform/jit.js";
import { type FieldKind, fieldKind, flatten, mapNamed, TreeSummary, treeNode } from "../transform/tree.js";
import { type Initializer, normalInit } from "./initializers.js";

/** What a parameter or buffer is made of, beside its values. */
export interface ParameterSpec {
  readonly kind: Exclude<FieldKind, "constant">;
  readonly shape: Shape;
  readonly init: Initializer;
  /** Logical axes, one a dimension, that sharding rules map to mesh axes. */
  readonly axes: readonly (string | null)[];
  readonly dtype: DType;
  /** Of "fixed" ones: the number of weights that it stands for. */
  readonly weights?: number;
}

export interface ParameterOptions {
  init?: Initializer;
  axes?: readonly (string | null)[];
  dtype?: DType;
}

export interface FixedOptions {
  axes?: readonly (string | null)[];
  weights?: number;
}

export interface BufferOptions extends ParameterOptions {
  /**
   * Where its new values come from: `forward`, by `setBuffer`; or the derivative, whose cotangent of it is its new value, the largest of the parts
   * of a batch (the scales of FP8 need the maxima of gradients). Default "forward".
   */
  update?: "forward" | "cotangent";
}

const specs: unique symbol = Symbol("parameters");

/**
 * The base of layers and models. A subclass declares parameters and buffers in its constructor and computes in `forward`.
 *
 * A Module is a tree: its fields that hold Tensors, Modules or arrays of them are its children, so `grad`, `jit` and `tree.map` take
 * and return Modules. Other fields are static. A Tensor field that was not declared is a constant: an input of every program, and not
 * trained.
 */
export abstract class Module {
  declare readonly [treeNode]: true;
  declare readonly [specs]: Record<string, ParameterSpec>;

  constructor() {
    Object.defineProperty(this, specs, { value: {}, enumerable: false, configurable: true });
  }

  /**
   * Declares the parameter that will be stored in the field `name`. Until `initialize` gives it values it is an expression: the
   * initializer with a key of its own.
   */
  protected parameter(name: string, shape: Shape, options: ParameterOptions = {}): Tensor {
    return declared(this, "parameter", name, shape, options, normalInit(0.02));
  }

  /**
   * Declares the buffer that will be stored in the field `name`: saved and distributed like a parameter, but not differentiated, decayed or
   * clipped. Its new values are set by `setBuffer`.
   *
   * @param options.init - default zeros
   */
  protected buffer(name: string, shape: Shape, options: BufferOptions = {}): Tensor {
    const { update = "forward", ...rest } = options;
    if (update !== "forward" && update !== "cotangent")
      throw new ArgumentError(
        `buffer "${name}": update is ${String(update)}`,
        'give "forward" or "cotangent"',
      );
    const kind = update === "forward" ? "buffer" : "cotangent";
    return declared(this, kind, name, shape, rest, (_key, of, dtype) => full(of, 0, { dtype }));
  }

  /**
   * Gives a buffer a new value, in `forward`; afterwards the field has it. It comes back from `nn.withUpdates(model, f)`, which the Trainer
   * calls; no gradient goes through it.
   *
   * @throws TraceError outside of `withUpdates` and inside `vmap` and `whileLoop`, where the value would be lost
   */
  protected setBuffer(name: string, value: Tensor): void {
    setBuffer(this, name, value);
  }

  /**
   * Declares what will be stored in the field `name` to be kept as it is: not trained, drawn or converted to another type, but placed by its axes.
   *
   * @param options.weights - the number of weights that it stands for, which `parameterCount` counts
   */
  protected fixed(
    name: string,
    value: Tensor,
    { axes = value.shape.map(() => null), weights = 0 }: FixedOptions = {},
  ): Tensor {
    const { shape, dtype } = value;
    const init = (): Tensor => value;
    this[specs][name] = { kind: "fixed", shape: [...shape], init, axes, dtype, weights };
    return value;
  }

  /** What a field is. */
  [fieldKind](name: string): FieldKind {
    return this[specs][name]?.kind ?? "constant";
  }

  /** The declared parameters and buffers of this module alone, by field. */
  get ownParameters(): Readonly<Record<string, ParameterSpec>> {
    return this[specs];
  }

  /** Number of parameters, in elements; of those that are trained, frozen or quantized, not of buffers. */
  get parameterCount(): number {
    const { leaves, kinds, paths } = flatten(this);
    const declared = kinds.includes("fixed") ? parameterSpecs(this) : undefined;
    return leaves.reduce((n, leaf, i) => {
      if (kinds[i] === "fixed") return n + (declared!.get(paths[i]!)?.weights ?? 0);
      return n + (kinds[i] === "parameter" || kinds[i] === "frozen" ? leaf.size : 0);
    }, 0);
  }

  toString(): string {
    return `${this.constructor.name} (${this.parameterCount.toLocaleString("en")} parameters)`;
  }

  [Symbol.for("Jupyter.display")](): Record<string, unknown> {
    return { "text/plain": summary(this), "text/html": `${this}${new TreeSummary(this).html}` };
  }
}

Object.defineProperty(Module.prototype, treeNode, { value: true });

let count = 0;

/** Notes what a field will hold; its initial value, as an expression. */
function declared(
  module: Module,
  kind: ParameterSpec["kind"],
  name: string,
  shape: Shape,
  options: ParameterOptions,
  otherwise: Initializer,
): Tensor {
  const { init = otherwise, axes = shape.map(() => null), dtype = "float32" } = options;
  if (!shape.every((size) => Number.isInteger(size) && size >= 1)) {
    throw new ArgumentError(
      `${module.constructor.name}: "${name}" would have the shape [${shape.map(String).join(", ")}]`,
      "give positive integers as numbers of features",
    );
  }
  if (axes.length !== shape.length) {
    throw new ArgumentError(
      `"${name}": ${axes.length} logical axes for shape [${shape.join(", ")}]`,
      "name one axis (or null) a dimension",
    );
  }
  module[specs][name] = { kind, shape: [...shape], init, axes, dtype };
  const initial = init(makeKey(count++), shape, dtype);
  undrawn.add(initial);
  return initial;
}

const undrawn = new WeakSet<Tensor>();

/** Whether a leaf is still what its declaration made it, with no values on a device. */
export function isUndrawn(leaf: Tensor): boolean {
  return undrawn.has(leaf) && leaf.buffer === undefined;
}

/** Gives fields of a module, which a copy was made of, other kinds: the module that it was copied from keeps its own. */
export function redeclare(module: Module, kinds: Readonly<Record<string, ParameterSpec["kind"]>>): void {
  const own = { ...module[specs] };
  for (const [name, kind] of Object.entries(kinds)) own[name] = { ...own[name]!, kind };
  Object.defineProperty(module, specs, { value: own, enumerable: false, configurable: true });
}

/** Declares a field of a module that was not made by its class's constructor, as `this.parameter` does. */
export function declare(module: Module, name: string, spec: ParameterSpec): void {
  Object.defineProperty(module, specs, {
    value: { ...module[specs], [name]: spec },
    enumerable: false,
    configurable: true,
  });
}

/** The specification of every parameter and buffer of a tree of Modules, by path. */
export function parameterSpecs(root: unknown): Map<string, ParameterSpec> {
  const found = new Map<string, ParameterSpec>();
  const visit = (value: unknown, path: string): void => {
    if (typeof value !== "object" || value === null || value instanceof Tensor) return;
    const below = path === "" ? "" : `${path}.`;
    const own = value instanceof Module ? value.ownParameters : {};
    for (const [name, field] of Object.entries(value)) {
      const spec = own[name];
      if (spec !== undefined && field instanceof Tensor) found.set(below + name, spec);
      else visit(field, below + name);
    }
  };
  visit(root, "");
  return found;
}

type Draw = (base: Key, path: Tensor) => Tensor;

const programs = new WeakMap<Initializer, Map<string, Draw>>();

/** The program that draws parameters of a kind; one serves all layers. */
function drawing({ init, shape, dtype }: ParameterSpec, to: Placement | undefined): Draw {
  const kinds = programs.get(init) ?? new Map<string, Draw>();
  programs.set(init, kinds);
  const kind = `${dtype}[${shape}]${to === undefined ? "" : placementKey(to)}`;
  let draw = kinds.get(kind);
  if (draw === undefined) {
    draw = jit((base: Key, path: Tensor) => init(foldIn(base, path), shape, dtype), {
      name: "initialize",
      tag: () => "parameter",
      place: () => to,
    });
    kinds.set(kind, draw);
  }
  return draw;
}

/**
 * A model with its parameters drawn on the devices, by one small program for each kind of parameter (initializer, shape, dtype and
 * placement), however many layers there are. Each parameter's key follows from its path, so that two models share the values of parameters
 * of the same path and shape, whatever else differs, the layout too.
 *
 * @param seed - a random key or an integer
 * @param layout - where each parameter is drawn: no device holds more than its part at any time. Default the first device
 * @param draws - which leaves; default all that are declared
 */
export function initialize<M extends Module>(
  model: M,
  seed: Key | number = 0,
  layout?: Layout,
  draws: (leaf: Tensor) => boolean = () => true,
): M {
  const declaredSpecs = parameterSpecs(model);
  const base = typeof seed === "number" ? makeKey(seed) : seed;
  return mapNamed((leaf, path) => {
    const spec = declaredSpecs.get(path);
    if (spec === undefined || spec.kind === "fixed" || !draws(leaf)) return leaf;
    return drawing(spec, layout?.get(path))(base, tensor(Uint32Array.of(hashName(path)), { shape: [] }));
  }, model);
}

/** The layout that rules give to the logical axes of a model's parameters. */
export function parameterLayout(root: unknown, mesh: Mesh, rules: Rules = defaultRules): Layout {
  return new Map(
    [...parameterSpecs(root)].map(([path, spec]) => [path, placeAxes(spec.axes, spec, mesh, rules)]),
  );
}

/** FNV-1a, 32 bits. */
export function hashName(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

/** The tree with its floating-point Tensors converted, but for buffers and quantized weights, whose types say how exactly they are kept. */
export function castTree<T>(tree: T, dtype: DType): T {
  const flat = flatten(tree);
  const keeps = (i: number): boolean => ["buffer", "cotangent", "fixed"].includes(flat.kinds[i]!);
  return flat.rebuild(
    flat.leaves.map((leaf, i) => (isFloat(leaf.dtype) && !keeps(i) ? leaf.astype(dtype) : leaf)),
  ) as T;
}

/** The name that Hugging Face checkpoints give the parameter at `path`: `selfAttn.qProj` becomes `self_attn.q_proj`. */
export function checkpointName(path: string): string {
  return path.replaceAll(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}

/** A table of the parameters: path, type, elements, bytes. */
export function summary(model: Module): string {
  return `${model}\n${new TreeSummary(model)}`;
}
