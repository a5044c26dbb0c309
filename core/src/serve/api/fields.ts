import { HttpError } from "./errors.js";

type Fields = Readonly<Record<string, unknown>>;

/** Reads the fields of a request's body; each error names the field, what it is and what it may be. */
export class Body {
  constructor(readonly fields: Fields) {}

  static of(value: unknown): Body {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new HttpError(400, `The body is ${shown(value)}; it must be a JSON object.`);
    return new Body(value as Fields);
  }

  has(name: string): boolean {
    return this.fields[name] !== undefined && this.fields[name] !== null;
  }

  string(name: string): string | undefined {
    return this.read(name, "a string", (value) => typeof value === "string") as string | undefined;
  }

  boolean(name: string): boolean | undefined {
    return this.read(name, "true or false", (value) => typeof value === "boolean") as boolean | undefined;
  }

  number(name: string, least: number, most: number): number | undefined {
    return this.read(
      name,
      `a number from ${least} to ${most}`,
      (value) => typeof value === "number" && value >= least && value <= most,
    ) as number | undefined;
  }

  integer(name: string, least: number, most = Number.MAX_SAFE_INTEGER): number | undefined {
    const range = most === Number.MAX_SAFE_INTEGER ? `of ${least} or more` : `from ${least} to ${most}`;
    return this.read(
      name,
      `a whole number ${range}`,
      (value) => Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most,
    ) as number | undefined;
  }

  object(name: string): Fields | undefined {
    return this.read(name, "an object", (value) => typeof value === "object" && !Array.isArray(value)) as
      | Fields
      | undefined;
  }

  list(name: string): readonly unknown[] | undefined {
    return this.read(name, "a list", Array.isArray) as readonly unknown[] | undefined;
  }

  /** One of the words. */
  word<T extends string>(name: string, words: readonly T[]): T | undefined {
    return this.read(name, `one of ${words.join(", ")}`, (value) => words.includes(value as T)) as
      | T
      | undefined;
  }

  required<T>(name: string, value: T | undefined): T {
    if (value === undefined)
      throw new HttpError(400, `${name} is missing.`, { param: name, code: "missing_required_parameter" });
    return value;
  }

  /** Refuses a field whose meaning is not kept, where another value than the given is asked for. */
  unsupported(name: string, ...allowed: unknown[]): void {
    if (this.has(name) && !allowed.includes(this.fields[name]))
      throw new HttpError(
        400,
        `${name} is ${shown(this.fields[name])}; that is not supported. Leave it out.`,
        {
          param: name,
          code: "unsupported_parameter",
        },
      );
  }

  private read(name: string, expected: string, holds: (value: unknown) => boolean): unknown {
    const value = this.fields[name];
    if (value === undefined || value === null) return undefined;
    if (!holds(value))
      throw new HttpError(400, `${name} is ${shown(value)}; it must be ${expected}.`, {
        param: name,
        code: "invalid_value",
      });
    return value;
  }
}

export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
