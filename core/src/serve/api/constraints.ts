import type { Constraint } from "../structured/index.js";
import { HttpError } from "./errors.js";
import { type Body, shown } from "./fields.js";

/** What `response_format` (OpenAI) or `structured_outputs` (vLLM) asks a text to be. */
export function constraintOf(body: Body): Constraint | undefined {
  const format = body.object("response_format");
  if (format !== undefined && format.type !== "text") {
    if (format.type === "json_object") return { type: "json" };
    const schema = (format.json_schema as { schema?: unknown } | undefined)?.schema;
    if (format.type === "json_schema" && schema !== undefined) return { type: "schema", schema };
    throw new HttpError(
      400,
      `response_format is ${shown(format)}; its type must be text, json_object, or json_schema with json_schema.schema.`,
      { param: "response_format" },
    );
  }
  const { json, regex, choice, grammar } = body.object("structured_outputs") ?? {};
  if (json !== undefined) return { type: "schema", schema: json };
  if (typeof regex === "string") return { type: "regex", pattern: regex };
  if (Array.isArray(choice)) return { type: "choice", choices: choice };
  if (typeof grammar === "string") return { type: "grammar", grammar };
  return undefined;
}
