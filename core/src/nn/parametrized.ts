/** Weights that are computed from other parameters: weight normalization and spectral normalization, named as PyTorch's parametrizations. */
import { sum } from "../array/broadcast.js";
import { dotGeneral } from "../array/contraction.js";
import { cast, div, maximum, mul, notEqual, sqrt, square, stopGradient } from "../array/elementwise.js";
import { normal } from "../array/random.js";
import { any, norm } from "../array/reductions.js";
import { normalizeAxis } from "../array/shapes.js";
import { moveAxis, reshape } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { cond } from "../transform/cond.js";
import { ConvTranspose } from "./convolutions.js";
import type { Initializer } from "./initializers.js";
import { Module, type ParameterSpec } from "./module.js";

/** What stands in a layer in place of a parameter: its own parameters and buffers, and the value that they give. */
export abstract class ParametrizedWeight extends Module {
  abstract value(): Tensor;

  /** Sets buffers, in training, before the value is used. */
  update(): void {}
}

/** The parameter in whose place a parametrization comes: how it is declared, and what it is. */
export interface ParametrizedParameter {
  readonly spec: ParameterSpec;
  readonly weight: Tensor;
}

/** Euclidean norms over all axes but one, which are kept with size 1. */
function norms(weight: Tensor, axis: number): Tensor {
  const others = weight.shape.map((_, i) => i).filter((i) => i !== axis);
  return sqrt(sum(square(weight), others, { keepDims: true }));
}

/** g · v / |v|, with the norms over all axes but one (Salimans & Kingma 2016): `original0` is g, `original1` v. */
export class WeightNorm extends ParametrizedWeight {
  original0: Tensor;
  original1: Tensor;
  readonly axis: number;

  constructor({ spec, weight }: ParametrizedParameter, axis = 0) {
    super();
    const { shape, init, axes, dtype } = spec;
    this.axis = normalizeAxis("weightNorm", axis, shape.length);
    const lengths = shape.map((size, i) => (i === this.axis ? size : 1));
    // Another draw has norms of the same distribution, so that the layer begins as it would without.
    const drawNorms: Initializer = (key, _shape, type) => norms(init(key, shape, type), this.axis);
    this.parameter("original0", lengths, {
      init: drawNorms,
      axes: axes.map((name, i) => (i === this.axis ? name : null)),
      dtype,
    });
    this.parameter("original1", shape, { init, axes, dtype });
    this.original1 = weight;
    this.original0 = norms(weight, this.axis);
  }

  value(): Tensor {
    return mul(this.original1, div(this.original0, norms(this.original1, this.axis)));
  }
}

/** The vectors of a power iteration; zeros until it has begun. */
class PowerIteration extends Module {
  _u: Tensor;
  _v: Tensor;

  constructor(rows: number, columns: number) {
    super();
    this._u = this.buffer("_u", [rows]);
    this._v = this.buffer("_v", [columns]);
  }

  keep([u, v]: Vectors): void {
    this.setBuffer("_u", u);
    this.setBuffer("_v", v);
  }
}

type Vectors = readonly [u: Tensor, v: Tensor];

/**
 * The weight divided by its largest singular value as a matrix [one axis, all others] (Miyato et al. 2018), which a power iteration follows: a
 * step in each training forward, from fifteen in the beginning. `original` is the weight; `0._u` and `0._v` the iteration's vectors.
 */
export class SpectralNorm extends ParametrizedWeight {
  readonly axis: number;
  readonly iterations: number;
  readonly epsilon: number;
  original: Tensor;
  0: PowerIteration;

  constructor({ spec, weight }: ParametrizedParameter, { axis = 0, iterations = 1, epsilon = 1e-12 } = {}) {
    super();
    const { shape, init, axes, dtype } = spec;
    if (shape.length < 2) {
      throw new ArgumentError(
        `spectralNorm of a parameter of shape [${shape.join(", ")}]`,
        "take one with two or more axes: a matrix has singular values",
      );
    }
    if (!(Number.isInteger(iterations) && iterations > 0))
      throw new ArgumentError(`spectralNorm: iterations is ${iterations}`, "give a positive integer");
    this.axis = normalizeAxis("spectralNorm", axis, shape.length);
    this.iterations = iterations;
    this.epsilon = epsilon;
    this.parameter("original", shape, { init, axes, dtype });
    this.original = weight;
    const rows = shape[this.axis]!;
    this[0] = new PowerIteration(rows, shape.reduce((n, d) => n * d, 1) / rows);
  }

  value(): Tensor {
    const [u, v] = this.vectors();
    const largest = sum(mul(u, product(this.matrix(), v, 1)));
    return div(this.original, cast(largest, this.original.dtype));
  }

  override update(): void {
    const matrix = stopGradient(this.matrix());
    this[0].keep(iterate(matrix, this.vectors(), this.iterations, this.epsilon));
  }

  private matrix(): Tensor {
    const first = moveAxis(cast(this.original, "float32"), this.axis, 0);
    return reshape(first, [first.shape[0]!, -1]);
  }

  private vectors(): Vectors {
    const { _u, _v } = this[0];
    const begin = (matrix: Tensor): Vectors => {
      // Any start does that is not orthogonal to the wanted vector.
      const [u, v] = [normal(0, _u.shape), normal(1, _v.shape)];
      return iterate(matrix, [unit(u, this.epsilon), unit(v, this.epsilon)], 15, this.epsilon);
    };
    const stored = (_matrix: Tensor): Vectors => [_u, _v];
    const [u, v] = cond(any(notEqual(_v, 0)), stored, begin, stopGradient(this.matrix()));
    return [stopGradient(u), stopGradient(v)];
  }
}

