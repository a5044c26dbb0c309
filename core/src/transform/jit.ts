/** Compiling functions of trees: traced once for each structure, shapes and dtypes; calling queues the work and returns at once. */
import { placeholder } from "../array/bind.js";
import { bufferOf, materialize } from "../array/evaluate.js";
import { CompiledGraph, close, placementOf, upload } from "../array/program.js";
import { fromBuffer } from "../array/storage.js";
import { estimateMemory, type MemoryEstimate } from "../graph/cost.js";
import { ArgumentError } from "../graph/errors.js";
import { tensorType } from "../graph/lowering.js";
import { type Placement, placementKey } from "../graph/mesh.js";
import type { Aval, Value } from "../graph/node.js";
import { tracing } from "../graph/tracing.js";
import { type BufferTag, Runtime } from "../runtime/runtime.js";
import type { CompileOptions } from "../runtime/types.js";
import { refusingUpdates, watchFields } from "./buffers.js";
import { Lowered } from "./lowered.js";
import { trace } from "./tracing.js";
import { type Flat, flatten } from "./tree.js";

export interface JitOptions {
  /** Positions of arguments whose buffers the outputs may take over; they are dead after the call. */
  donate?: readonly number[];
  /** Shown in profiles and errors; default the function's name. */
  name?: string;
  /** What each output holds, by its path in the result, for the account of device memory. */
  tag?: (path: string) => BufferTag | undefined;
  /**
   * Where each output is to lie on a mesh, by its path in the result. By default an output lies as its `shard` says, else as the first
   * value of its shape that it was computed from, else whole on every device of the mesh.
   */
  place?: (path: string, aval: Aval) => Placement | undefined;
  /** How XLA compiles it: `{ optimizationLevel: 1, flags: { xla_gpu_deterministic_ops: true } }`. */
  compiler?: CompileOptions;
  /** It is meant to be traced for many shapes or structures: no warning of it. Default false. */
  manyTraces?: boolean;
}

/** A compiled function. */
export interface Jitted<A extends unknown[], R> {
  (...args: A): R;
  /** Traces and lowers without running. */
  lower(...args: A): Lowered;
  /** How often the function has been traced. */
  readonly traces: number;
}

/** What later calls need of a trace; the traced values themselves are let go. */
interface Entry {
  readonly compiled: CompiledGraph;
  readonly memory: MemoryEstimate;
  readonly captured: readonly Value[];
  /** The outputs' types as text, which the next call's key is made of. */
  readonly types: readonly string[];
  readonly rebuild: (leaves: readonly unknown[]) => unknown;
}

const manyTraces = 16;

/**
 * Compiles `f`. Tensors in its arguments are traced; everything else (numbers, strings, functions) is static: another value traces
 * again. Inside another transform the function is simply called.
 */
export function jit<A extends unknown[], R>(f: (...args: A) => R, options: JitOptions = {}): Jitted<A, R> {
  if (typeof f !== "function") throw new ArgumentError(`jit of ${String(f)}`, "give a function");
  const entries = new Map<string, Entry>();
  const name = options.name ?? (f.name || "jit");

  const enter = (args: A, flat: Flat): Entry => {
    let key = flat.key;
    for (const leaf of flat.leaves) {
      const place = placementOf(leaf);
      key += place === undefined ? tensorType(leaf) : tensorType(leaf) + placementKey(place);
    }
    let entry = entries.get(key);
    if (entry === undefined) {
      entry = build(args, flat);
      entries.set(key, entry);
      if (entries.size === manyTraces && options.manyTraces !== true) {
        console.warn(
          `jit(${name}) has been traced ${manyTraces} times: static arguments or shapes change from call to call. Pass numbers that change as Tensors, and pad shapes.`,
        );
      }
    }
    return entry;
  };

  const build = (args: A, flat: Flat): Entry => {
    const parameters = flat.leaves.map(placeholder);
    const given = flat.rebuild(parameters) as A;
    const check = watchFields(given, "jit");
    const returned = refusingUpdates("jit runs the function once and keeps its program", () =>
      trace("jit", () => f(...given)),
    );
    check(returned);
    const out = flatten(returned);
    const graph = close(out.leaves, parameters);
    for (const value of graph.captured) value.node.pinned = true;
    const donated = donatedLeaves(args, options.donate ?? []);
    const compiled = new CompiledGraph(graph, Runtime.default(), {
      name,
      donated,
      tags: out.paths.map((path) => options.tag?.(path)),
      parameters: [...flat.leaves, ...graph.captured].map(placementOf),
      outputs: out.paths.map((path, i) => {
        const to = options.place?.(path, out.leaves[i]!);
        return to === undefined || to.mesh.count === 1 ? undefined : to;
      }),
      compiler: options.compiler,
    });
    return {
      compiled,
      types: out.leaves.map(tensorType),
      memory: estimateMemory(graph, donated),
      captured: graph.captured,
      rebuild: (leaves) => out.rebuild(leaves),
    };
  };

  const call = (...args: A): R => {
    if (tracing()) return f(...args);
    const flat = flatten(args);
    materialize(flat.leaves);
    const entry = enter(args, flat);
    for (const value of entry.captured) upload(value);
    const inputs = [...flat.leaves, ...entry.captured].map(bufferOf);
    const buffers = entry.compiled.execute(Runtime.default(), inputs);
    const results = buffers.map((buffer, i) => {
      const tensor = fromBuffer(buffer);
      tensor.mlir = entry.types[i];
      return tensor;
    });
    return entry.rebuild(results) as R;
  };

  const lower = (...args: A): Lowered => {
    const entry = enter(args, flatten(args));
    return new Lowered(entry.compiled, entry.memory);
  };

  Object.defineProperty(call, "traces", { get: () => entries.size });
  return Object.assign(call, { lower }) as Jitted<A, R>;
}

/** Positions of the leaves of donated arguments among all leaves. */
function donatedLeaves(args: readonly unknown[], donate: readonly number[]): number[] {
  const donated: number[] = [];
  let at = 0;
  for (const [i, arg] of args.entries()) {
    const count = flatten(arg).leaves.length;
    if (donate.includes(i)) for (let k = 0; k < count; k++) donated.push(at + k);
    at += count;
  }
  for (const i of donate) {
    if (i < 0 || i >= args.length)
      throw new ArgumentError(`jit: donated argument ${i} of a call with ${args.length}`);
  }
  return donated;
}
