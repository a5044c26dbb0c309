/** An answer other than success. OpenAI's clients read `error.message`, `type`, `param` and `code`; their retries go by status and headers. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly details: {
      readonly param?: string;
      readonly code?: string;
      /** Seconds after which to try again. */
      readonly retryAfter?: number;
    } = {},
  ) {
    super(message);
  }

  get type(): string {
    return types[this.status] ?? (this.status < 500 ? "invalid_request_error" : "server_error");
  }

  toJSON() {
    const { param = null, code = null } = this.details;
    return { error: { message: this.message, type: this.type, param, code } };
  }

  /** Anthropic's form. */
  toAnthropic() {
    const type =
      this.status === 429
        ? "rate_limit_error"
        : this.status === 503
          ? "overloaded_error"
          : this.status < 500
            ? this.type
            : "api_error";
    return { type: "error", error: { type, message: this.message } };
  }
}

const types: Record<number, string> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_exceeded",
};
