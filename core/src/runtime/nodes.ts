/** Several processes driven as one: each takes every frame, in one order, and holds its own parts of the arrays. */
import type { Connection, Link, Reply } from "./connection.js";
import type { RuntimeLost } from "./errors.js";

export class NodeLink implements Link {
  readonly #nodes: readonly Connection[];
  /** None: what one node has kept another may have given. */
  readonly kept = new Map<number, number>();

  /** By rank. */
  constructor(nodes: readonly Connection[]) {
    this.#nodes = nodes;
  }

  get lost(): RuntimeLost | undefined {
    return this.#nodes.find((node) => node.lost !== undefined)?.lost;
  }

  send(header: object, payload?: Uint8Array): void {
    for (const node of this.#nodes) node.send(header, payload);
  }

  async request(header: object, payload?: Uint8Array): Promise<Reply> {
    return (await this.requestAll(header, payload))[0]!;
  }

  requestAll(header: object, payload?: Uint8Array): Promise<Reply[]> {
    return Promise.all(this.#nodes.map((node) => node.request(header, payload)));
  }

  listen(subscription: number, listener: (data: unknown) => void): () => void {
    const stops = this.#nodes.map((node) => node.listen(subscription, listener));
    return () => {
      for (const stop of stops) stop();
    };
  }

  async drain(bytes: number): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.drain(bytes)));
  }

  waitingSince(): number | undefined {
    const times = this.#nodes.flatMap((node) => node.waitingSince() ?? []);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  fail(error: RuntimeLost): void {
    for (const node of this.#nodes) node.fail(error);
  }

  close(): void {
    for (const node of this.#nodes) node.close();
  }
}

/** Bounds of a part in the whole, for each dimension. */
type Bounds = [start: number, end: number][];

/** Puts an array together from what each node has of it; undefined if the replies carry it whole. */
export function joinParts(
  shape: readonly number[],
  itemSize: number,
  replies: readonly Reply[],
): Uint8Array<ArrayBuffer> | undefined {
  if (replies.every(({ result }) => result === null || result === undefined)) return undefined;
  const whole = new Uint8Array(shape.reduce((product, size) => product * size, itemSize));
  for (const { result, payload } of replies) {
    let offset = 0;
    for (const bounds of (result as { parts: Bounds[] }).parts) {
      offset = copyPart(whole, shape, itemSize, bounds, payload ?? new Uint8Array(0), offset);
    }
  }
  return whole;
}

/** Copies a row-major part to its place, row by row, and returns where in `source` the next part begins. */
function copyPart(
  whole: Uint8Array,
  shape: readonly number[],
  itemSize: number,
  bounds: Bounds,
  source: Uint8Array,
  offset: number,
): number {
  if (bounds.some(([start, end]) => start === end)) return offset;
  const last = shape.length - 1;
  const row = last < 0 ? itemSize : (bounds[last]![1] - bounds[last]![0]) * itemSize;
  const at = bounds.map(([start]) => start);
  for (let from = offset; ; ) {
    const target = at.reduce((index, position, d) => index * shape[d]! + position, 0);
    whole.set(source.subarray(from, from + row), target * itemSize);
    from += row;
    let d = last - 1;
    for (; d >= 0; d--) {
      at[d]! += 1;
      if (at[d]! < bounds[d]![1]) break;
      at[d] = bounds[d]![0];
    }
    if (d < 0) return from;
  }
}
