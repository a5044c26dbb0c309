/** How a Tensor shows in a notebook: a small table of its numbers, with shape, type and device. */
import { isComplex } from "../graph/dtype.js";
import { TraceError } from "../graph/errors.js";
import { BufferDeleted } from "../runtime/errors.js";
import { materialize } from "./evaluate.js";
import type { TypedArray } from "./hostdata.js";
import { slice } from "./indexing.js";
import { concatenate } from "./joining.js";
import { Tensor } from "./tensor.js";

/** Of an axis longer than `whole` elements the first and the last `edge` are shown. */
const [edge, whole] = [4, 12];
/** Larger tensors are cut on the device before their numbers come here. */
const large = 10_000;

const isCut = (length: number): boolean => length > whole;

/** The positions shown of an axis; null stands for those left out. */
function shown(length: number): (number | null)[] {
  if (!isCut(length)) return Array.from({ length }, (_, i) => i);
  const ends = (from: number): number[] => Array.from({ length: edge }, (_, i) => from + i);
  return [...ends(0), null, ...ends(length - edge)];
}

/** The part of a tensor that is shown. */
function corners(x: Tensor): Tensor {
  return x.shape.reduce((part, length, axis) => {
    if (!isCut(length)) return part;
    const along = (range: [number | null, number | null]): Tensor =>
      slice(part, ...x.shape.slice(0, axis).map(() => null), range);
    return concatenate([along([0, edge]), along([-edge, null])], axis);
  }, x);
}

/** Numbers as people read them: whole ones as they are, others with five digits. */
function numberText(value: number | bigint): string {
  if (typeof value === "bigint" || Number.isInteger(value) || !Number.isFinite(value)) {
    const text = Object.is(value, -0) ? "-0" : String(value);
    return text.length > 15 ? Number(value).toExponential(4) : text;
  }
  const size = Math.abs(value);
  return size < 1e-4 || size >= 1e6
    ? value
        .toExponential(4)
        .replace(/\.?0+e/, "e")
        .replace("e+", "e")
    : value.toPrecision(5).replace(/\.?0+$/, "");
}

function elementText(data: TypedArray, i: number, dtype: Tensor["dtype"]): string {
  if (dtype === "bool") return data[i] ? "true" : "false";
  if (!isComplex(dtype)) return numberText(data[i]!);
  const imaginary = numberText(data[2 * i + 1]!);
  return `${numberText(data[2 * i]!)}${/^[-−]/.test(imaginary) ? "" : "+"}${imaginary}i`;
}

/** Where the data lie: the platform, and over which devices. */
function placeOf(x: Tensor): string {
  const { buffer } = x;
  if (buffer === undefined) return "";
  const { platform } = buffer.runtime;
  if (buffer.sharding === undefined) return ` on ${platform}`;
  const { mesh } = buffer.sharding;
  const devices = mesh.reduce((n, [, size]) => n * size, 1);
  return ` on ${devices} × ${platform} (${mesh.map(([axis, size]) => `${axis} ${size}`).join(" × ")})`;
}

/** Rows of cells; a row of the last axis is one line, null marks what is left out. */
interface Block {
  /** Which block of the leading axes this is. */
  readonly index: readonly number[];
  readonly rows: readonly (readonly (string | null)[] | null)[];
}

/** The numbers in blocks of the last two axes. `text` gives the cell of an index of what is shown. */
function blocksOf(shape: readonly number[], text: (index: readonly number[]) => string): (Block | null)[] {
  const matrix = shape.slice(-2);
  const rowsOf = (index: readonly number[]): Block => {
    const columns = shown(matrix.at(-1) ?? 1);
    const cells = (before: readonly number[]): (string | null)[] =>
      columns.map((c) => (c === null ? null : text(shape.length === 0 ? [] : [...before, c])));
    const rows =
      matrix.length < 2
        ? [cells(index)]
        : shown(matrix[0]!).map((r) => (r === null ? null : cells([...index, r])));
    return { index, rows };
  };
  const visit = (index: readonly number[]): (Block | null)[] =>
    index.length >= shape.length - 2
      ? [rowsOf(index)]
      : shown(shape[index.length]!).flatMap((i) => (i === null ? [null] : visit([...index, i])));
  return visit([]);
}

function plainText(shape: readonly number[], blocks: readonly (Block | null)[]): string {
  const texts = blocks.flatMap((b) => b?.rows.flatMap((r) => r?.map((c) => c?.length ?? 1) ?? []) ?? []);
  const width = Math.max(0, ...texts);
  const line = (row: readonly (string | null)[]): string =>
    `[${row.map((c) => c?.padStart(width) ?? "…").join(", ")}]`;
  if (shape.length === 0) return blocks[0]!.rows[0]![0]!;
  const parts = blocks.map((block) => {
    if (block === null) return "…";
    const rows = block.rows.map((row) => (row === null ? " …" : line(row)));
    const body = shape.length === 1 ? rows[0]! : `[${rows.join(",\n ")}]`;
    return block.index.length === 0 ? body : `[${block.index.join(", ")}]:\n${body}`;
  });
  return parts.join("\n");
}

const cellStyle = 'style="text-align: right; font-family: monospace"';

function html(blocks: readonly (Block | null)[], caption: string): string {
  const tables = blocks.map((block) => {
    if (block === null) return "<div>⋮</div>";
    const rows = block.rows.map((row) => {
      const cells = row ?? [null];
      return `<tr>${cells.map((c) => `<td ${cellStyle}>${c ?? (row === null ? "⋮" : "…")}</td>`).join("")}</tr>`;
    });
    const title = block.index.length === 0 ? "" : `<div><small>[${block.index.join(", ")}]</small></div>`;
    return `${title}<table><tbody>${rows.join("")}</tbody></table>`;
  });
  return `<div>${tables.join("")}<small>${caption}</small></div>`;
}

/** The tensor as text and as an HTML table. Of one that is being traced there are no numbers to show. */
export async function display(x: Tensor): Promise<Record<string, unknown>> {
  const type = `${x.dtype}[${x.shape.join(", ")}]`;
  try {
    materialize([x]);
    const cut = x.size > large;
    const part = cut ? corners(x) : x;
    const data = await part.data();
    // Where an element of the whole stands among the data.
    const flat = (index: readonly number[]): number =>
      index.reduce((at, i, axis) => {
        const length = x.shape[axis]!;
        const among = cut && isCut(length) && i >= edge ? i - length + 2 * edge : i;
        return at * part.shape[axis]! + among;
      }, 0);
    const caption = `${type}${placeOf(x)}`;
    if (x.size === 0)
      return { "text/plain": `[] ${caption}`, "text/html": `<small>${caption}, empty</small>` };
    const blocks = blocksOf(x.shape, (index) => elementText(data, flat(index), x.dtype));
    return {
      "text/plain": `${plainText(x.shape, blocks)}\n${caption}`,
      "text/html": html(blocks, caption),
    };
  } catch (error) {
    if (error instanceof BufferDeleted) return { "text/plain": `${type}, freed` };
    if (!(error instanceof TraceError)) throw error;
    return { "text/plain": `${type}, being traced: it has no numbers yet` };
  }
}

Object.defineProperty(Tensor.prototype, Symbol.for("Jupyter.display"), {
  configurable: true,
  writable: true,
  value(this: Tensor): Promise<Record<string, unknown>> {
    return display(this);
  },
});
