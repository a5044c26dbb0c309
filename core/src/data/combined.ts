/** Several sources as one, each batch of one of them: so each has a program of its own. */

import type { JsonValue } from "../files/json.js";
import { refuseUnknown } from "../graph/spelling.js";
import type {
  Batch,
  BatchShapes,
  BatchSource,
  DataPosition,
  PrepareOptions,
  SourceProgress,
} from "./batch.js";
import { Blend } from "./blend.js";
import { DataError } from "./errors.js";
import { iterate } from "./iterate.js";

/** The fields of any of the sources, with its name; that of one within another is `outer.inner`. */
export type CombinedFields<S> = {
  [K in keyof S & string]: S[K] extends CombinedSource<infer F>
    ? Within<F, K>
    : S[K] extends BatchSource<infer F>
      ? F & { readonly source: K }
      : never;
}[keyof S & string];

type Within<F, K extends string> = F extends { readonly source: infer I extends string }
  ? Omit<F, "source"> & { readonly source: `${K}.${I}` }
  : never;

type Sources = Readonly<Record<string, BatchSource<object>>>;

/**
 * Batches of several sources, mixed by weights: after n batches each source has given its share to within one. The static field `source`
 * names a batch's source. It ends where the first source ends.
 */
export function mixture<S extends Readonly<Record<string, BatchSource<object>>>>(
  sources: S,
  options: { readonly weights: { readonly [K in keyof S]: number } },
): CombinedSource<CombinedFields<S>> {
  refuseUnknown("data.mixture: there is no option", Object.keys(options ?? {}), ["weights"]);
  const names = namesOf(sources);
  const { weights } = options;
  refuseUnknown("data.mixture: there is no source", Object.keys(weights ?? {}), names);
  for (const name of names) {
    const weight: unknown = weights?.[name];
    if (!(typeof weight === "number" && weight > 0 && Number.isFinite(weight)))
      throw new DataError(`The weight of ${name} is ${JSON.stringify(weight)}.`, "Give a positive number.");
  }
  return new CombinedSource(
    sources,
    names,
    names.map((name) => weights[name]!),
  );
}

/**
 * Batches of several sources by turns: `pattern: ["a", "a", "b"]` takes two of a, then one of b; default each in turn. The static field
 * `source` names a batch's source. It ends where the first source ends.
 */
export function alternating<S extends Readonly<Record<string, BatchSource<object>>>>(
  sources: S,
  options: { readonly pattern?: readonly (keyof S & string)[] } = {},
): CombinedSource<CombinedFields<S>> {
  refuseUnknown("data.alternating: there is no option", Object.keys(options), ["pattern"]);
  const names = namesOf(sources);
  const { pattern = names } = options;
  refuseUnknown("data.alternating: there is no source", pattern, names);
  const missing = names.find((name) => !pattern.includes(name));
  if (missing !== undefined)
    throw new DataError(
      `The pattern [${pattern.join(", ")}] never takes ${missing}.`,
      "Name each source in it.",
    );
  const weights = names.map((name) => pattern.filter((each) => each === name).length);
  return new CombinedSource(
    sources,
    names,
    weights,
    pattern.map((name) => names.indexOf(name)),
  );
}

function namesOf(sources: Sources): string[] {
  const names = Object.keys(sources);
  for (const name of names) {
    if (typeof sources[name]?.next !== "function")
      throw new DataError(
        `The source ${name} is of type ${typeof sources[name]}.`,
        "Give sources of batches, such as data.loader makes.",
      );
  }
  if (names.length === 0) throw new DataError("There are no sources.", "Give one or more, by name.");
  return names;
}

