import { DataError } from "./errors.js";
import { permutation } from "./random.js";

/** The order of so many rows in each epoch, and a host's share of it. */
export class EpochOrder {
  /** Rows an epoch, of this share. */
  readonly length: number;
  private known: { epoch: number; order: Int32Array } | undefined;

  constructor(
    count: number,
    private readonly seed: number,
    private readonly shuffle: boolean,
    private readonly share: { readonly index: number; readonly count: number } = { index: 0, count: 1 },
    /** The rows' numbers; default from 0. */
    private readonly rows?: Int32Array,
  ) {
    this.count = count;
    this.length = Math.floor(count / share.count);
  }

  private readonly count: number;

  /** The number of an epoch's `ordinal`th row. */
  at(epoch: number, ordinal: number): number {
    const place = ordinal * this.share.count + this.share.index;
    const row = this.shuffle ? this.order(epoch)[place]! : place;
    return this.rows === undefined ? row : this.rows[row]!;
  }

  private order(epoch: number): Int32Array {
    if (this.known?.epoch !== epoch)
      this.known = { epoch, order: permutation(this.count, [this.seed, 0xe90c, epoch]) };
    return this.known.order;
  }
}

/** Cuts the numbers of so many rows in two, drawn with `seed`; both ascend. */
export function heldOut(
  count: number,
  fraction: number,
  seed: number,
): { train: Int32Array; validation: Int32Array } {
  if (!(fraction >= 0 && fraction < 1))
    throw new DataError(`validation must be a share from 0 to below 1; it is ${fraction}.`);
  const held = fraction === 0 ? 0 : Math.max(1, Math.round(count * fraction));
  if (held >= count && count > 0)
    throw new DataError(`validation takes ${held} of ${count} rows, and none are left.`, "Give more rows.");
  const order = permutation(count, [seed, 0x5e7]);
  return { train: order.slice(held).sort(), validation: order.slice(0, held).sort() };
}
