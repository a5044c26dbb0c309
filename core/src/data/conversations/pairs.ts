/** Texts that belong together, for embeddings. */
import { refuseUnknown } from "../../graph/spelling.js";
import { type ArraysSource, arrays } from "../arrays.js";
import type { ShapedArray } from "../batch.js";
import { DataError } from "../errors.js";
import { checkCount } from "../loader/options.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { type ChatInput, inputName, recordsOf } from "./records.js";

export interface PairsOptions {
  tokenizer: Tokenizer;
  /** Tokens of a text: longer ones are cut, and counted. */
  sequenceLength: number;
  /** Pairs a batch. */
  batchSize: number;
  /** Fields of a record. Default `query`, `positive` and `negatives` (a text, or a list of texts). */
  columns?: { query?: string; positive?: string; negatives?: string };
  /** Hard negatives of each pair: the first so many. Default none. */
  negatives?: number;
  /** Stand before each query and each other text, as instructions of some models do. Default nothing. */
  prefixes?: { query?: string; passage?: string };
  /** The share of the pairs that is held out. Default 0. */
  validation?: number;
  seed?: number;
  shuffle?: boolean;
}

/** Token ids [rows, ...] filled up with zeros, and their lengths. */
export interface PairFields {
  readonly query: ShapedArray;
  readonly queryLengths: ShapedArray;
  readonly positive: ShapedArray;
  readonly positiveLengths: ShapedArray;
  /** [rows, negatives, time] */
  readonly negatives?: ShapedArray;
  readonly negativesLengths?: ShapedArray;
}

const optionNames: readonly (keyof PairsOptions)[] = [
  "tokenizer",
  "sequenceLength",
  "batchSize",
  "columns",
  "negatives",
  "prefixes",
  "validation",
  "seed",
  "shuffle",
];

/** Pairs of a query and a text that answers it, with hard negatives, for `llm.contrastive`: read whole, from what `text.chat` reads. */
export async function pairs(input: ChatInput, options: PairsOptions): Promise<ArraysSource<PairFields>> {
  if (typeof options?.tokenizer?.encode !== "function")
    throw new DataError(
      "text.pairs: there is no tokenizer.",
      "Pass tokenizer, sequenceLength and batchSize.",
    );
  refuseUnknown("text.pairs: there is no option", Object.keys(options), optionNames);
  const { tokenizer, sequenceLength, batchSize, columns = {}, negatives = 0, prefixes = {} } = options;
  if (sequenceLength === undefined)
    throw new DataError("text.pairs: sequenceLength is missing.", "Give a positive integer.");
  checkCount("sequenceLength", sequenceLength);
  checkCount("negatives", negatives, 0);
  const names = { query: "query", positive: "positive", negatives: "negatives", ...columns };
  const end = tokenizer.eosId;
  let cut = 0;
  const read = (text: string, prefix = ""): Int32Array => {
    const ids = tokenizer.encode(prefix + text);
    if (ids.length + (end === undefined ? 0 : 1) > sequenceLength) cut++;
    const kept = ids.subarray(0, sequenceLength - (end === undefined ? 0 : 1));
    return end === undefined ? kept : Int32Array.of(...kept, end);
  };
  const queries: Int32Array[] = [];
  const positives: Int32Array[] = [];
  const others: Int32Array[] = [];
  for await (const found of recordsOf(input)) {
    const refuse = (reason: string): never => {
      throw new DataError(
        `${found.where}: ${reason}.`,
        "Mend the record, or name its fields with `columns`.",
      );
    };
    if ("reason" in found) return refuse(found.reason);
    const text = (name: string): string => {
      const value = found.record[name];
      if (typeof value !== "string" || value.trim() === "")
        return refuse(value === undefined ? `there is no field "${name}"` : `the field "${name}" is no text`);
      return value;
    };
    queries.push(read(text(names.query), prefixes.query));
    positives.push(read(text(names.positive), prefixes.passage));
    if (negatives === 0) continue;
    const list = found.record[names.negatives];
    const texts = typeof list === "string" ? [list] : list;
    if (!Array.isArray(texts) || texts.length < negatives || texts.some((each) => typeof each !== "string"))
      return refuse(`the field "${names.negatives}" holds fewer than ${negatives} texts`);
    for (const each of texts.slice(0, negatives)) others.push(read(each as string, prefixes.passage));
  }
  if (queries.length === 0) throw new DataError(`${inputName(input)} has no pairs.`, "Give some.");
  if (cut > 0) console.warn(`text.pairs: ${cut} texts of more than ${sequenceLength} tokens are cut`);
  const rows = queries.length;
  const [query, queryLengths] = filled(queries, [rows]);
  const [positive, positiveLengths] = filled(positives, [rows]);
  const fields: PairFields = { query, queryLengths, positive, positiveLengths };
  const [negative, lengths] = filled(others, [rows, negatives]);
  const { validation, seed, shuffle } = options;
  return arrays(negatives === 0 ? fields : { ...fields, negatives: negative, negativesLengths: lengths }, {
    batchSize,
    ...(validation !== undefined && { validation }),
    ...(seed !== undefined && { seed }),
    ...(shuffle !== undefined && { shuffle }),
  }) as unknown as ArraysSource<PairFields>;
}

/** Ids filled up to the longest, a multiple of 8, and their lengths. */
function filled(texts: readonly Int32Array[], lead: readonly number[]): [ShapedArray, ShapedArray] {
  const time = 8 * Math.ceil(texts.reduce((most, { length }) => Math.max(most, length), 1) / 8);
  const ids = new Int32Array(texts.length * time);
  for (const [i, text] of texts.entries()) ids.set(text, i * time);
  const lengths = Int32Array.from(texts, ({ length }) => length);
  return [
    { data: ids, shape: [...lead, time] },
    { data: lengths, shape: lead },
  ];
}
