import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { HuggingFaceTokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError, AronnaxError } from "../../graph/errors.js";
import type { Engine, TokenGrammar } from "../engine/types.js";
import type { ParserFamily } from "../parsers/index.js";
import { type Constraint, Grammars } from "../structured/index.js";
import { HttpError } from "./errors.js";
import { Metrics } from "./metrics.js";
import { routes } from "./routes.js";
import { EventStream } from "./sse.js";
import { Text } from "./text.js";

/** A model as the service offers it. */
export interface ServedModel {
  readonly name: string;
  readonly engine: Engine;
  readonly tokenizer: HuggingFaceTokenizer;
  /** How it writes calls of tools and reasoning. Default: as its chat template tells. */
  readonly parser?: ParserFamily;
}

export interface ServeOptions {
  /** Default 8000; 0 takes a free one. */
  readonly port?: number;
  /** Default 127.0.0.1: nothing else reaches it. */
  readonly host?: string;
  /** Keys of which a request needs one. Default: none is needed. */
  readonly apiKeys?: readonly string[];
  /** Bytes of a body at most. Default 8 MiB. */
  readonly maxBody?: number;
  /** Requests that are computed or wait at most; those beyond are told to come back. Default 512. */
  readonly maxRequests?: number;
  /** Runs every program of the engines before a request for text is taken. Default false. */
  readonly warmUp?: boolean;
  /** PEM files. Default: no TLS. */
  readonly tls?: { readonly certificate: string; readonly key: string };
}

/** What a route is given. */
export interface Exchange {
  readonly service: Service;
  readonly body: unknown;
  readonly stream: EventStream;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
  readonly id: string;
}

export interface Route {
  /** Text generation and the like: counts against `maxRequests`. */
  readonly computes?: boolean;
  /** Is answered without a key. */
  readonly open?: boolean;
  /** The answer as JSON, text with its type, or nothing when it was streamed. */
  readonly answer: (exchange: Exchange) => unknown;
}

/** A running service. */
export class Service {
  readonly started = Date.now();
  private readonly server: Server;
  private readonly keys: readonly Buffer[];
  private readonly limits: { body: number; requests: number };
  readonly metrics = new Metrics(() => this.models);
  /** Resolves when the engines are warm. */
  warm: Promise<void> = Promise.resolve();
  private isWarm = true;
  private computing = 0;
  private draining = false;
  private readonly grammars = new Map<ServedModel, Promise<Grammars>>();
  private readonly byName: ReadonlyMap<string, ServedModel>;

  private constructor(
    models: readonly ServedModel[],
    private readonly options: ServeOptions,
  ) {
    this.byName = new Map(models.map((model) => [model.name, model]));
    if (this.byName.size !== models.length || models.length === 0)
      throw new ArgumentError(
        models.length === 0 ? "No model is given" : "Two models have one name",
        "give one or more models of different names",
      );
    this.keys = (options.apiKeys ?? []).map(digest);
    this.limits = { body: options.maxBody ?? 8 << 20, requests: options.maxRequests ?? 512 };
    const handle = (request: IncomingMessage, response: ServerResponse) =>
      void this.handle(request, response);
    this.server =
      options.tls === undefined
        ? createServer(handle)
        : (createTlsServer(
            { cert: readFileSync(options.tls.certificate), key: readFileSync(options.tls.key) },
            handle,
          ) as unknown as Server);
    this.server.requestTimeout = 60_000;
  }

  static async start(models: readonly ServedModel[], options: ServeOptions = {}): Promise<Service> {
    const service = new Service(models, options);
    await new Promise<void>((resolve, reject) => {
      service.server.once("error", (error: NodeJS.ErrnoException) =>
        reject(
          error.code === "EADDRINUSE"
            ? new ArgumentError(
                `Port ${options.port ?? 8000} is in use`,
                "give another one, or 0 for a free one",
              )
            : error,
        ),
      );
      service.server.listen(options.port ?? 8000, options.host ?? "127.0.0.1", resolve);
    });
    if (options.warmUp) {
      service.isWarm = false;
      service.warm = Promise.all(models.map(({ engine }) => engine.warmUp())).then(() => {
        service.isWarm = true;
      });
      // Who waits for it is told; who does not sees that it is not ready.
      service.warm.catch(() => {});
    }
    return service;
  }

