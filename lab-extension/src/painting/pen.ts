/** A colour of the palette with what it is drawn by. */
export interface Stroke {
  readonly colour: string;
  readonly width: number;
  readonly alpha?: number;
  readonly dash?: readonly number[];
}

export type Align = "start" | "middle" | "end";
export type SymbolName = "cross" | "up" | "down" | "diamond" | "dot";

export interface TextStyle {
  readonly colour: string;
  readonly size: number;
  readonly align: Align;
  readonly bold?: boolean;
  /** Upwards, as the title of a y axis. */
  readonly isUpright?: boolean;
}

/** What pictures are drawn with, in pixels: on a canvas or into an SVG. Coordinates that are NaN end a line. */
export interface Pen {
  line(x: readonly number[], y: readonly number[], stroke: Stroke): void;
  /** The area between two lines over the same x. */
  area(
    x: readonly number[],
    upper: readonly number[],
    lower: readonly number[],
    colour: string,
    alpha: number,
  ): void;
  symbol(name: SymbolName, x: number, y: number, size: number, colour: string): void;
  rectangle(x: number, y: number, width: number, height: number, colour: string, alpha?: number): void;
  text(text: string, x: number, y: number, style: TextStyle): void;
  /** What `draw` draws is cut off at the rectangle. */
  clipped(x: number, y: number, width: number, height: number, draw: () => void): void;
}

/** The corners of a symbol around (0, 0), for a size of 1. */
const SHAPES: Record<Exclude<SymbolName, "dot" | "cross">, readonly (readonly [number, number])[]> = {
  up: [
    [-0.5, 0.45],
    [0.5, 0.45],
    [0, -0.55],
  ],
  down: [
    [-0.5, -0.45],
    [0.5, -0.45],
    [0, 0.55],
  ],
  diamond: [
    [0, -0.6],
    [0.5, 0],
    [0, 0.6],
    [-0.5, 0],
  ],
};

/** Draws on a canvas; the context's unit is a CSS pixel. */
export class CanvasPen implements Pen {
  constructor(
    private readonly context: CanvasRenderingContext2D,
    private readonly font: string,
  ) {}

  line(x: readonly number[], y: readonly number[], { colour, width, alpha = 1, dash = [] }: Stroke): void {
    const { context } = this;
    context.beginPath();
    let isDown = false;
    for (let i = 0; i < x.length; i++) {
      const [px, py] = [x[i]!, y[i]!];
      if (px - px !== 0 || py - py !== 0) {
        isDown = false;
      } else if (isDown) {
        context.lineTo(px, py);
      } else {
        context.moveTo(px, py);
        isDown = true;
      }
    }
    context.globalAlpha = alpha;
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.lineJoin = "bevel";
    context.setLineDash(dash as number[]);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  area(
    x: readonly number[],
    upper: readonly number[],
    lower: readonly number[],
    colour: string,
    alpha: number,
  ): void {
    const { context } = this;
    context.fillStyle = colour;
    context.globalAlpha = alpha;
    for (const [from, to] of pieces(x, upper, lower)) {
      context.beginPath();
      context.moveTo(x[from]!, upper[from]!);
      for (let i = from + 1; i < to; i++) {
        context.lineTo(x[i]!, upper[i]!);
      }
      for (let i = to - 1; i >= from; i--) {
        context.lineTo(x[i]!, lower[i]!);
      }
      context.closePath();
      context.fill();
    }
    context.globalAlpha = 1;
  }

  symbol(name: SymbolName, x: number, y: number, size: number, colour: string): void {
    const { context } = this;
    context.beginPath();
    if (name === "cross") {
      const half = size * 0.42;
      context.moveTo(x - half, y - half);
      context.lineTo(x + half, y + half);
      context.moveTo(x + half, y - half);
      context.lineTo(x - half, y + half);
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.stroke();
      return;
    }
    if (name === "dot") {
      context.arc(x, y, size / 2, 0, 2 * Math.PI);
    } else {
      SHAPES[name].forEach(([dx, dy], i) => {
        if (i === 0) {
          context.moveTo(x + dx * size, y + dy * size);
        } else {
          context.lineTo(x + dx * size, y + dy * size);
        }
      });
    }
    context.fillStyle = colour;
    context.fill();
  }

  rectangle(x: number, y: number, width: number, height: number, colour: string, alpha = 1): void {
    this.context.globalAlpha = alpha;
    this.context.fillStyle = colour;
    this.context.fillRect(x, y, width, height);
    this.context.globalAlpha = 1;
  }

  text(text: string, x: number, y: number, { colour, size, align, bold, isUpright }: TextStyle): void {
    const { context } = this;
    context.save();
    context.translate(x, y);
    if (isUpright) {
      context.rotate(-Math.PI / 2);
    }
    context.font = `${bold ? "600 " : ""}${size}px ${this.font}`;
    context.fillStyle = colour;
    context.textAlign = align === "middle" ? "center" : align;
    context.textBaseline = "alphabetic";
    context.fillText(text, 0, 0);
    context.restore();
  }

  clipped(x: number, y: number, width: number, height: number, draw: () => void): void {
    const { context } = this;
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    draw();
    context.restore();
  }
}

/** Writes SVG. */
export class SvgPen implements Pen {
  constructor(private readonly font: string) {}

