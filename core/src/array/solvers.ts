/** Calls of LAPACK (on CPUs) and cuSOLVER (on GPUs) through XLA's foreign function interface, as jax makes them. */
import { functionType, type Lowering, type Platform, tensorType } from "../graph/lowering.js";
import type { Aval, Shape } from "../graph/node.js";
import { literal } from "./creation.js";

/** What a routine is called and told on each platform. */
export type Routine = Record<Platform, { readonly name: string; readonly config: string }>;

/** A routine that has one name and settings everywhere. */
export const routine = (name: string, config = ""): Routine => ({
  cpu: { name, config },
  cuda: { name, config },
});

/**
 * Calls a routine. Matrices, which are the operands and results with as many axes as the first operand, are stored column by column. The
 * first result takes the place of the operand `replaced`.
 */
export function callSolver(
  lowering: Lowering,
  routines: Routine,
  operands: readonly (readonly [name: string, aval: Aval])[],
  results: readonly Aval[],
  replaced = 0,
): readonly string[] {
  const { name, config } = routines[lowering.platform];
  const first = operands[0]![1];
  const rank = first.shape.length;
  const target =
    lowering.platform === "cpu"
      ? `lapack_${first.dtype === "float64" ? "d" : "s"}${name}_ffi`
      : `cusolver_${name}_ffi`;
  const descending = (n: number): number[] => Array.from({ length: n }, (_, i) => n - 1 - i);
  const layout = ({ shape }: Aval): string => {
    const order =
      shape.length === rank ? [rank - 2, rank - 1, ...descending(rank - 2)] : descending(shape.length);
    return `dense<${order.length > 1 ? `[${order.join(", ")}]` : order.join()}> : tensor<${order.length}xindex>`;
  };
  const layouts = (avals: readonly Aval[]): string => avals.map(layout).join(", ");
  const avals = operands.map(([, aval]) => aval);
  const alias = `#stablehlo.output_operand_alias<output_tuple_indices = [${results.length > 1 ? 0 : ""}], operand_index = ${replaced}, operand_tuple_indices = []>`;
  return lowering.emit(
    `stablehlo.custom_call @${target}(${operands.map(([operand]) => operand).join(", ")}) {api_version = 4 : i32, backend_config = {${config}}, operand_layouts = [${layouts(avals)}], output_operand_aliases = [${alias}], result_layouts = [${layouts(results)}]} : ${functionType(avals, results)}`,
    results.length,
  );
}

/** `value` where the routine reported success (0), NaN elsewhere. */
export function nanWhereFailed(
  lowering: Lowering,
  failed: string,
  value: string,
  aval: Aval,
  batch: Shape,
): string {
  const { shape, dtype } = aval;
  const integers: Aval = { shape: batch, dtype: "int32" };
  const flags: Aval = { shape: batch, dtype: "bool" };
  const spread = (name: string, from: Aval, to: Aval): string => {
    const dims = from.shape.map((_, i) => i).join(", ");
    return lowering.emit(
      `stablehlo.broadcast_in_dim ${name}, dims = [${dims}] : ${functionType([from], [to])}`,
    )[0]!;
  };
  const zero = spread(lowering.constant("0", "int32"), { shape: [], dtype: "int32" }, integers);
  const [ok] = lowering.emit(
    `stablehlo.compare EQ, ${failed}, ${zero}, SIGNED : ${functionType([integers, integers], [flags])}`,
  );
  const everywhere: Aval = { shape, dtype: "bool" };
  const nan = spread(lowering.constant(literal(Number.NaN, dtype), dtype), { shape: [], dtype }, aval);
  return lowering.emit(
    `stablehlo.select ${spread(ok!, flags, everywhere)}, ${value}, ${nan} : ${tensorType(everywhere)}, ${tensorType(aval)}`,
  )[0]!;
}
