import { HttpError } from "./errors.js";
import { Body } from "./fields.js";
import { readPrompts } from "./prompts.js";
import type { Exchange } from "./service.js";

/** `POST /v1/embeddings` */
export async function embeddings(exchange: Exchange): Promise<unknown> {
  const body = Body.of(exchange.body);
  const { model, adapter } = exchange.service.find(body.required("model", body.string("model")));
  if (adapter !== undefined)
    throw new HttpError(400, `${adapter} is an adapter; embeddings are of ${model.name} alone.`, {
      param: "model",
    });
  const format = body.word("encoding_format", ["float", "base64"]) ?? "float";
  const dimensions = body.integer("dimensions", 1);
  const prompts = readPrompts(model, body, "input");
  const vectors = await model.engine.embed(
    prompts.map(({ ids }) => ids),
    { dimensions },
  );
  const used = prompts.reduce((sum, { ids }) => sum + ids.length, 0);
  return {
    object: "list",
    model: body.fields.model,
    data: vectors.map((vector, index) => ({
      object: "embedding",
      index,
      embedding: format === "base64" ? littleEndian(vector) : [...vector],
    })),
    usage: { prompt_tokens: used, total_tokens: used },
  };
}

function littleEndian(vector: Float32Array): string {
  const bytes = Buffer.alloc(4 * vector.length);
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, 4 * i);
  return bytes.toString("base64");
}
