/** Printing a graph as a StableHLO module: readable, deterministic text with the user's locations. */
import { type DType, mlirType } from "./dtype.js";
import { ArgumentError, AronnaxError, TraceError } from "./errors.js";
import { parameter } from "./leaves.js";
import {
  localAval,
  type Mesh,
  meshText,
  type Placement,
  placementKey,
  replicated,
  shardingText,
} from "./mesh.js";
import { type Application, type Aval, type Graph, type Node, operandsOf, reachable, Value } from "./node.js";
import { propagate } from "./placements.js";
import type { Site } from "./site.js";

export type Platform = "cpu" | "cuda";

export interface LoweringOptions {
  readonly platform: Platform;
  readonly name?: string;
  /** Parameters whose buffer an output may take over (indices). */
  readonly donated?: readonly number[];
  /** Where the parameters lie; those without a placement are replicated if the program runs on a mesh. */
  readonly parameters?: readonly (Placement | undefined)[];
  /** Where the outputs are to lie; by default as `propagate` says. */
  readonly outputs?: readonly (Placement | undefined)[];
}

/** A printed module. */
export class LoweredModule {
  /** The module without locations: equal for programs that differ only in where they were written. */
  readonly key: string;
  /** Number of operations printed, after common subexpressions were merged. */
  readonly operations: number;
  /** Arithmetic operations of one run, on all devices together. */
  readonly flops: number;
  /** The mesh that it runs on, if it runs on several devices. */
  readonly mesh: Mesh | undefined;
  /** Where each output lies, on a mesh. */
  readonly outputs: readonly (Placement | undefined)[];
  readonly #withLocations: () => string;
  #text: string | undefined;

  constructor(
    key: string,
    operations: number,
    flops: number,
    mesh: Mesh | undefined,
    outputs: readonly (Placement | undefined)[],
    withLocations: () => string,
  ) {
    this.key = key;
    this.operations = operations;
    this.flops = flops;
    this.mesh = mesh;
    this.outputs = outputs;
    this.#withLocations = withLocations;
  }

  /** The module with locations. */
  get text(): string {
    this.#text ??= this.#withLocations();
    return this.#text;
  }
}

export function tensorType(aval: Aval): string {
  if (!(aval instanceof Value)) return typeText(aval);
  aval.mlir ??= typeText(aval);
  return aval.mlir;
}

function typeText(aval: Aval): string {
  const dims = aval.shape.length === 0 ? "" : `${aval.shape.join("x")}x`;
  return `tensor<${dims}${mlirType(aval.dtype)}>`;
}

export function scalarType(dtype: DType): string {
  return `tensor<${mlirType(dtype)}>`;
}

/** `(tensor<..>, tensor<..>) -> tensor<..>`, parenthesised where there are several results. */
export function functionType(inputs: readonly Aval[], outputs: readonly Aval[]): string {
  const results = outputs.map(tensorType).join(", ");
  return `(${inputs.map(tensorType).join(", ")}) -> ${outputs.length === 1 ? results : `(${results})`}`;
}

const isParameter = (value: Value) => value.node.primitive === parameter;

/** What a graph being written has given names to, and the names of its region's operations by their text. */
interface Scope {
  readonly names: Map<Node, readonly string[]>;
  readonly merged: Map<string, readonly string[]>;
}

/** Writes a region's operations; returns what the region yields. */
type RegionWriter = () => readonly [names: readonly string[], types: readonly Aval[]];

/** What a primitive's lowering rule writes with. */
export class Lowering {
  readonly platform: Platform;
  #mesh: Mesh | undefined;
  #next = 0;
  #operations = 0;
  #flops = 0;
  #indent = "    ";
  readonly #lines: string[] = [];
  /** The index of each line's location, or -1 for a line without. */
  readonly #lineLocations: number[] = [];
  readonly #locations = new Map<Site | undefined, number>();
  #location = 0;
  #pure = true;
  #helpers = new Map<string, string>();
  #scope: Scope = { names: new Map(), merged: new Map() };

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** The mesh that the program runs on, as far as it is known. */
  get mesh(): Mesh | undefined {
    return this.#mesh;
  }

