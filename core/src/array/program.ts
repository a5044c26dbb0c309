/** From traced outputs to a compiled program: closing over computed values, lowering, and the cache of compiled programs. */
import { TraceError } from "../graph/errors.js";
import { type HostArray, hostArray, parameter } from "../graph/leaves.js";
import { type LoweredModule, lower } from "../graph/lowering.js";
import { fromSharding, type Mesh, type Placement, replicated, toSharding } from "../graph/mesh.js";
import { type Graph, operandsOf, reachable, type Value } from "../graph/node.js";
import { type BufferTag, type DeviceBuffer, type Program, Runtime } from "../runtime/runtime.js";
import type { CompileOptions as CompilerOptions } from "../runtime/types.js";

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
  const { aval, bytes, tag, placement } = value.node.attributes as HostArray;
  const buffer = Runtime.default().put(bytes, {
    shape: aval.shape,
    dtype: aval.dtype,
    sharding: placement && toSharding(placement),
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

/** Where a value lies on a mesh, or will when it is uploaded; undefined if on one device. */
export function placementOf(value: Value): Placement | undefined {
  if (value.node.primitive === hostArray) return (value.node.attributes as HostArray).placement;
  const sharding = value.buffer?.sharding;
  return sharding && fromSharding(sharding);
}

const caches = new WeakMap<Runtime, Map<string, Program>>();

/** Copies of buffers of one device that lie on all devices of a mesh. */
const replicas = new WeakMap<DeviceBuffer, Map<string, DeviceBuffer>>();

function replica(runtime: Runtime, buffer: DeviceBuffer, mesh: Mesh): DeviceBuffer {
  // A copy of what is freed or donated must not be used either: the runtime refuses the buffer.
  if (buffer.state !== "live") return buffer;
  let copies = replicas.get(buffer);
  if (copies === undefined) {
    copies = new Map();
    replicas.set(buffer, copies);
  }
  let copy = copies.get(mesh.key);
  if (copy === undefined || copy.state !== "live") {
    copy = runtime.copy(buffer, toSharding(replicated(mesh, buffer)));
    copies.set(mesh.key, copy);
  }
  return copy;
}

export interface CompileOptions {
  readonly name?: string;
  readonly donated?: readonly number[];
  /** What the outputs hold, for the account of device memory. */
  readonly tags?: readonly (BufferTag | undefined)[];
  /** Where the parameters lie, and where the outputs are to. */
  readonly parameters?: readonly (Placement | undefined)[];
  readonly outputs?: readonly (Placement | undefined)[];
  readonly compiler?: CompilerOptions;
}

/**
 * On GPUs products of FP8 are cuBLASLt's: XLA would try Triton's kernels for each of them too, which took minutes for a step of 8 billion
 * parameters, and chose slower ones. What the user says counts.
 */
export function compilerOptions(
  text: string,
  platform: Runtime["platform"],
  given: CompilerOptions | undefined,
): CompilerOptions | undefined {
  if (platform !== "cuda" || !text.includes("xf8E") || !text.includes("stablehlo.dot_general")) return given;
  return { ...given, flags: { xla_gpu_enable_triton_gemm: false, ...given?.flags } };
}

/** A lowered program, compiled once for each runtime process that it meets. */
export class CompiledGraph {
  readonly module: LoweredModule;
  readonly #outputs: readonly Value[];
  readonly #options: CompileOptions;
  readonly #key: string;

  constructor(graph: Graph, runtime: Runtime, options: CompileOptions = {}) {
    this.module = lower(graph, { ...options, platform: runtime.platform });
    this.#outputs = graph.outputs.map(({ shape, dtype }) => ({ shape, dtype }) as Value);
    this.#options = options;
    const { mesh, key } = this.module;
    this.#key = [key, options.tags, mesh?.devices, JSON.stringify(options.compiler)].join("\n");
  }

  program(runtime: Runtime): Program {
    let cache = caches.get(runtime);
    if (cache === undefined) {
      cache = new Map();
      caches.set(runtime, cache);
    }
    let program = cache.get(this.#key);
    if (program === undefined) {
      const { tags = [], name, compiler } = this.#options;
      const { mesh, outputs } = this.module;
      program = runtime.compile({
        text: this.module.text,
        outputs: this.#outputs.map(({ shape, dtype }, i) => {
          const place = outputs[i];
          return { shape, dtype, tag: tags[i], ...(place && { sharding: toSharding(place) }) };
        }),
        ...(mesh && { devices: [...mesh.devices] }),
        name,
        options: compilerOptions(this.module.text, runtime.platform, compiler),
      });
      cache.set(this.#key, program);
    }
    return program;
  }

  execute(runtime: Runtime, inputs: readonly DeviceBuffer[]): DeviceBuffer[] {
    const { mesh } = this.module;
    // A program on a mesh takes what lies on one device as a copy on each.
    const placed = mesh && inputs.map((b) => (b.sharding === undefined ? replica(runtime, b, mesh) : b));
    return runtime.execute(this.program(runtime), placed ?? [...inputs]);
  }
}
