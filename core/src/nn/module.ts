/** Modules: trees of parameters with a forward function. */
import { tensor } from "../array/creation.js";
import { foldIn, type Key, key as makeKey } from "../array/random.js";
import { Tensor } from "../array/tensor.js";
import { type DType, isFloat } from "../graph/dtype.js";
import { ArgumentError } from "../graph/errors.js";
import { type Mesh, type Placement, placementKey } from "../graph/mesh.js";
import type { Shape } from "../graph/node.js";
import type { Layout } from "../sharding/layout.js";
import { defaultRules, placeAxes, type Rules } from "../sharding/rules.js";
import { jit } from "../transform/jit.js";
import { flatten, mapNamed, TreeSummary, treeNode } from "../transform/tree.js";
import { type Initializer, normalInit } from "./initializers.js";

/** What a parameter is made of, beside its values. */
export interface ParameterSpec {
  readonly shape: Shape;
  readonly init: Initializer;
  /** Logical axes, one a dimension, that sharding rules map to mesh axes. */
  readonly axes: readonly (string | null)[];
  readonly dtype: DType;
}

export interface ParameterOptions {
  init?: Initializer;
  axes?: readonly (string | null)[];
  dtype?: DType;
}

const specs: unique symbol = Symbol("parameters");

/**
 * The base of layers and models. A subclass declares parameters in its constructor and computes in `forward`.
 *
 * A Module is a tree: its fields that hold Tensors, Modules or arrays of them are its children, so `grad`, `jit` and `tree.map` take
 * and return Modules. Other fields are static.
 */
export abstract class Module {
  declare readonly [treeNode]: true;
  declare private readonly [specs]: Record<string, ParameterSpec>;

  constructor() {
    Object.defineProperty(this, specs, { value: {}, enumerable: false });
  }

  /**
   * Declares the parameter that will be stored in the field `name`. Until `initialize` gives it values it is an expression: the
   * initializer with a key of its own.
   */
  protected parameter(name: string, shape: Shape, options: ParameterOptions = {}): Tensor {
    const { init = normalInit(0.02), axes = shape.map(() => null), dtype = "float32" } = options;
    if (!shape.every((size) => Number.isInteger(size) && size >= 1)) {
      throw new ArgumentError(
        `${this.constructor.name}: the parameter "${name}" would have the shape [${shape.map(String).join(", ")}]`,
        "give positive integers as numbers of features",
      );
    }
    if (axes.length !== shape.length) {
      throw new ArgumentError(
        `parameter "${name}": ${axes.length} logical axes for shape [${shape.join(", ")}]`,
        "name one axis (or null) a dimension",
      );
    }
    this[specs][name] = { shape: [...shape], init, axes, dtype };
    return init(makeKey(declared++), shape, dtype);
  }

  /** The declared parameters of this module alone, by field. */
  get ownParameters(): Readonly<Record<string, ParameterSpec>> {
    return this[specs];
  }

  /** Number of parameters, in elements. */
  get parameterCount(): number {
    return flatten(this).leaves.reduce((n, leaf) => n + leaf.size, 0);
  }

  toString(): string {
    return `${this.constructor.name} (${this.parameterCount.toLocaleString("en")} parameters)`;
  }

  [Symbol.for("Jupyter.display")](): Record<string, unknown> {
    return { "text/plain": summary(this), "text/html": `${this}${new TreeSummary(this).html}` };
  }
}

Object.defineProperty(Module.prototype, treeNode, { value: true });

let declared = 0;

/** The specification of every parameter of a tree of Modules, by path. */
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

const draws = new WeakMap<Initializer, Map<string, Draw>>();

/** The program that draws parameters of a kind; one serves all layers. */
function drawing({ init, shape, dtype }: ParameterSpec, to: Placement | undefined): Draw {
  const kinds = draws.get(init) ?? new Map<string, Draw>();
  draws.set(init, kinds);
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
 */
export function initialize<M extends Module>(model: M, seed: Key | number = 0, layout?: Layout): M {
  const declaredSpecs = parameterSpecs(model);
  const base = typeof seed === "number" ? makeKey(seed) : seed;
  return mapNamed((leaf, path) => {
    const spec = declaredSpecs.get(path);
    if (spec === undefined) return leaf;
    return drawing(spec, layout?.get(path))(base, tensor(Uint32Array.of(hash(path)), { shape: [] }));
  }, model);
}

/** The layout that rules give to the logical axes of a model's parameters. */
export function parameterLayout(root: unknown, mesh: Mesh, rules: Rules = defaultRules): Layout {
  return new Map(
    [...parameterSpecs(root)].map(([path, spec]) => [path, placeAxes(spec.axes, spec, mesh, rules)]),
  );
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

/** The tree with its floating-point Tensors converted. */
export function castTree<T>(tree: T, dtype: DType): T {
  const flat = flatten(tree);
  return flat.rebuild(flat.leaves.map((leaf) => (isFloat(leaf.dtype) ? leaf.astype(dtype) : leaf))) as T;
}

/** The name that Hugging Face checkpoints give the parameter at `path`: `selfAttn.qProj` becomes `self_attn.q_proj`. */
export function checkpointName(path: string): string {
  return path.replaceAll(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}

/** A table of the parameters: path, type, elements, bytes. */
export function summary(model: Module): string {
  return `${model}\n${new TreeSummary(model)}`;
}