  /** Makes the program one for `mesh`. A program runs on one mesh only. */
  useMesh(mesh: Mesh): void {
    this.#mesh ??= mesh;
    if (this.#mesh.key !== mesh.key) {
      throw new ArgumentError(
        `values on two meshes meet in one program: ${this.#mesh} and ${mesh}`,
        "place them on one mesh first, with distribute()",
      );
    }
  }

  /**
   * Writes one operation (text after `=`) and returns the names of its results. An operation that the region has already, on the same
   * operands, is not written again.
   */
  emit(operation: string, results = 1): readonly string[] {
    const { merged } = this.#scope;
    const known = this.#pure ? merged.get(operation) : undefined;
    if (known !== undefined) return known;
    const name = `%${this.#next++}`;
    this.#line(results === 1 ? `${name} = ${operation}` : `${name}:${results} = ${operation}`);
    this.#operations++;
    const names = results === 1 ? [name] : Array.from({ length: results }, (_, i) => `${name}#${i}`);
    if (this.#pure) merged.set(operation, names);
    return names;
  }

  /** Runs `write`, whose operations run `times` as often as those around it: for the count of arithmetic. */
  repeated<R>(times: number, write: () => R): R {
    const around = this.#flops;
    this.#flops = 0;
    const result = write();
    this.#flops = around + times * this.#flops;
    return result;
  }

  /** A scalar constant, written once a region. */
  constant(literal: string, dtype: DType): string {
    const pure = this.#pure;
    this.#pure = true;
    const [name] = this.emit(`stablehlo.constant dense<${literal}> : ${scalarType(dtype)}`);
    this.#pure = pure;
    return name!;
  }

  /**
   * Writes an operation with regions: `header`, then for each region its `head` and operations, and `}` with `footer` after the last.
   * A region's `write` returns what the region yields. Returns the names of the operation's results. Of regions of which one is run the
   * dearest counts.
   */
  withRegions(
    header: string,
    regions: readonly {
      readonly head: string;
      readonly write: RegionWriter;
    }[],
    footer: string,
    results: number,
    runs: "all" | "one" = "all",
  ): readonly string[] {
    const costs: number[] = [];
    const name = `%${this.#next++}`;
    this.#operations++;
    this.#raw(`${results === 1 ? name : `${name}:${results}`} = ${header}`);
    for (const [i, { head, write }] of regions.entries()) {
      if (i > 0 || head !== "") this.#raw(`${i === 0 ? "" : "}"}${head}`);
      const around = this.#flops;
      this.#region("stablehlo.return", write);
      costs.push(this.#flops - around);
      this.#flops = around;
    }
    this.#flops += runs === "one" ? Math.max(0, ...costs) : costs.reduce((n, cost) => n + cost, 0);
    this.#line(`}${footer}`);
    return results === 1 ? [name] : Array.from({ length: results }, (_, i) => `${name}#${i}`);
  }

  /**
   * Writes what each device computes from its own parts, which the compiler then does not split itself (Shardy's manual computation). The
   * placements say which part of each operand and result a device has; `write` gets the operands' names and returns the results'.
   */
  manual(
    operands: readonly (readonly [name: string, aval: Aval, place: Placement])[],
    results: readonly (readonly [aval: Aval, place: Placement])[],
    write: (names: readonly string[], inputs: readonly Aval[], outputs: readonly Aval[]) => readonly string[],
  ): readonly string[] {
    const places = [...operands.map(([, , place]) => place), ...results.map(([, place]) => place)];
    const axes = [...new Set(places.flatMap(({ spec }) => spec.flat()))].map((axis) => `"${axis}"`);
    const inputs = operands.map(([, aval, place]) => localAval(aval, place));
    const outputs = results.map(([aval, place]) => localAval(aval, place));
    const names = inputs.map(() => this.fresh("part"));
    const arguments_ = names.map((name, i) => `${name}: ${tensorType(inputs[i]!)}`).join(", ");
    const shardings = (list: readonly Placement[]): string => `[${list.map(shardingText).join(", ")}]`;
    const name = `%${this.#next++}`;
    this.#operations++;
    this.#raw(
      `${results.length === 1 ? name : `${name}:${results.length}`} = sdy.manual_computation(${operands.map(([operand]) => operand).join(", ")}) ` +
        `in_shardings=${shardings(places.slice(0, operands.length))} out_shardings=${shardings(places.slice(operands.length))} ` +
        `manual_axes={${axes.join(", ")}} (${arguments_}) {`,
    );
    const devices = places[0]!.mesh.devices.length;
    this.#region("sdy.return", () => [this.repeated(devices, () => write(names, inputs, outputs)), outputs]);
    const types = results.map(([aval]) => tensorType(aval)).join(", ");
    this.#line(`} : (${operands.map(([, aval]) => tensorType(aval)).join(", ")}) -> (${types})`);
    return results.length === 1 ? [name] : results.map((_, i) => `${name}#${i}`);
  }

  /** Writes a region's operations, in a scope of their own, and its terminator. */
  #region(terminator: string, write: RegionWriter): void {
    const outer = this.#scope;
    const indent = this.#indent;
    this.#scope = { names: new Map(), merged: new Map() };
    this.#indent += "  ";
    const [names, types] = write();
    this.#raw(`${terminator} ${names.join(", ")} : ${types.map(tensorType).join(", ")}`);
    this.#scope = outer;
    this.#indent = indent;
  }

