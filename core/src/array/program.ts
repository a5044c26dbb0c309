/** From traced outputs to a compiled program: closing over computed values, lowering, and the cache of compiled programs. */
import { TraceError } from "../graph/errors.js";
import { type HostArray, hostArray, parameter } from "../graph/leaves.js";
import { type LoweredModule, lower } from "../graph/lowering.js";
import { type Graph, operandsOf, reachable, type Value } from "../graph/node.js";
import { type BufferTag, type DeviceBuffer, type Program, Runtime } from "../runtime/runtime.js";

/** A graph whose trailing parameters are values computed outside it. */
export interface ClosedGraph extends Graph {
  /** The values, with buffers, that the trailing parameters stand for. */
  readonly captured: readonly Value[];
}

/**
 * Uploads a host array that is not on the device, or whose runtime was lost; the value then has a buffer like any computed one. Other
 * values are left alone.
 */
export function upload(value: Value): void {
  if (value.node.primitive !== hostArray) return;
  if (value.buffer !== undefined && value.buffer.runtime.lost === undefined) return;
  const { aval, bytes, tag } = value.node.attributes as HostArray;
  const buffer = Runtime.default().put(bytes, {
    shape: aval.shape,
    dtype: aval.dtype,
    tag: tag ?? "data",
    transfer: true,
  });
  value.node.materialize(value.index, buffer);
}

/** Makes every computed value that `outputs` need a parameter. Parameters of other traces are errors. */
export function close(outputs: readonly Value[], parameters: readonly Value[]): ClosedGraph {
  const own = new Set(parameters.map((p) => p.node));
  const captured = new Map<string, Value>();
  const capture = (value: Value): void => {
    captured.set(`${value.node.id}.${value.index}`, value);
  };
  const isLeaf = (value: Value): boolean => {
    if (own.has(value.node)) return true;
    upload(value);
    if (value.buffer !== undefined) {
      capture(value);
      return true;
    }
    if (value.node.primitive === parameter) {
      const at = value.node.site?.toString();
      throw new TraceError(
        `the data of a traced value of ${value.dtype}[${value.shape}] were asked for, or it was kept after its trace ended${at ? ` (traced at ${at})` : ""}`,
        "inside jit, grad, vmap and scan values have no data yet: return them, or compute outside the traced function",
      );
    }
    return false;
  };
  reachable(outputs, isLeaf, operandsOf);
  const values = [...captured.values()];
  return { parameters: [...parameters, ...values], outputs, captured: values };
}

const caches = new WeakMap<Runtime, Map<string, Program>>();

export interface CompileOptions {
  readonly name?: string;
  readonly donated?: readonly number[];
  /** What the outputs hold, for the account of device memory. */
  readonly tags?: readonly (BufferTag | undefined)[];
}

/** A lowered program, compiled once for each runtime process that it meets. */
export class CompiledGraph {
  readonly module: LoweredModule;
  readonly #outputs: readonly Value[];
  readonly #options: CompileOptions;

  constructor(graph: Graph, runtime: Runtime, options: CompileOptions = {}) {
    this.module = lower(graph, { platform: runtime.platform, name: options.name, donated: options.donated });
    this.#outputs = graph.outputs.map(({ shape, dtype }) => ({ shape, dtype }) as Value);
    this.#options = options;
  }

  program(runtime: Runtime): Program {
    let cache = caches.get(runtime);
    if (cache === undefined) {
      cache = new Map();
      caches.set(runtime, cache);
    }
    const tags = this.#options.tags ?? [];
    const key = `${this.module.key}\n${tags.join()}`;
    let program = cache.get(key);
    if (program === undefined) {
      program = runtime.compile({
        text: this.module.text,
        outputs: this.#outputs.map(({ shape, dtype }, i) => ({ shape, dtype, tag: tags[i] })),
        name: this.#options.name,
      });
      cache.set(key, program);
    }
    return program;
  }

  execute(runtime: Runtime, inputs: readonly DeviceBuffer[]): DeviceBuffer[] {
    return runtime.execute(this.program(runtime), [...inputs]);
  }
}
