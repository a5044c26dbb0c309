/** Computing expressions on demand. */
import type { DType } from "../graph/dtype.js";
import { lower } from "../graph/lowering.js";
import { operandsOf, reachable, type Value } from "../graph/node.js";
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
  const { outputs, captured } = close(values, []);
  const seen = new Set<Value>();
  const pending = outputs.filter((v) => v.buffer === undefined && !seen.has(v) && seen.add(v));
  if (pending.length === 0) return;
  const runtime = Runtime.default();
  const found = new Set(captured.map((value) => value.node));
  const constants = reachable(pending, ({ node }) => found.has(node), operandsOf)
    .filter(({ primitive }) => primitive.name === "constant")
    .map((node) => node.outputs[0]!);
  const { compiled, moving } = formOf(pending, captured, constants, runtime);
  const arguments_ = moving.map((i) => putNumber(runtime, constants[i]!));
  const results = compiled.execute(runtime, [...captured.map(bufferOf), ...arguments_]);
  for (const buffer of arguments_) buffer.free();
  for (const [i, value] of pending.entries()) value.node.materialize(value.index, results[i]!);
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