  get url(): string {
    const { address, port, family } = this.server.address() as AddressInfo;
    return `http${this.options.tls ? "s" : ""}://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  }

  get models(): readonly ServedModel[] {
    return [...this.byName.values()];
  }

  get ready(): boolean {
    return this.isWarm && !this.draining;
  }

  /** A model or adapter by name; `adapter` is set where it is one. */
  find(name: string): { model: ServedModel; adapter?: string } {
    const model = this.byName.get(name);
    if (model !== undefined) return { model };
    for (const one of this.byName.values())
      if (one.engine.adapters().includes(name)) return { model: one, adapter: name };
    throw new HttpError(404, `There is no model ${name}; there is ${[...this.byName.keys()].join(", ")}.`, {
      param: "model",
      code: "model_not_found",
    });
  }

  /** A grammar over the tokens of a model; its tables are made at the first. */
  async grammar(model: ServedModel, constraint: Constraint): Promise<TokenGrammar> {
    let grammars = this.grammars.get(model);
    if (grammars === undefined) {
      grammars = Grammars.create(model.tokenizer, model.engine.vocabSize);
      this.grammars.set(model, grammars);
    }
    return (await grammars).grammar(constraint);
  }

  /** Takes no more requests, lets those under way end, and closes the port. The engines stay the caller's. */
  async drain(): Promise<void> {
    this.draining = true;
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    // Connections become idle as their requests end.
    const idle = setInterval(() => this.server.closeIdleConnections(), 50);
    this.server.closeIdleConnections();
    await closed;
    clearInterval(idle);
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const id = `req_${randomUUID().replaceAll("-", "")}`;
    response.setHeader("x-request-id", id);
    // Anthropic's name.
    response.setHeader("request-id", id);
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    response.on("error", () => gone.abort());
    const stream = new EventStream(response, gone.signal);
    const path = (request.url ?? "/").split("?")[0]!;
    let counted = false;
    try {
      const route = this.route(request, path);
      if (!route.open) this.authorise(request);
      if (route.computes) {
        this.admit();
        counted = true;
      }
      const body = request.method === "POST" ? await this.read(request) : undefined;
      const answer = await route.answer({ service: this, body, stream, signal: gone.signal, id });
      if (stream.started) stream.end();
      else if (!gone.signal.aborted) send(response, 200, answer);
    } catch (thrown) {
      if (gone.signal.aborted) return;
      const error = httpError(thrown);
      const form = path.startsWith("/v1/messages") ? error.toAnthropic() : error.toJSON();
      if (stream.started) {
        await stream.send(form, path.startsWith("/v1/messages") ? "error" : undefined);
        stream.end();
        return;
      }
      const after = error.details.retryAfter;
      if (after !== undefined) {
        response.setHeader("retry-after", String(after));
        response.setHeader("retry-after-ms", String(after * 1000));
      }
      // What of the body was not read is not waited for.
      if (!request.complete) response.setHeader("connection", "close");
      send(response, error.status, form);
    } finally {
      if (counted) this.computing--;
    }
  }

  private route(request: IncomingMessage, path: string): Route {
    const methods = routes[path];
    if (methods === undefined) throw new HttpError(404, `There is nothing at ${path}.`);
    const route = methods[request.method ?? "GET"];
    if (route === undefined)
      throw new HttpError(405, `${path} takes ${Object.keys(methods).join(", ")}, not ${request.method}.`);
    return route;
  }

  private authorise(request: IncomingMessage): void {
    if (this.keys.length === 0) return;
    const header = request.headers.authorization?.replace(/^Bearer /i, "") ?? request.headers["x-api-key"];
    const given = digest(String(header ?? ""));
    if (!this.keys.some((key) => timingSafeEqual(key, given)))
      throw new HttpError(
        401,
        header === undefined ? "No API key was given." : "The API key is not one of this service.",
        { code: "invalid_api_key" },
      );
  }

  private admit(): void {
    if (this.draining) throw new HttpError(503, "The service is shutting down.", { retryAfter: 5 });
    if (!this.isWarm) throw new HttpError(503, "The service is not ready.", { retryAfter: 1 });
    if (this.computing >= this.limits.requests)
      throw new HttpError(429, `${this.computing} requests are under way; no more are taken now.`, {
        code: "rate_limit_exceeded",
        retryAfter: 1,
      });
    this.computing++;
  }

  private async read(request: IncomingMessage): Promise<unknown> {
    const most = this.limits.body;
    const tooLarge = () => new HttpError(413, `The body has more than ${most} bytes.`);
    if (Number(request.headers["content-length"]) > most) throw tooLarge();
    const parts: Buffer[] = [];
    let length = 0;
    for await (const part of request) {
      length += (part as Buffer).length;
      if (length > most) throw tooLarge();
      parts.push(part as Buffer);
    }
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts));
    } catch {
      throw new HttpError(400, "The body is not UTF-8.");
    }
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new HttpError(400, `The body is not JSON: ${(error as Error).message}`);
    }
  }
}

function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}

/** What the caller did wrong is told; what is wrong here is not shown in its parts. */
function httpError(thrown: unknown): HttpError {
  if (thrown instanceof HttpError) return thrown;
  if (thrown instanceof AronnaxError && thrown instanceof Error) {
    const fix = thrown.fix === undefined ? "" : ` Fix: ${thrown.fix}`;
    return new HttpError(
      thrown.name === "ArgumentError" || thrown.name === "DataError" ? 400 : 500,
      thrown.message + fix,
    );
  }
  console.error(thrown);
  return new HttpError(500, "The request failed in the service; its log has more.");
}

function send(response: ServerResponse, status: number, answer: unknown): void {
  const text = answer instanceof Text ? answer : undefined;
  const content = text?.text ?? JSON.stringify(answer);
  response.writeHead(status, {
    "content-type": text?.type ?? "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(content),
  });
  response.end(content);
}