export class CombinedSource<F extends object> implements BatchSource<F>, Disposable {
  private readonly blend: Blend;
  private readonly each: readonly BatchSource<object>[];
  private readonly kind: string;
  private given: BatchSource<object> | undefined;
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    sources: Sources,
    private readonly names: readonly string[],
    private readonly weights: readonly number[],
    private readonly pattern?: readonly number[],
  ) {
    this.each = names.map((name) => sources[name]!);
    this.blend = new Blend(weights);
    this.kind = pattern === undefined ? "mixture" : "alternating";
  }

  get batchSize(): number {
    return Math.max(...this.each.map(({ batchSize }) => batchSize));
  }

  async prepare(options?: PrepareOptions): Promise<void> {
    for (const source of this.each) await source.prepare?.(options);
  }

  next(): Promise<Batch<F>> {
    const turn = this.last.then(() => this.following());
    this.last = turn.catch(() => {});
    return turn;
  }

  private async following(): Promise<Batch<F>> {
    await this.prepare();
    const before = [...this.blend.taken];
    const which = this.pattern === undefined ? this.blend.next() : this.turn();
    try {
      const batch = await this.each[which]!.next();
      this.given = this.each[which];
      return this.named(which, batch);
    } catch (error) {
      this.blend.restore(before);
      throw error;
    }
  }

  /** The batches of each source's validation split, by turns until all have ended. */
  async *validation(maxBatches = Number.POSITIVE_INFINITY): AsyncGenerator<Batch<F>, void> {
    await this.prepare();
    const open = this.each.map((source, i) => ({
      i,
      batches: source.validation?.()[Symbol.asyncIterator](),
    }));
    try {
      let given = 0;
      for (
        let left = open.filter(({ batches }) => batches);
        left.length > 0;
        left = left.filter(({ batches }) => batches)
      ) {
        for (const one of left) {
          if (given >= maxBatches) return;
          const { value, done } = await one.batches!.next();
          if (done) one.batches = undefined;
          else {
            given++;
            yield this.named(one.i, value);
          }
        }
      }
    } finally {
      for (const { batches } of open) await batches?.return?.();
    }
  }

  position(): DataPosition {
    const each = this.each.map((source, i) => [this.names[i]!, source.position()]);
    const sources = Object.fromEntries(each) as Record<string, DataPosition>;
    const samples = Object.values(sources).reduce((sum, position) => sum + position.samples, 0);
    return {
      version: 1,
      kind: this.kind,
      samples,
      taken: [...this.blend.taken],
      sources: sources as JsonValue,
    };
  }

  async restore(position: DataPosition): Promise<void> {
    const { kind, taken, sources } = position as DataPosition & {
      taken: number[];
      sources: Record<string, DataPosition>;
    };
    if (kind !== this.kind || !Array.isArray(taken) || typeof sources !== "object")
      throw new DataError(
        `A position of kind "${kind}" does not belong to ${this.kind === "mixture" ? "a mixture" : "alternating sources"}.`,
      );
    const names = Object.keys(sources);
    if (names.join() !== this.names.join()) {
      throw new DataError(
        `The position belongs to the sources ${names.join(", ")}; these are ${this.names.join(", ")}.`,
        "Use the same ones in the same order, or start a new run from the checkpoint's weights.",
      );
    }
    for (const [i, source] of this.each.entries()) await source.restore(sources[this.names[i]!]!);
    this.blend.restore(taken);
  }

  progress(): SourceProgress[] {
    return this.each.map((source, i) => {
      const parts = source.progress?.() ?? [];
      const sequences =
        source.progress === undefined
          ? source.position().samples
          : parts.reduce((sum, part) => sum + part.sequences, 0);
      const epochs =
        parts.reduce((sum, part) => sum + part.epochs * part.weight, 0) /
        (parts.reduce((sum, part) => sum + part.weight, 0) || 1);
      return { name: this.names[i]!, weight: this.weights[i]!, sequences, epochs };
    });
  }

  /** Those of the source that gave the last batch. */
  columns(): Readonly<Record<string, number>> {
    return this.given?.columns?.() ?? {};
  }

  async shapes(): Promise<readonly BatchShapes[] | undefined> {
    const all: BatchShapes[] = [];
    for (const [i, source] of this.each.entries()) {
      const shapes = await source.shapes?.();
      if (shapes === undefined) return undefined;
      for (const one of shapes)
        all.push({ ...one, fields: { ...one.fields, source: this.nameOf(i, one.fields.source) } });
    }
    return all;
  }

  [Symbol.asyncIterator](): AsyncGenerator<Batch<F>, void> {
    return iterate(this);
  }

  /** Closes the sources that can be closed. */
  close(): void {
    for (const source of this.each as readonly Partial<{ close(): void }>[]) source.close?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private turn(): number {
    const { taken, samples } = this.blend;
    const which = this.pattern![samples % this.pattern!.length]!;
    taken[which]!++;
    return which;
  }

  private named(which: number, batch: Batch<object>): Batch<F> {
    const source = this.nameOf(which, (batch as { source?: unknown }).source);
    return { ...batch, source, after: this.position() } as unknown as Batch<F>;
  }

  private nameOf(which: number, own: unknown): string {
    const name = this.names[which]!;
    if (this.each[which] instanceof CombinedSource) return `${name}.${own as string}`;
    if (own === undefined) return name;
    throw new DataError(`The batches of ${name} have a field \`source\` of their own.`, "Name it otherwise.");
  }
}