  #raw(line: string): void {
    this.#lines.push(this.#indent + line);
    this.#lineLocations.push(-1);
  }

  fresh(prefix: string): string {
    return `%${prefix}${this.#next++}`;
  }

  /** A private function of the module, written once however often it is asked for; returns its symbol. */
  helper(name: string, text: () => string): string {
    if (!this.#helpers.has(name)) this.#helpers.set(name, text());
    return `@${name}`;
  }

  /** Writes a graph here, its parameters standing for `operands`; returns the names of its outputs. */
  inline(graph: Graph, operands: readonly string[]): readonly string[] {
    const around = this.#scope;
    this.#scope = { names: new Map(), merged: around.merged };
    for (const [i, p] of graph.parameters.entries()) this.#bind(p, operands[i]!);
    const isLeaf = (value: Value): boolean => this.#known(value) || isParameter(value);
    for (const node of reachable(graph.outputs, isLeaf, operandsOf)) this.#emitNode(node);
    const names = graph.outputs.map((value) => this.name(value));
    this.#scope = around;
    return names;
  }

  name(value: Value): string {
    const name = this.#scope.names.get(value.node)?.[value.index];
    if (name === undefined) {
      const at = value.node.site?.toString();
      throw new TraceError(
        `a value of ${value.node.primitive.name}${at ? ` (${at})` : ""} belongs to another trace`,
        "return it from the traced function, or pass it in as an argument, instead of keeping it in an outer variable",
      );
    }
    return name;
  }

  #known(value: Value): boolean {
    return this.#scope.names.get(value.node)?.[value.index] !== undefined;
  }

  #bind(value: Value, name: string): void {
    const { names } = this.#scope;
    const known = [...(names.get(value.node) ?? [])];
    known[value.index] = name;
    names.set(value.node, known);
  }

  #line(text: string): void {
    this.#lines.push(this.#indent + text);
    this.#lineLocations.push(this.#location);
  }

  #emitNode(node: Node): void {
    const { names } = this.#scope;
    const operands = operandsOf(node).map((value) => this.name(value));
    const [location, pure] = [this.#location, this.#pure];
    this.#location = this.#locationOf(node.site);
    this.#pure = node.primitive.pure !== false;
    const [operations, flops] = [this.#operations, this.#flops];
    let results: readonly string[];
    try {
      results = node.primitive.lower(this, node, operands);
    } catch (error) {
      if (error instanceof AronnaxError) throw error;
      throw new Error(`lowering ${node.primitive.name} failed`, { cause: error });
    }
    if (this.#operations > operations && this.#flops === flops)
      this.#flops += node.primitive.flops?.(node as Application) ?? 0;
    this.#location = location;
    this.#pure = pure;
    names.set(node, results);
  }

  #locationOf(site: Site | undefined): number {
    let index = this.#locations.get(site);
    if (index === undefined) {
      index = this.#locations.size;
      this.#locations.set(site, index);
    }
    return index;
  }

  /** Writes the whole module. */
  module(graph: Graph, options: LoweringOptions): LoweredModule {
    for (const given of [...(options.parameters ?? []), ...(options.outputs ?? [])]) {
      if (given !== undefined) this.useMesh(given.mesh);
    }
    const operands = graph.parameters.map((_, i) => `%arg${i}`);
    const names = this.inline(graph, operands);
    const mesh = this.#mesh;
    const places = mesh === undefined ? undefined : this.#places(graph, mesh, options);
    const donated = donation(graph, options.donated ?? [], places);
    const parameters = graph.parameters.map(
      (p, i) => `%arg${i}: ${tensorType(p)}${attributes(donated[i], places?.parameters[i])}`,
    );
    const types = graph.outputs.map(tensorType).join(", ");
    const results = graph.outputs.map(
      (o, i) => `${tensorType(o)}${attributes(undefined, places?.outputs[i])}`,
    );
    const name = (options.name ?? "main").replaceAll(/[^A-Za-z0-9_]/g, "_") || "main";
    const declared = mesh === undefined ? "" : `  ${meshText(mesh)}\n`;
    const head = `module @${name} {\n${declared}  func.func public @main(${parameters.join(", ")}) -> (${results.join(", ")}) {\n`;
    const tail = `    return ${names.join(", ")} : ${types}\n  }\n${[...this.#helpers.values()].join("")}}\n`;
    const lines = this.#lines;
    const at = this.#lineLocations;
    const locations = [...this.#locations.keys()];
    const text = `${head}${lines.join("\n")}\n${tail}`;
    return new LoweredModule(text, this.#operations, this.#flops, mesh, places?.outputs ?? [], () => {
      const located = lines.map((line, i) => (at[i]! < 0 ? line : `${line} loc(#loc${at[i]})`));
      const table = locations.map((site, i) => `#loc${i} = loc(${locationText(site)})\n`);
      return `${head}${located.join("\n")}\n${tail}${table.join("")}`;
    });
  }

  /** Where parameters and outputs lie on the mesh. */
  #places(graph: Graph, mesh: Mesh, options: LoweringOptions): Places {
    const parameters = graph.parameters.map((p, i) => options.parameters?.[i] ?? replicated(mesh, p));
    const found = propagate(graph, parameters);
    return {
      parameters,
      outputs: graph.outputs.map((o, i) => options.outputs?.[i] ?? found[i] ?? replicated(mesh, o)),
    };
  }
}

