/** Tokens without meaning: for measuring how fast a recipe trains before there are data. */
import type { Batch, DataPosition, TokenSource } from "../data/batch.js";
import { DataError } from "../data/errors.js";
import { Sfc32 } from "../data/random.js";

const kind = "random-tokens";

/** Uniform random tokens; equal positions give equal batches. There is no validation split. */
export class RandomTokens implements TokenSource {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly vocabSize: number;
  #samples = 0;

  constructor(shape: { batchSize: number; sequenceLength: number; vocabSize: number }) {
    this.batchSize = shape.batchSize;
    this.sequenceLength = shape.sequenceLength;
    this.vocabSize = shape.vocabSize;
  }

  async prepare(): Promise<void> {}

  async next(): Promise<Batch> {
    const { batchSize, sequenceLength } = this;
    const random = new Sfc32([this.#samples]);
    const draw = (): Int32Array =>
      Int32Array.from({ length: batchSize * sequenceLength }, () => random.below(this.vocabSize));
    this.#samples += batchSize;
    return { batchSize, sequenceLength, inputs: draw(), targets: draw(), after: this.position() };
  }

  async *validation(): AsyncIterable<Batch> {}

  position(): DataPosition {
    return { version: 1, kind, samples: this.#samples };
  }

  async restore(position: DataPosition): Promise<void> {
    if (position.kind !== kind)
      throw new DataError(`The position is of a source "${position.kind}", not of random tokens.`);
    this.#samples = position.samples;
  }
}
