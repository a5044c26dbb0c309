/** What a program will take, told from its graph: counts of arithmetic, and the memory of what lies between its operations. */
import { itemSize } from "./dtype.js";
import { type Aval, type Graph, type Node, operandsOf, reachable, type Value } from "./node.js";

const bytesOf = ({ shape, dtype }: Aval): number => shape.reduce((n, d) => n * d, 1) * itemSize(dtype);

/** Bytes on the device, of a program that runs on one. */
export interface MemoryEstimate {
  readonly arguments: number;
  readonly outputs: number;
  /** Of the outputs those that take the place of donated arguments. */
  readonly aliased: number;
  /** The largest sum of intermediate values that are needed at one time. */
  readonly temporaries: number;
  /** arguments + outputs - aliased + temporaries. */
  readonly peak: number;
}

/**
 * The memory of a program whose operations run in the order in which they were written, each value from its operation to the last that
 * reads it. Element-wise operations and changes of layout are taken to be computed inside of what reads them, as XLA's fusion does, unless
 * an operation needs them in memory (a matrix product, a loop). XLA's own order, padding and workspaces differ.
 */
export function estimateMemory(graph: Graph, donated: readonly number[] = []): MemoryEstimate {
  const given = graph.parameters.reduce((n, p) => n + bytesOf(p), 0);
  const outputs = graph.outputs.reduce((n, o) => n + bytesOf(o), 0);
  const free = new Map<string, number>();
  const typeOf = ({ shape, dtype }: Aval): string => `${dtype}[${shape}]`;
  for (const output of graph.outputs) free.set(typeOf(output), (free.get(typeOf(output)) ?? 0) + 1);
  let aliased = 0;
  for (const i of donated) {
    const argument = graph.parameters[i];
    if (argument === undefined) continue;
    const left = free.get(typeOf(argument)) ?? 0;
    if (left > 0) aliased += bytesOf(argument);
    free.set(typeOf(argument), left - 1);
  }
  const temporaries = peakOf(graph);
  return { arguments: given, outputs, aliased, temporaries, peak: given + outputs - aliased + temporaries };
}

/** The largest sum of the intermediate values of a graph that are needed at one time, without its parameters and outputs. */
function peakOf(graph: Graph): number {
  const own = new Set<Node>(graph.parameters.map((p) => p.node));
  const nodes = reachable(graph.outputs, (value) => own.has(value.node), operandsOf);
  const results = new Set<Value>(graph.outputs);
  // Values that must be in memory, and when each is read for the last time.
  const stored = new Set<Value>();
  for (const node of nodes) {
    if (node.primitive.fusion === undefined) for (const x of operandsOf(node)) stored.add(x);
    if (node.primitive.fusion !== "element") for (const y of node.outputs) stored.add(y);
  }
  const lastRead = new Map<Value, number>();
  for (const [i, node] of [...nodes.entries()].reverse()) {
    const fused = node.primitive.fusion === "element" && !node.outputs.some((y) => stored.has(y));
    const readers = node.outputs.map((y) => lastRead.get(y) ?? (results.has(y) ? nodes.length : i));
    const at = fused ? Math.max(...readers) : i;
    for (const x of operandsOf(node)) lastRead.set(x, Math.max(lastRead.get(x) ?? 0, at));
  }
  const change = new Float64Array(nodes.length + 2);
  let peak = 0;
  const inside = new Map<number, number>();
  for (const [i, node] of nodes.entries()) {
    for (const y of node.outputs) {
      if (!stored.has(y) || results.has(y)) continue;
      const end = lastRead.get(y);
      if (end === undefined) continue;
      change[i]! += bytesOf(y);
      change[Math.min(end, nodes.length) + 1]! -= bytesOf(y);
    }
    const bodies = node.primitive.bodies?.(node.attributes) ?? [];
    if (bodies.length > 0) inside.set(i, Math.max(...bodies.map(peakOf)));
  }
  let live = 0;
  for (let i = 0; i <= nodes.length; i++) {
    live += change[i]!;
    peak = Math.max(peak, live + (inside.get(i) ?? 0));
  }
  return peak;
}
