/** `aronnax verify FOLDER`: whether a checkpoint computes here what it computed where it was made. */
import { parseArgs } from "node:util";
import { ArgumentError, AronnaxError } from "../graph/errors.js";
import { Runtime } from "../runtime/runtime.js";
import type { VerifyReport } from "./verify.js";

export const verifyUsage = `aronnax verify FOLDER... [--adapter DIR] [--tolerance 1e-5] [--json]

  FOLDER            a checkpoint that transformers saved, with reference.safetensors beside it (docs/verify.md)
  --adapter DIR     an adapter that PEFT saved, laid over the checkpoint
  --tolerance 1e-5  largest relative L2 error of an output, the loss or a gradient
  --json            prints the report as JSON: of several folders a list

Computes in float32 on the CPU. Ends with 0 if everything is within the tolerance, else with 1.`;

/** @returns the exit status: 0 everything holds, 1 something does not */
export async function verifyCommand(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      adapter: { type: "string" },
      tolerance: { type: "string", default: "1e-5" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help || positionals.length === 0) {
    console.log(`usage: ${verifyUsage}`);
    return values.help ? 0 : 2;
  }
  const tolerance = Number(values.tolerance);
  if (!(tolerance > 0))
    throw new ArgumentError(`--tolerance is ${values.tolerance}`, "give a positive number, such as 1e-5");
  // A GPU's products are rounded otherwise; a runtime of its own serves the CPU.
  process.env.ARONNAX_DEVICES = "cpu";
  const { verify } = await import("./verify.js");
  const done: (VerifyReport | { folder: string; holds: false; error: string; fix?: string })[] = [];
  try {
    for (const folder of positionals) {
      try {
        const report = await verify(folder, { tolerance, adapter: values.adapter });
        if (!values.json) console.log(describeReport(report));
        done.push(report);
      } catch (error) {
        if (!(error instanceof AronnaxError)) throw error;
        const { message, fix } = error;
        if (!values.json)
          console.error(`${folder}\nerror: ${message}${fix === undefined ? "" : `\n  fix: ${fix}`}`);
        done.push({ folder, holds: false, error: message, ...(fix !== undefined && { fix }) });
      }
    }
  } finally {
    Runtime.default().close();
  }
  if (values.json) console.log(JSON.stringify(done.length === 1 ? done[0] : done, null, 2));
  return done.every(({ holds }) => holds) ? 0 : 1;
}

/** The report as text, what differs most first. */
export function describeReport(report: VerifyReport): string {
  const { folder, architecture, parameters, comparisons, small, gradientNorm, tolerance, way } = report;
  const lines = [`${folder}: ${architecture}, ${parameters.toLocaleString("en")} parameters`];
  if (way !== undefined) lines.push(`  computed so: ${way}`);
  for (const { kind, name, error, holds } of comparisons)
    lines.push(
      `  ${error.toExponential(2).padStart(9)}  ${kind === "loss" ? kind : `${kind} ${name}`}${mark(holds)}`,
    );
  if (small.length > 0) {
    lines.push(`  below 1e-6 of the gradients' norm (${gradientNorm!.toExponential(2)}), there and here:`);
    for (const { name, reference, ours, holds } of small)
      lines.push(
        `  ${reference.toExponential(2).padStart(9)} ${ours.toExponential(2).padStart(9)}  gradient ${name}${mark(holds)}`,
      );
  }
  const failed = [...comparisons, ...small].filter(({ holds }) => !holds).length;
  const all = comparisons.length + small.length;
  lines.push(
    failed === 0
      ? `  holds: all ${all} within ${tolerance}`
      : `  does not hold: ${failed} of ${all} beyond ${tolerance}, the worst ${comparisons[0]?.name}`,
  );
  return lines.join("\n");
}

function mark(holds: boolean): string {
  return holds ? "" : "  <-- differs";
}
