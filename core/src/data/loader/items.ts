/** The items of a loader in their order, epoch after epoch. */
import { type JsonValue, strictJson } from "../../files/json.js";
import { EpochOrder } from "../epochs.js";
import { DataError } from "../errors.js";
import { permutation } from "../random.js";
import type { ItemStream } from "./types.js";

/** An item at its place. */
export interface ItemTask {
  readonly kind: "item";
  readonly item: unknown;
  /** Its number in the items. */
  readonly index: number;
  readonly epoch: number;
  /** Its place in this share of the epoch. */
  readonly ordinal: number;
}

export interface EpochEnd {
  readonly kind: "end";
  readonly epoch: number;
  /** Of the last epoch. */
  readonly last: boolean;
}

/** A place between two items. */
export interface ItemPlace {
  readonly epoch: number;
  readonly next: number;
}

export interface ItemOrder {
  /** Rows an epoch, where known. */
  readonly length: number | undefined;
  tasks(from: ItemPlace): AsyncGenerator<ItemTask | EpochEnd>;
  /** A task as plain data, and back. */
  save(task: ItemTask): JsonValue;
  find(saved: JsonValue): ItemTask;
}

export interface OrderOptions {
  readonly seed: number;
  readonly shuffle: boolean;
  readonly shuffleWindow: number;
  readonly epochs: number | undefined;
  readonly shard: { readonly index: number; readonly count: number };
}

/** The order of an array's items, or of those whose numbers are `rows`. */
export class ArrayOrder implements ItemOrder {
  readonly length: number;
  private readonly order: EpochOrder;

  constructor(
    private readonly items: readonly unknown[],
    private readonly options: OrderOptions,
    rows?: Int32Array,
  ) {
    const { seed, shuffle, shard } = options;
    this.order = new EpochOrder(rows?.length ?? items.length, seed, shuffle, shard, rows);
    this.length = this.order.length;
    if (this.length === 0) {
      throw new DataError(
        `There are ${items.length} items, none of which is left for ${shard.count > 1 ? `share ${shard.index} of ${shard.count}` : "training"}.`,
        "Give more items.",
      );
    }
  }

  async *tasks(from: ItemPlace): AsyncGenerator<ItemTask | EpochEnd> {
    const { epochs = Number.POSITIVE_INFINITY } = this.options;
    for (let { epoch, next } = from; epoch < epochs; epoch++, next = 0) {
      for (; next < this.length; next++) yield this.task(epoch, next);
      yield { kind: "end", epoch, last: epoch === epochs - 1 };
    }
  }

  save({ epoch, ordinal }: ItemTask): JsonValue {
    return [epoch, ordinal];
  }

  find(saved: JsonValue): ItemTask {
    const [epoch, ordinal] = saved as [number, number];
    return this.task(epoch, ordinal);
  }

  private task(epoch: number, ordinal: number): ItemTask {
    const index = this.order.at(epoch, ordinal);
    return { kind: "item", item: this.items[index], index, epoch, ordinal };
  }
}

/** The order of a stream's items: blocks of `shuffleWindow` of them are shuffled. */
export class StreamOrder implements ItemOrder {
  readonly length = undefined;

  constructor(
    private readonly items: ItemStream<unknown>,
    private readonly options: OrderOptions,
  ) {}

  async *tasks(from: ItemPlace): AsyncGenerator<ItemTask | EpochEnd> {
    const { epochs = Number.POSITIVE_INFINITY, shard } = this.options;
    for (let { epoch, next } = from; epoch < epochs; epoch++, next = 0) {
      let place = 0;
      let mine: { item: unknown; index: number } | undefined;
      for await (const each of this.shuffled(epoch)) {
        const ordinal = Math.floor(place / shard.count);
        const turn = place++ % shard.count;
        if (turn === shard.index) mine = each;
        // Only where each share gets one: all hosts make as many batches.
        if (turn === shard.count - 1 && ordinal >= next) yield { kind: "item", ...mine!, epoch, ordinal };
      }
      if (place < shard.count)
        throw new DataError(
          `The items of epoch ${epoch} are ${place}.`,
          "Give a function that gives all items in each epoch.",
        );
      yield { kind: "end", epoch, last: epoch === epochs - 1 };
    }
  }

  save({ epoch, ordinal, index, item }: ItemTask): JsonValue {
    strictJson(item, `item ${index}`);
    return [epoch, ordinal, index, item as JsonValue];
  }

  find(saved: JsonValue): ItemTask {
    const [epoch, ordinal, index, item] = saved as [number, number, number, JsonValue];
    return { kind: "item", item, index, epoch, ordinal };
  }

  private async *shuffled(epoch: number): AsyncGenerator<{ item: unknown; index: number }> {
    const { seed, shuffle, shuffleWindow } = this.options;
    let index = 0;
    if (!shuffle) {
      for await (const item of this.items(epoch)) yield { item, index: index++ };
      return;
    }
    let block: { item: unknown; index: number }[] = [];
    const order = () =>
      permutation(block.length, [seed, 0xe90c, epoch, Math.floor((index - 1) / shuffleWindow)]);
    for await (const item of this.items(epoch)) {
      block.push({ item, index: index++ });
      if (block.length < shuffleWindow) continue;
      for (const at of order()) yield block[at]!;
      block = [];
    }
    for (const at of order()) yield block[at]!;
  }
}
