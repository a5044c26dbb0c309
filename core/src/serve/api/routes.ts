import { chatCompletion } from "./chat.js";
import { completion } from "./completions.js";
import { embeddings } from "./embeddings.js";
import { HttpError } from "./errors.js";
import { Body, shown } from "./fields.js";
import { health, licence, manifest, metadata, metrics, ready, versions } from "./management.js";
import { countTokens, message } from "./messages.js";
import type { Exchange, Route } from "./service.js";

/** What the service answers, by path and method. */
export const routes: Readonly<Record<string, Readonly<Record<string, Route>>>> = {
  "/v1/chat/completions": { POST: { computes: true, answer: chatCompletion } },
  "/v1/completions": { POST: { computes: true, answer: completion } },
  "/v1/embeddings": { POST: { computes: true, answer: embeddings } },
  "/v1/messages": { POST: { computes: true, answer: message } },
  "/v1/messages/count_tokens": { POST: { answer: countTokens } },
  "/v1/models": { GET: { answer: models } },
  "/tokenize": { POST: { answer: tokenize } },
  "/detokenize": { POST: { answer: detokenize } },
  "/v1/health/live": { GET: { open: true, answer: () => health("live") } },
  "/v1/health/ready": { GET: { open: true, answer: ready } },
  "/v1/version": { GET: { open: true, answer: versions } },
  "/v1/license": { GET: { open: true, answer: licence } },
  "/v1/metadata": { GET: { answer: metadata } },
  "/v1/manifest": { GET: { answer: manifest } },
  "/v1/metrics": { GET: { open: true, answer: metrics } },
};

function models({ service }: Exchange) {
  const created = Math.floor(service.started / 1000);
  const data = service.models.flatMap(({ name, engine }) => [
    { id: name, object: "model", created, owned_by: "aronnax", max_model_len: engine.context },
    ...engine.adapters().map((id) => ({
      id,
      object: "model",
      created,
      owned_by: "aronnax",
      parent: name,
      max_model_len: engine.context,
    })),
  ]);
  return { object: "list", data };
}

/** The model of the request, or the only one. */
function modelOf({ service }: Exchange, body: Body) {
  const name = body.string("model") ?? (service.models.length === 1 ? service.models[0]!.name : undefined);
  return service.find(body.required("model", name)).model;
}

function tokenize(exchange: Exchange) {
  const body = Body.of(exchange.body);
  const { tokenizer, engine } = modelOf(exchange, body);
  const tokens = tokenizer.encode(body.required("prompt", body.string("prompt")), {
    addSpecialTokens: body.boolean("add_special_tokens") ?? true,
  });
  return { tokens: [...tokens], count: tokens.length, max_model_len: engine.context };
}

function detokenize(exchange: Exchange) {
  const body = Body.of(exchange.body);
  const { tokenizer } = modelOf(exchange, body);
  const tokens = body.required("tokens", body.list("tokens"));
  const wrong = tokens.find(
    (id) => !Number.isSafeInteger(id) || tokenizer.tokenOf(id as number) === undefined,
  );
  if (wrong !== undefined)
    throw new HttpError(400, `tokens has ${shown(wrong)}, which is no token of the model.`, {
      param: "tokens",
    });
  return { prompt: tokenizer.decode(tokens as number[]) };
}