  /** The picture so far. */
  toSvg(width: number, height: number, title: string): string {
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
      `font-family="${escapeXml(this.font)}" role="img"><title>${escapeXml(title)}</title>${this.#parts.join("")}</svg>`
    );
  }

  line(x: readonly number[], y: readonly number[], { colour, width, alpha = 1, dash = [] }: Stroke): void {
    let path = "";
    let isDown = false;
    for (let i = 0; i < x.length; i++) {
      if (Number.isFinite(x[i]) && Number.isFinite(y[i])) {
        path += `${isDown ? "L" : "M"}${short(x[i]!)} ${short(y[i]!)}`;
        isDown = true;
      } else {
        isDown = false;
      }
    }
    if (path !== "") {
      const dashes = dash.length > 0 ? ` stroke-dasharray="${dash.join(" ")}"` : "";
      this.#add(
        `<path d="${path}" fill="none" stroke="${colour}" stroke-width="${width}" stroke-opacity="${alpha}"${dashes} stroke-linejoin="bevel"/>`,
      );
    }
  }

  area(
    x: readonly number[],
    upper: readonly number[],
    lower: readonly number[],
    colour: string,
    alpha: number,
  ): void {
    for (const [from, to] of pieces(x, upper, lower)) {
      let path = "";
      for (let i = from; i < to; i++) {
        path += `${path === "" ? "M" : "L"}${short(x[i]!)} ${short(upper[i]!)}`;
      }
      for (let i = to - 1; i >= from; i--) {
        path += `L${short(x[i]!)} ${short(lower[i]!)}`;
      }
      this.#add(`<path d="${path}Z" fill="${colour}" fill-opacity="${alpha}"/>`);
    }
  }

  symbol(name: SymbolName, x: number, y: number, size: number, colour: string): void {
    if (name === "dot") {
      this.#add(`<circle cx="${short(x)}" cy="${short(y)}" r="${size / 2}" fill="${colour}"/>`);
    } else if (name === "cross") {
      const half = size * 0.42;
      const path = `M${short(x - half)} ${short(y - half)}L${short(x + half)} ${short(y + half)}M${short(x + half)} ${short(y - half)}L${short(x - half)} ${short(y + half)}`;
      this.#add(`<path d="${path}" stroke="${colour}" stroke-width="2"/>`);
    } else {
      const points = SHAPES[name].map(([dx, dy]) => `${short(x + dx * size)},${short(y + dy * size)}`);
      this.#add(`<polygon points="${points.join(" ")}" fill="${colour}"/>`);
    }
  }

  rectangle(x: number, y: number, width: number, height: number, colour: string, alpha = 1): void {
    this.#add(
      `<rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}" fill="${colour}" fill-opacity="${alpha}"/>`,
    );
  }

  text(text: string, x: number, y: number, { colour, size, align, bold, isUpright }: TextStyle): void {
    const turn = isUpright ? ` transform="rotate(-90 ${short(x)} ${short(y)})"` : "";
    this.#add(
      `<text x="${short(x)}" y="${short(y)}" fill="${colour}" font-size="${size}" text-anchor="${align}"${bold ? ' font-weight="600"' : ""}${turn}>${escapeXml(text)}</text>`,
    );
  }

  clipped(x: number, y: number, width: number, height: number, draw: () => void): void {
    const id = `clip${nextClip++}`;
    this.#add(
      `<clipPath id="${id}"><rect x="${x}" y="${y}" width="${width}" height="${height}"/></clipPath><g clip-path="url(#${id})">`,
    );
    draw();
    this.#add("</g>");
  }

  #add(part: string): void {
    this.#parts.push(part);
  }

  readonly #parts: string[] = [];
}

let nextClip = 0;

/** Text for XML and HTML, also inside of attributes. */
export function escapeXml(text: string): string {
  return (
    text
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      // Letters that XML does not have, not even escaped.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd")
  );
}

function short(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** The parts of lines between their gaps. */
function* pieces(...lines: readonly (readonly number[])[]): Generator<readonly [number, number]> {
  const { length } = lines[0]!;
  let from = -1;
  for (let i = 0; i <= length; i++) {
    const isThere = i < length && lines.every((line) => Number.isFinite(line[i]));
    if (isThere && from < 0) {
      from = i;
    } else if (!isThere && from >= 0) {
      if (i - from > 1) {
        yield [from, i];
      }
      from = -1;
    }
  }
}
