import { DataError } from "../errors.js";
import { GrowingTokens, pieces, type TokenArray } from "./corpus.js";
import { sequenceCount } from "./sequences.js";
import type { BrokenLines, TextSource } from "./sources.js";
import type { SpecialTokenPolicy, Tokenizer } from "./tokenizer.js";

/** A place in a text source: this many documents, and of the next one this many tokens (its end token included). */
export interface ReaderPosition {
  epoch: number;
  /** Blocks before this place in the epoch. */
  block: number;
  documents: number;
  tokens: number;
}

/** A part of the token stream: its sequences, overlapping the next block by one token. */
export interface TokenBlock {
  tokens: TokenArray;
  start: ReaderPosition;
  /** Broken lines so far, of a source that skips them. */
  broken?: BrokenLines;
}

export interface BlockOptions {
  sequenceLength: number;
  /** Sequences a block. */
  blockSequences: number;
  eosId: number;
  special: SpecialTokenPolicy;
}

/**
 * The tokens of a source in blocks, epoch after epoch without end, from a position on. The last block of an epoch is
 * shorter; tokens that fill no sequence there are left out.
 */
export async function* readBlocks(
  source: TextSource,
  tokenizer: Tokenizer,
  options: BlockOptions,
  from: ReaderPosition,
): AsyncGenerator<TokenBlock, never> {
  const { sequenceLength, blockSequences, eosId, special } = options;
  const blockTokens = sequenceLength * blockSequences;
  const broken = () => (source.broken === undefined ? {} : { broken: source.broken });
  let start = from;
  for (;;) {
    const tokens = new GrowingTokens(tokenizer.vocabSize);
    /** Where each document begins in `tokens`: the first one at 0 or before. */
    let begins: { at: number; document: number }[] = [];
    let document = 0;
    let skip = start.tokens;
    let given = 0;
    for await (const { text } of source.documents()) {
      const number = document++;
      if (number < start.documents || text.length === 0) continue;
      begins.push({ at: tokens.length - skip, document: number });
      for (const piece of [...pieces(text), null]) {
        const ids = piece === null ? [eosId] : tokenizer.encode(piece, { special });
        const kept = ids.slice(Math.min(skip, ids.length));
        skip -= ids.length - kept.length;
        tokens.append(kept);
        while (tokens.length > blockTokens) {
          yield { tokens: tokens.take(blockTokens + 1), start, ...broken() };
          given++;
          tokens.dropFirst(blockTokens);
          begins = begins.map(({ at, document }) => ({ at: at - blockTokens, document }));
          while (begins.length > 1 && begins[1]!.at <= 0) begins.shift();
          const first = begins[0]!;
          start = {
            epoch: start.epoch,
            block: start.block + 1,
            documents: first.document,
            tokens: 0 - first.at,
          };
        }
      }
    }
    if (sequenceCount(tokens.take(), sequenceLength) > 0) {
      yield { tokens: tokens.take(), start, ...broken() };
      given++;
    }
    if (given === 0 && start.documents === 0 && start.tokens === 0) {
      throw new DataError(
        `${source.name} has ${tokens.length} tokens, too few for a sequence of ${sequenceLength}.`,
        "Use more text or a smaller sequenceLength.",
      );
    }
    start = { epoch: start.epoch + 1, block: 0, documents: 0, tokens: 0 };
  }
}
