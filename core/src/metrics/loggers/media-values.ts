import type { TableCell } from "../../media/table.js";
import type { LoggedMedia } from "./logger.js";

/** As `media/index.jsonl` has them (docs/contracts.md §2). */
export interface KeptHistogram {
  edges: number[];
  counts: number[];
  count: number;
  sum: number;
  sumOfSquares: number;
}

export interface KeptTable {
  columns: string[];
  rows: TableCell[][];
}

/** What a histogram, a table or a text is, whether it lies in the record or in its file. */
export function contentOf({ record, content }: LoggedMedia): unknown {
  if (content === undefined) return record.data;
  const text = Buffer.from(content.buffer, content.byteOffset, content.length).toString();
  return record.kind === "text" ? text : JSON.parse(text);
}
