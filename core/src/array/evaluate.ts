/** Computing expressions on demand. */
import type { DType } from "../graph/dtype.js";
import { hostArray } from "../graph/leaves.js";
import { lower } from "../graph/lowering.js";
import { type Node, operandsOf, reachable, type Value } from "../graph/node.js";
import { inScope } from "../graph/scope.js";
import { type DeviceBuffer, Runtime } from "../runtime/runtime.js";
import { encode } from "./hostdata.js";
import { CompiledGraph, close, placementOf } from "./program.js";

/**
 * Expressions that differ in their numbers only. Numbers are printed into the program, where the compiler sees them; those that were
 * others the last time become its arguments, so that a loop whose learning rate changes does not compile at every step.
 */
interface Form {
  /** The numbers that the program was compiled with. */
  readonly numbers: readonly (number | bigint | boolean)[];
  /** Positions of the numbers that are arguments. */
  readonly moving: readonly number[];
  readonly compiled: CompiledGraph;
}

const forms = new WeakMap<Runtime, Map<string, Form>>();

const numberOf = (value: Value): number | bigint | boolean =>
  value.node.attributes.value as number | bigint | boolean;

/**
 * Queues one program that computes all of `values` that have no buffer yet. Afterwards each has one, though perhaps not computed: an
 * error of the device surfaces at the next await of its data.
 */
export function materialize(values: readonly Value[]): void {
  if (values.every(isComputed)) return;
  const { outputs, captured } = close(values, []);
  const seen = new Set<Value>();
  const pending = outputs.filter((v) => v.buffer === undefined && !seen.has(v) && seen.add(v));
  if (pending.length === 0) return;
  const runtime = Runtime.default();
  const found = new Set(captured.map((value) => value.node));
  const nodes = reachable(pending, ({ node }) => found.has(node), operandsOf);
  pending.push(...neededAgain(nodes, pending));
  const constants = nodes
    .filter(({ primitive }) => primitive.name === "constant")
    .map((node) => node.outputs[0]!);
  const { compiled, moving } = formOf(pending, captured, constants, runtime);
  const arguments_ = moving.map((i) => putNumber(runtime, constants[i]!));
  const results = compiled.execute(runtime, [...captured.map(bufferOf), ...arguments_]);
  for (const buffer of arguments_) buffer.free();
  for (const [i, value] of pending.entries()) value.node.materialize(value.index, results[i]!);
  for (const node of nodes) node.ran = true;
}

/**
 * What earlier programs computed on the way and did not keep, and new operations need again: kept from now on. Without it a loop that asks for its
 * loss only, never for its parameters, would compile and run all its steps so far at each step.
 *
 * @param nodes - those that a program is about to compute, in topological order
 */
function neededAgain(nodes: readonly Node[], asked: readonly Value[]): Value[] {
  // What a scope computes is freed at its end, and these may be of outside.
  if (inScope() || !nodes.some(({ ran }) => ran)) return [];
  const cheap = new Set<Node>();
  const within = new Set(nodes);
  const kept = new Set<Value>();
  const known = new Set(asked);
  for (const node of nodes) {
    const operands = operandsOf(node);
    // Written from constants alone: computing it again costs nothing.
    if (node.primitive.fusion === "element" || operands.length === 0) {
      if (operands.every((x) => cheap.has(x.node))) cheap.add(node);
    }
    if (node.ran) continue;
    for (const x of operands)
      if (x.node.ran && within.has(x.node) && !cheap.has(x.node) && !known.has(x)) kept.add(x);
  }
  return [...kept];
}

/** Whether a value has a buffer; an array of the host's whose runtime was lost is uploaded again. */
function isComputed(value: Value): boolean {
  const { buffer } = value;
  return buffer !== undefined && (value.node.primitive !== hostArray || buffer.runtime.lost === undefined);
}

/** The program for an expression of this form, compiled anew where a number is another that was the same until now. */
function formOf(
  outputs: readonly Value[],
  captured: readonly Value[],
  constants: readonly Value[],
  runtime: Runtime,
): Form {
  let known = forms.get(runtime);
  if (known === undefined) {
    known = new Map();
    forms.set(runtime, known);
  }
  const options = { name: "expression", parameters: captured.map(placementOf) };
  const open = { parameters: [...captured, ...constants], outputs };
  const key =
    lower(open, { ...options, platform: runtime.platform }).key +
    options.parameters.map((p) => p?.mesh.devices);
  const numbers = constants.map(numberOf);
  const last = known.get(key);
  const differing = numbers.flatMap((x, i) =>
    last !== undefined && !Object.is(x, last.numbers[i]) ? [i] : [],
  );
  if (last !== undefined && differing.every((i) => last.moving.includes(i))) return last;
  const moving = [...new Set([...(last?.moving ?? []), ...differing])].sort((a, b) => a - b);
  const graph = { parameters: [...captured, ...moving.map((i) => constants[i]!)], outputs };
  const form = { numbers, moving, compiled: new CompiledGraph(graph, runtime, options) };
  known.set(key, form);
  return form;
}

function putNumber(runtime: Runtime, value: Value): DeviceBuffer {
  const { dtype } = value;
  const bytes = encode(scalarElements(numberOf(value), dtype), dtype);
  return runtime.put(bytes, { shape: [], dtype, tag: "data", transfer: true });
}

function scalarElements(value: number | bigint | boolean, dtype: DType): (number | bigint)[] {
  const number = typeof value === "boolean" ? Number(value) : value;
  return dtype === "complex64" ? [number, 0] : [number];
}

/** The buffer of a computed value. */
export function bufferOf(value: Value): DeviceBuffer {
  const { buffer } = value;
  if (buffer === undefined) throw new Error(`${value.node.primitive.name} has not been computed`);
  return buffer;
}

/** The bytes of a computed value. */
export function fetch(value: Value): Promise<Uint8Array> {
  const buffer = bufferOf(value);
  return buffer.runtime.get(buffer);
}
