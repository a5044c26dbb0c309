/** Prometheus metrics under vLLM's and NIM's names. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineFinish, EngineStatistics, EngineTimes } from "../engine/types.js";
import type { ServedModel } from "./service.js";

const seconds = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 120, 300];
const counts = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];

const gauges: readonly [name: string, help: string, of: (s: EngineStatistics) => number][] = [
  ["num_requests_running", "Requests that are computed", (s) => s.running],
  ["num_requests_waiting", "Requests that wait", (s) => s.waiting],
];
const counters: readonly [name: string, help: string, of: (s: EngineStatistics) => number][] = [
  ["prompt_tokens_total", "Tokens of prompts", (s) => s.promptTokens],
  ["generation_tokens_total", "Tokens that were drawn", (s) => s.generatedTokens],
];

/** What a service counts; each of its models is a value of the label `model_name`. */
export class Metrics {
  readonly registry = new Registry();
  readonly #times: Record<"ttft" | "tpot" | "e2e", Histogram<"model_name">[]>;
  readonly #parts: Record<"queue" | "prefill" | "decode" | "inference", Histogram<"model_name">>;
  readonly #sizes: Record<"prompt" | "generation", Histogram<"model_name">>;
  readonly #ended: Counter<"model_name" | "finished_reason">;

  constructor(models: () => readonly ServedModel[]) {
    const registers = [this.registry];
    const labelNames = ["model_name"] as const;
    const read = (
      Kind: typeof Gauge | typeof Counter,
      name: string,
      help: string,
      of: (s: EngineStatistics) => number,
    ) => {
      const metric = new Kind({ name, help, labelNames, registers, collect: () => refresh() });
      const refresh = () => {
        metric.reset();
        for (const model of models()) metric.inc({ model_name: model.name }, of(model.engine.statistics()));
      };
    };
    for (const prefix of ["vllm:", ""]) {
      for (const [name, help, of] of gauges) read(Gauge, prefix + name, help, of);
      for (const [name, help, of] of counters) read(Counter, prefix + name, help, of);
    }
    const usage = "Share of the pages in use, from 0 to 1";
    read(Gauge, "vllm:kv_cache_usage_perc", usage, (s) => s.cacheUsage);
    read(Gauge, "gpu_cache_usage_perc", usage, (s) => s.cacheUsage);
    read(Counter, "vllm:prefix_cache_queries_total", "Prompt tokens looked up", (s) => s.prefixQueries);
    read(Counter, "vllm:prefix_cache_hits_total", "Prompt tokens found", (s) => s.prefixHits);
    read(Counter, "vllm:num_preemptions_total", "Texts put back for want of pages", (s) => s.preemptions);
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ name, help, labelNames, buckets, registers });
    const both = (name: string, help: string) =>
      ["vllm:", ""].map((prefix) => histogram(prefix + name, help, seconds));
    this.#times = {
      ttft: both("time_to_first_token_seconds", "From arrival to the first token"),
      tpot: both("time_per_output_token_seconds", "Mean time of a text's tokens after the first"),
      e2e: both("e2e_request_latency_seconds", "From arrival to the end"),
    };
    const part = (name: string, help: string) =>
      histogram(`vllm:request_${name}_time_seconds`, help, seconds);
    this.#parts = {
      queue: part("queue", "Waiting"),
      prefill: part("prefill", "From the beginning to the first token"),
      decode: part("decode", "From the first token to the end"),
      inference: part("inference", "From the beginning to the end"),
    };
    this.#sizes = {
      prompt: histogram("vllm:request_prompt_tokens", "Tokens of a request's prompt", counts),
      generation: histogram("vllm:request_generation_tokens", "Tokens drawn for a request", counts),
    };
    this.#ended = new Counter({
      name: "vllm:request_success_total",
      help: "Requests that ended, by the reason",
      labelNames: ["model_name", "finished_reason"] as const,
      registers,
    });
  }

  /** A text ended. Times are in milliseconds. */
  ended(
    model: string,
    times: EngineTimes,
    tokens: { prompt: number; generated: number },
    finish: EngineFinish,
  ): void {
    const label = { model_name: model };
    const { arrived, scheduled, firstToken, ended } = times;
    const observe = (list: readonly Histogram<"model_name">[], from?: number, to?: number, over = 1) => {
      if (from === undefined || to === undefined) return;
      for (const one of list) one.observe(label, (to - from) / 1000 / over);
    };
    this.#ended.inc({ ...label, finished_reason: finish === "aborted" ? "abort" : finish });
    observe(this.#times.ttft, arrived, firstToken);
    observe(this.#times.e2e, arrived, ended);
    if (tokens.generated > 1) observe(this.#times.tpot, firstToken, ended, tokens.generated - 1);
    observe([this.#parts.queue], arrived, scheduled);
    observe([this.#parts.prefill], scheduled, firstToken);
    observe([this.#parts.decode], firstToken, ended);
    observe([this.#parts.inference], scheduled, ended);
    this.#sizes.prompt.observe(label, tokens.prompt);
    this.#sizes.generation.observe(label, tokens.generated);
  }
}
