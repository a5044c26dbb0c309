/** Calls of compiled functions by name: what XLA or its plug-ins register, and the user's own (XLA's FFI). */
import { functionType, type Platform } from "../graph/lowering.js";
import type { Aval } from "../graph/node.js";
import { bindAll, type Op } from "./bind.js";
import type { Tensor } from "./tensor.js";

/** The target and its settings; a value is a number with its MLIR type, a boolean, or a text. */
export interface CustomCallTarget {
  readonly name: string;
  readonly config?: Readonly<Record<string, boolean | string | readonly [value: number, type: string]>>;
}

/** For each operand and result its axes from the fastest varying to the slowest. */
interface Layouts {
  readonly inputs: readonly (readonly number[])[];
  readonly outputs: readonly (readonly number[])[];
}

interface CustomCallAttributes {
  readonly [name: string]: unknown;
  readonly target: CustomCallTarget | ((platform: Platform) => CustomCallTarget);
  readonly outputs: readonly Aval[];
  readonly layouts: Layouts | undefined;
}

const customCallPrimitive: Op<CustomCallAttributes> = {
  name: "custom_call",
  pure: false,
  shape: (_, { outputs }) => outputs,
  lower(lowering, { inputs, outputs, attributes: { target, layouts } }, names) {
    const { name, config = {} } = typeof target === "function" ? target(lowering.platform) : target;
    const settings = Object.entries(config).map(([key, value]) => {
      if (typeof value === "boolean") return `${key} = ${value}`;
      return `${key} = ${typeof value === "string" ? JSON.stringify(value) : `${value[0]} : ${value[1]}`}`;
    });
    const layout = (axes: readonly number[]): string =>
      `dense<${axes.length === 0 ? "" : `[${axes.join(", ")}]`}> : tensor<${axes.length}xindex>`;
    const rowMajor = (list: readonly Aval[]): number[][] =>
      list.map(({ shape }) => [...shape.keys()].reverse());
    const given = (layouts?.inputs ?? rowMajor(inputs)).map(layout).join(", ");
    const taken = (layouts?.outputs ?? rowMajor(outputs)).map(layout).join(", ");
    return lowering.emit(
      `stablehlo.custom_call @${name}(${names.join(", ")}) {api_version = 4 : i32, backend_config = {${settings.join(", ")}}, operand_layouts = [${given}], result_layouts = [${taken}]} : ${functionType(inputs, outputs)}`,
      outputs.length,
    );
  },
};

/**
 * Calls a function that is registered with XLA under `target` (FFI, version 4), or the one a platform has. It has no derivative: give it
 * one with `customVjp`.
 *
 * @param outputs - shapes and dtypes of its results
 * @param layouts - how the operands and results lie in memory; default row-major
 */
export function customCall(
  target: CustomCallAttributes["target"],
  inputs: readonly Tensor[],
  outputs: readonly Aval[],
  layouts?: Layouts,
): readonly Tensor[] {
  return bindAll(customCallPrimitive, inputs, { target, outputs, layouts });
}
