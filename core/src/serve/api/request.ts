import type { EngineRequest, EngineSampling } from "../engine/types.js";
import { HttpError } from "./errors.js";
import type { Body } from "./fields.js";

const mostStops = 64;
const longestStop = 1024;

/** What every endpoint that writes text takes, under OpenAI's names and vLLM's further ones. */
export function generationOptions(body: Body): Omit<EngineRequest, "prompt"> {
  return {
    sampling: sampling(body),
    maxTokens: body.integer("max_completion_tokens", 1) ?? body.integer("max_tokens", 1),
    minTokens: body.integer("min_tokens", 0),
    stop: stops(body),
    stopIds: body.list("stop_token_ids")?.map((id) => {
      if (!Number.isSafeInteger(id) || (id as number) < 0)
        throw new HttpError(400, "stop_token_ids must be a list of token ids.", { param: "stop_token_ids" });
      return id as number;
    }),
    ignoreEnd: body.boolean("ignore_eos"),
    priority: body.integer("priority", -1_000_000, 1_000_000),
  };
}

function sampling(body: Body): EngineSampling {
  const topK = body.integer("top_k", -1);
  return {
    temperature: body.number("temperature", 0, 2),
    topP: positive(body, "top_p"),
    topK: topK === undefined || topK < 1 ? undefined : topK,
    minP: body.number("min_p", 0, 1),
    repetitionPenalty: body.number("repetition_penalty", 0.01, 10),
    presencePenalty: body.number("presence_penalty", -2, 2),
    frequencyPenalty: body.number("frequency_penalty", -2, 2),
    logitBias: bias(body),
    seed: body.integer("seed", -Number.MAX_SAFE_INTEGER),
  };
}

function positive(body: Body, name: string): number | undefined {
  const value = body.number(name, 0, 1);
  if (value === 0)
    throw new HttpError(
      400,
      `${name} is 0; it must be above 0. For the likeliest token set temperature to 0.`,
      { param: name },
    );
  return value;
}

function bias(body: Body): Record<number, number> | undefined {
  const given = body.object("logit_bias");
  if (given === undefined) return undefined;
  for (const [id, value] of Object.entries(given))
    if (!/^\d+$/.test(id) || typeof value !== "number" || Math.abs(value) > 100)
      throw new HttpError(400, "logit_bias must map token ids to numbers from -100 to 100.", {
        param: "logit_bias",
      });
  return given as Record<number, number>;
}

function stops(body: Body): readonly string[] | undefined {
  const given = body.fields.stop;
  if (given === undefined || given === null) return undefined;
  const list = Array.isArray(given) ? given : [given];
  if (list.length > mostStops)
    throw new HttpError(400, `stop has ${list.length} strings; at most ${mostStops} are allowed.`, {
      param: "stop",
    });
  for (const one of list)
    if (typeof one !== "string" || one === "" || one.length > longestStop)
      throw new HttpError(400, `stop must be strings of 1 to ${longestStop} characters.`, { param: "stop" });
  return list as string[];
}
