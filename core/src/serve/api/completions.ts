import type { EngineToken } from "../engine/types.js";
import { constraintOf } from "./constraints.js";
import { HttpError } from "./errors.js";
import { Body } from "./fields.js";
import { finite, generate, repeated, UsageCounter } from "./generate.js";
import { type Prompt, readPrompts } from "./prompts.js";
import { generationOptions } from "./request.js";
import type { Exchange, ServedModel } from "./service.js";

interface Logprobs {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
}

/** One text of several while it is written. */
class Written {
  text = "";
  finish: string | undefined;
  readonly logprobs: Logprobs = empty();
  private offset = 0;

  constructor(
    private readonly model: ServedModel,
    readonly prompt: Prompt,
  ) {}

  /** Tokens as the endpoint writes them; the first of a prompt has no log-probability. */
  add(tokens: readonly EngineToken[]): Logprobs {
    const { tokenizer } = this.model;
    const name = (id: number) => tokenizer.decode([id], { skipSpecialTokens: false });
    const added = empty();
    for (const { id, logProbability, alternatives } of tokens) {
      const token = name(id);
      added.tokens.push(token);
      added.token_logprobs.push(logProbability === undefined ? null : finite(logProbability));
      added.top_logprobs.push(
        logProbability === undefined
          ? null
          : Object.fromEntries(
              [...(alternatives ?? []), { id, logProbability }].map((one) => [
                name(one.id),
                finite(one.logProbability),
              ]),
            ),
      );
      added.text_offset.push(this.offset);
      this.offset += token.length;
    }
    for (const key of ["tokens", "token_logprobs", "top_logprobs", "text_offset"] as const)
      (this.logprobs[key] as unknown[]).push(...added[key]);
    return added;
  }
}

function empty(): Logprobs {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
}

/** `POST /v1/completions` */
export async function completion(exchange: Exchange): Promise<unknown> {
  const body = Body.of(exchange.body);
  const { model, adapter } = exchange.service.find(body.required("model", body.string("model")));
  body.unsupported("suffix", "");
  const n = body.integer("n", 1, 128) ?? 1;
  body.unsupported("best_of", n);
  const echo = body.boolean("echo") ?? false;
  const alternatives = body.integer("logprobs", 0, 20);
  const streamed = body.boolean("stream") ?? false;
  const withUsage = body.object("stream_options")?.include_usage === true;
  // With `echo` a prompt can be scored alone; the engine draws a token then, which is not told.
  const scored = body.fields.max_tokens === 0;
  if (scored && !echo)
    throw new HttpError(400, "max_tokens is 0; it may be so with echo only.", { param: "max_tokens" });
  const { maxTokens = 16, ...options } = generationOptions(
    scored ? new Body({ ...body.fields, max_tokens: 1 }) : body,
  );
  const prompts = readPrompts(model, body, "prompt");
  if (prompts.length * n > 2048)
    throw new HttpError(400, `${prompts.length} prompts and n ${n} are more than 2048 texts.`, {
      param: "n",
    });
  const constraint = constraintOf(body);
  const requests = (
    await Promise.all(
      prompts.map(({ ids }) =>
        repeated(
          {
            ...options,
            maxTokens,
            prompt: ids,
            adapter,
            ...(alternatives !== undefined && { logProbabilities: alternatives }),
            ...(alternatives !== undefined && echo && { promptLogProbabilities: alternatives }),
          },
          n,
          constraint && (() => exchange.service.grammar(model, constraint)),
        ),
      ),
    )
  ).flat();
  const head = {
    id: `cmpl-${exchange.id.slice(4)}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model: body.fields.model,
  };
  const usage = new UsageCounter(prompts.reduce((sum, { ids }) => sum + ids.length, 0));
  const all = requests.map((_, index) => new Written(model, prompts[Math.floor(index / n)]!));
  const begun = new Set<number>();
  for await (const { index, output } of generate(model, requests, exchange)) {
    const one = all[index]!;
    if (!scored) usage.add(output);
    const first = !begun.has(index);
    begun.add(index);
    const text = (first && echo ? one.prompt.text : "") + (scored ? "" : output.text);
    const tokens = [...(first ? (output.prompt ?? []) : []), ...(scored ? [] : output.tokens)];
    const logprobs = alternatives === undefined ? null : one.add(tokens);
    one.text += text;
    one.finish = output.finish;
    if (streamed && (text !== "" || tokens.length > 0 || output.finish !== undefined))
      await exchange.stream.send({
        ...head,
        choices: [{ index, text, logprobs, finish_reason: output.finish ?? null }],
        ...(withUsage && { usage: null }),
      });
  }
  if (!streamed)
    return {
      ...head,
      choices: all.map((one, index) => ({
        index,
        text: one.text,
        logprobs: alternatives === undefined ? null : one.logprobs,
        finish_reason: one.finish,
      })),
      usage: usage.usage,
    };
  if (withUsage) await exchange.stream.send({ ...head, choices: [], usage: usage.usage });
  await exchange.stream.send("[DONE]");
  return undefined;
}