function locationText(site: Site | undefined): string {
  const at = site?.location;
  if (at === undefined) return "unknown";
  return `"${at.file.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}":${at.line}:${at.column}`;
}

/**
 * Argument attributes for donation: a donated argument aliases the first output of its type that none has taken yet, else its memory is
 * free for temporaries.
 */
function donation(
  graph: Graph,
  donated: readonly number[],
  places: Places | undefined,
): (string | undefined)[] {
  const taken = new Set<number>();
  const found: (string | undefined)[] = [];
  const typeOf = (aval: Aval, place: Placement | undefined): string =>
    tensorType(aval) + (place === undefined ? "" : placementKey(place));
  for (const i of donated) {
    const aval = graph.parameters[i];
    if (aval === undefined) continue;
    const type = typeOf(aval, places?.parameters[i]);
    const output = graph.outputs.findIndex((o, k) => !taken.has(k) && typeOf(o, places?.outputs[k]) === type);
    if (output >= 0) taken.add(output);
    found[i] = output >= 0 ? `tf.aliasing_output = ${output} : i32` : "jax.buffer_donor = true";
  }
  return found;
}

interface Places {
  readonly parameters: readonly Placement[];
  readonly outputs: readonly Placement[];
}

/** The attributes of an argument or result. */
function attributes(donated: string | undefined, place: Placement | undefined): string {
  const sharded = place && `sdy.sharding = #sdy.sharding${shardingText(place)}`;
  const found = [sharded, donated].filter((text) => text !== undefined);
  return found.length === 0 ? "" : ` {${found.join(", ")}}`;
}

/** Prints `graph` as a StableHLO module for `platform`. */
export function lower(graph: Graph, options: LoweringOptions): LoweredModule {
  return new Lowering(options.platform).module(graph, options);
}