function unit(x: Tensor, epsilon: number): Tensor {
  return div(x, maximum(norm(x), epsilon));
}

function product(matrix: Tensor, vector: Tensor, axis: 0 | 1): Tensor {
  return dotGeneral(matrix, vector, { contract: [[axis], [0]], batch: [[], []] }, { precision: "highest" });
}

function iterate(matrix: Tensor, vectors: Vectors, times: number, epsilon: number): Vectors {
  let [u, v] = vectors;
  for (let i = 0; i < times; i++) {
    u = unit(product(matrix, v, 1), epsilon);
    v = unit(product(matrix, u, 0), epsilon);
  }
  return [u, v];
}

/** A layer of which parameters are computed. */
type Parametrized = Module & {
  parametrizations: Record<string, ParametrizedWeight>;
  forward?: (...args: unknown[]) => unknown;
};

/** Classes whose fields of some names are computed, by the class that they are made from. */
const classes = new WeakMap<object, Map<string, object>>();

/** The prototype of a class like `prototype`'s where the field `name` is computed by its parametrization. */
function computing(prototype: object, name: string, first: boolean): object {
  const known = classes.get(prototype) ?? new Map<string, object>();
  classes.set(prototype, known);
  const before = known.get(name);
  if (before !== undefined) return before;
  const base = prototype.constructor.name;
  const title = first ? `Parametrized${base}` : base;
  // A constructor of its own, by which trees know classes apart.
  const { [title]: made } = { [title]: class {} };
  const computed: object = Object.create(prototype, {
    constructor: { value: made },
    [name]: {
      get(this: Parametrized) {
        return this.parametrizations[name]!.value();
      },
    },
  });
  if (first) {
    Object.defineProperty(computed, "forward", {
      value(this: Parametrized, ...args: unknown[]) {
        const options = args.at(-1);
        if (typeof options === "object" && (options as { training?: boolean } | null)?.training === true)
          for (const weight of Object.values(this.parametrizations)) weight.update();
        return (prototype as Parametrized).forward!.call(this, ...args);
      },
    });
  }
  known.set(name, computed);
  return computed;
}

/**
 * A layer like the given one of which one parameter is computed from others (PyTorch's `torch.nn.utils.parametrizations`). It is of the layer's
 * class, and has `parametrizations[name]` in place of the parameter; its `forward` takes the options `{ training: true }` last, where the
 * parametrization's `update` is called.
 *
 * @param make - what comes in the parameter's place
 */
export function parametrize<L extends Module>(
  layer: L,
  name: string,
  make: (parameter: ParametrizedParameter) => ParametrizedWeight,
): L {
  const fields = layer as unknown as Record<string, unknown> & Partial<Parametrized>;
  const spec = layer.ownParameters[name];
  if (spec?.kind !== "parameter" || !Object.hasOwn(fields, name)) {
    const known = Object.keys(layer.ownParameters).filter((key) => Object.hasOwn(fields, key));
    throw new ArgumentError(
      `${layer.constructor.name} has no parameter ${JSON.stringify(name)} to compute`,
      known.length === 0 ? "give a layer with parameters" : `its own are ${known.join(", ")}`,
    );
  }
  const { parametrizations: before } = fields;
  const prototype = computing(Object.getPrototypeOf(layer), name, before === undefined);
  const copy = Object.create(prototype) as Record<string | symbol, unknown>;
  for (const [field, value] of Object.entries(fields)) if (field !== name) copy[field] = value;
  for (const symbol of Object.getOwnPropertySymbols(layer))
    Object.defineProperty(copy, symbol, Object.getOwnPropertyDescriptor(layer, symbol)!);
  copy.parametrizations = { ...before, [name]: make({ spec, weight: fields[name] as Tensor }) };
  return copy as unknown as L;
}

export interface WeightNormOptions {
  /** The parameter. Default "weight". */
  name?: string;
  /** The axis whose parts have norms of their own. Default 0. */
  axis?: number;
}

/** The layer with `WeightNorm` in place of a parameter; what it computes is unchanged. */
export function weightNorm<L extends Module>(layer: L, { name = "weight", axis }: WeightNormOptions = {}): L {
  return parametrize(layer, name, (parameter) => new WeightNorm(parameter, axis));
}

export interface SpectralNormOptions {
  /** The parameter. Default "weight". */
  name?: string;
  /** The axis of the matrix's rows. Default that of the outputs: 1 of transposed convolutions, else 0. */
  axis?: number;
  /** Steps of the power iteration in each training forward. Default 1. */
  iterations?: number;
  /** Default 1e-12. */
  epsilon?: number;
}

/** A layer whose `forward` takes `{ training: true }` beside its input. */
export type SpectralNormed<L> = L & { forward(x: Tensor, options?: { training?: boolean }): Tensor };

/** The layer with `SpectralNorm` in place of a parameter; in training, `forward` takes `{ training: true }` inside of `nn.withUpdates`. */
export function spectralNorm<L extends Module>(
  layer: L,
  { name = "weight", ...options }: SpectralNormOptions = {},
): SpectralNormed<L> {
  const axis = options.axis ?? (layer instanceof ConvTranspose ? 1 : 0);
  return parametrize(
    layer,
    name,
    (parameter) => new SpectralNorm(parameter, { ...options, axis }),
  ) as SpectralNormed<L>;
}
