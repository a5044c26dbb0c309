/** What all methods share: layers that compute something else by parameters of their own, beside weights that stay as they are. */
import { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { Module, redeclare } from "../nn/module.js";
import { checkpointName } from "../transform/remat.js";

/** Methods that change layers, as PEFT's `peft_type` names them; the last two have no such type. */
export type LayerMethod = "LORA" | "IA3" | "BOTTLENECK";

/** Those that give a language model something to begin every text with. */
export type PromptMethod = "PROMPT_TUNING" | "P_TUNING" | "PREFIX_TUNING";

export type Forward = (this: Module, ...args: unknown[]) => unknown;

/** A change of what one layer computes. */
export abstract class Adapter extends Module {
  /** The method it is of; "AUXILIARY" for what comes beside one: whole modules, rows of a table. */
  abstract readonly method: LayerMethod | PromptMethod | "AUXILIARY";

  /** What the layer is given in place of its input. */
  before(x: Tensor): Tensor {
    return x;
  }

  /** What the layer computes from its arguments, where it is not what it was: `forward` of the layer. */
  instead?(args: readonly unknown[], layer: Module, forward: Forward, share: number): unknown;

  /**
   * What comes in place of the layer's result.
   *
   * @param y - what the layer gave, a Tensor in most
   * @param x - what it was given
   * @param share - the adapter's weight among those that are added
   */
  after(y: unknown, _x: Tensor, _layer: Module, _share: number): unknown {
    return y;
  }

  /** What every text begins with, of an adapter of a whole language model. */
  lead?(): unknown;

  /** What comes in place of the logits of an output layer that shares a table: `attend` of the states. */
  attended(y: Tensor, _states: Tensor): Tensor {
    return y;
  }
}

/** A layer with adapters by name. Its class is one of its own, below that of the layer. */
export interface AdaptedLayer extends Module {
  adapters: Record<string, Adapter>;
  /** Those that are computed, in turn. */
  active: string[];
  /** How much of each is added; 1 for all but where adapters are added with weights. */
  shares: number[];
  /** Which adapter each row of a batch has, where they are mixed. */
  mixed: Adapter | null;
}

/** The classes of adapted layers, by those of the layers. */
const classes = new WeakMap<object, object>();
const adaptedClasses = new WeakSet<object>();

export function isAdapted(value: unknown): value is AdaptedLayer {
  return value instanceof Module && adaptedClasses.has(Object.getPrototypeOf(value) as object);
}

function run(layer: AdaptedLayer, forward: Forward, [first, ...rest]: readonly unknown[]): unknown {
  const { adapters, active, shares, mixed } = layer;
  const chosen = active.flatMap((name, i) =>
    adapters[name] === undefined ? [] : [{ adapter: adapters[name], share: shares[i] ?? 1 }],
  );
  if (mixed !== null) chosen.push({ adapter: mixed, share: 1 });
  const x = chosen.reduce((before, { adapter }) => adapter.before(before), first as Tensor);
  const compute = chosen.reduce<Forward>(
    (inner, { adapter, share }) =>
      adapter.instead === undefined
        ? inner
        : function (this: Module, ...args) {
            return adapter.instead!(args, this, inner, share);
          },
    forward,
  );
  const y = compute.call(layer, x, ...rest);
  const result = chosen.reduce((after, { adapter, share }) => adapter.after(after, x, layer, share), y);
  return result instanceof Tensor && chosen.length > 0 ? checkpointName(result, "linear") : result;
}

/** The prototype of the adapted layers of a class. */
function prototypeOf(layer: Module): object {
  const base = Object.getPrototypeOf(layer) as object;
  if (adaptedClasses.has(base)) return base;
  const known = classes.get(base);
  if (known !== undefined) return known;
  const title = `Adapted${base.constructor.name}`;
  // A constructor of its own, by which trees know classes apart.
  const { [title]: made } = { [title]: class {} };
  const { forward, attend } = base as { forward?: Forward; attend?: (x: Tensor) => Tensor };
  const adapted: object = Object.create(base, {
    constructor: { value: made },
    ...(forward !== undefined && {
      forward: {
        value(this: AdaptedLayer, ...args: unknown[]) {
          return run(this, forward, args);
        },
      },
    }),
    ...(attend !== undefined && {
      attend: {
        value(this: AdaptedLayer, x: Tensor) {
          const adapters = this.active.flatMap((name) => this.adapters[name] ?? []);
          return adapters.reduce((y, adapter) => adapter.attended(y, x), attend.call(this, x));
        },
      },
    }),
  });
  if ("lead" in base) {
    Object.defineProperty(adapted, "lead", {
      get(this: AdaptedLayer) {
        const leads = this.active.flatMap((name) => this.adapters[name]?.lead?.() ?? []);
        return leads.at(-1);
      },
    });
  }
  classes.set(base, adapted);
  adaptedClasses.add(adapted);
  return adapted;
}

/** A copy of a module: of its fields and of what they are declared to be. */
export function copyModule<M extends Module>(
  module: M,
  prototype: object = Object.getPrototypeOf(module),
): M {
  const copy = Object.create(prototype) as M;
  Object.assign(copy, module);
  for (const symbol of Object.getOwnPropertySymbols(module))
    Object.defineProperty(copy, symbol, Object.getOwnPropertyDescriptor(module, symbol)!);
  return copy;
}

/** The layer with an adapter more, which is computed; what it keeps of the layer keeps its values. */
export function withAdapter<L extends Module>(layer: L, name: string, adapter: Adapter): L & AdaptedLayer {
  const before = isAdapted(layer) ? layer : undefined;
  return Object.assign(copyModule(layer, prototypeOf(layer)), {
    adapters: { ...before?.adapters, [name]: adapter },
    active: [name],
    shares: [1],
    mixed: null,
  });
}

/** The layer without its adapters, of its own class again. */
export function bareLayer<L extends Module>(layer: L & AdaptedLayer): L {
  const bare = copyModule<Module>(layer, Object.getPrototypeOf(Object.getPrototypeOf(layer)) as object);
  for (const field of ["adapters", "active", "shares", "mixed"] as const)
    delete (bare as Partial<AdaptedLayer>)[field];
  return bare as L;
}

/** Everything below a module is trained, or is not; what is no parameter stays what it is. */
export function marked<M extends Module>(module: M, kind: "parameter" | "frozen"): M {
  const visit = <T>(value: T): T => {
    if (Array.isArray(value)) return value.map(visit) as T;
    if (!(value instanceof Module)) {
      const plain =
        typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
      return plain
        ? (Object.fromEntries(Object.entries(value).map(([name, field]) => [name, visit(field)])) as T)
        : value;
    }
    const copy = copyModule<Module>(value);
    const fields = copy as unknown as Record<string, unknown>;
    for (const [name, field] of Object.entries(value)) fields[name] = visit(field);
    const own = Object.entries(value.ownParameters).filter(
      ([, spec]) => spec.kind === "parameter" || spec.kind === "frozen",
    );
    redeclare(copy, Object.fromEntries(own.map(([name]) => [name, kind])));
    return copy as T;
  };
  return visit(module);
}

/** Adapters are known by names that may stand in a path. */
export function checkName(operation: string, name: string): void {
  if (typeof name === "string" && /^[A-Za-z_][\w-]*$/.test(name)) return;
  throw new ArgumentError(
    `${operation}: the adapter's name is ${JSON.stringify(name)}`,
    "give letters, digits, _ and -, beginning with a letter",
  );
}
