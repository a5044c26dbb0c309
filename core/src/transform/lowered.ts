/** What `jit(f).lower()` gives: the program as text, and what it will cost. */
import type { CompiledGraph } from "../array/program.js";
import type { MemoryEstimate } from "../graph/cost.js";
import { type ProgramInfo, Runtime } from "../runtime/runtime.js";
import { bytesText } from "./bytes.js";

/** Of a longer program a notebook shows the first lines. */
const shownLines = 60;

/** A traced and lowered function, before it runs. Shown in a notebook, its costs and its text. */
export class Lowered {
  /** Operations printed. */
  readonly operations: number;
  /**
   * Arithmetic operations of one run, on all devices together: 2 for each product of a matrix product or convolution, 1 for each element
   * of an element-wise operation, loops as often as they run (a `whileLoop` once). docs/array-language.md has the whole list.
   */
  readonly flops: number;
  readonly #compiled: CompiledGraph;

  constructor(
    compiled: CompiledGraph,
    /** What it will need on the device, before XLA has seen it; `compile()` has the compiler's own account. */
    readonly memory: MemoryEstimate,
  ) {
    const { operations, flops } = compiled.module;
    this.operations = operations;
    this.flops = flops;
    this.#compiled = compiled;
  }

  /** StableHLO text with the user's locations. */
  get text(): string {
    return this.#compiled.module.text;
  }

  /** Compiles; resolves to the compiler's account of memory, operations and time. */
  compile(): Promise<ProgramInfo> {
    return this.#compiled.program(Runtime.default()).info;
  }

  /** The costs in a line, then the text without its locations. */
  toString(): string {
    const { memory } = this;
    const parts = ["arguments", "outputs", "aliased", "temporaries"] as const;
    const costs =
      `${this.operations.toLocaleString("en")} operations, ${this.flops.toLocaleString("en")} FLOPs, ` +
      `${bytesText(memory.peak)} on the device (${parts.map((part) => `${part} ${bytesText(memory[part])}`).join(", ")})`;
    const lines = this.#compiled.module.key.trimEnd().split("\n");
    const rest = lines.length - shownLines;
    const shown =
      rest > 1 ? [...lines.slice(0, shownLines), `... ${rest} more lines: text has them all`] : lines;
    return `${costs}\n${shown.join("\n")}`;
  }

  [Symbol.for("Jupyter.display")](): Record<string, unknown> {
    return { "text/plain": this.toString() };
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}
