import type { IDisposable } from "@lumino/disposable";
import type { Drawing, Range } from "../model/drawing.js";
import type { Run } from "../model/run.js";
import type { ViewOptions } from "../model/viewOptions.js";
import type { Plot } from "../painting/paint.js";
import { nearestPosition } from "./readings.js";

/** What the pointer and the keys need to know of their chart. */
interface ChartView {
  drawing(): Drawing | undefined;
  area(): Plot | undefined;
  nearest(x: number): number | null;
  runs(): readonly Run[];
  /** The pointer is there, in pixels of the frame; null: it is not over this chart. */
  hovered(at: { x: number; y: number } | null): void;
}

/** A drag shorter than this, in pixels, is a click; one that is narrower than it in one direction zooms the other alone. */
const LEAST_DRAG = 6;
const NARROW = 14;
const WHEEL_ZOOM = 0.0015;
const KEY_ZOOM = 0.7;

/**
 * What mouse and keyboard do in a chart. Drag: zoom to the rectangle, its width in all charts, its height in this one. With Shift: move. Wheel with
 * Ctrl or ⌘: zoom at the pointer, with Shift: move. Double-click or Escape: all of it. ← → Home End: read values, + - zoom, Page Up and Down move.
 */
export class ChartPointer implements IDisposable {
  constructor(
    frame: HTMLElement,
    private readonly plot: HTMLElement,
    private readonly chart: string,
    private readonly options: ViewOptions,
    private readonly view: ChartView,
  ) {
    this.#brush.className = "aronnax-Chart-brush";
    this.#brush.hidden = true;
    frame.append(this.#brush);
    plot.addEventListener("pointermove", this.#onMove);
    plot.addEventListener("pointerleave", this.#onLeave);
    plot.addEventListener("pointerdown", this.#onDown);
    plot.addEventListener("pointerup", this.#onUp);
    plot.addEventListener("pointercancel", this.#onCancel);
    plot.addEventListener("dblclick", this.#onDoubleClick);
    plot.addEventListener("wheel", this.#onWheel, { passive: false });
    plot.addEventListener("keydown", this.#onKeyDown);
    plot.addEventListener("blur", this.#onLeave);
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  dispose(): void {
    this.#isDisposed = true;
    cancelAnimationFrame(this.#frameRequest);
  }

  /** A pointer that moves a thousand times a second is looked at once a frame. */
  readonly #onMove = (event: PointerEvent): void => {
    this.#last = { x: event.offsetX, y: event.offsetY };
    if (this.#frameRequest === 0) {
      this.#frameRequest = requestAnimationFrame(() => {
        this.#frameRequest = 0;
        this.#follow();
      });
    }
  };

  #follow(): void {
    const area = this.view.area();
    const drawing = this.view.drawing();
    const at = this.#last;
    if (!area || !drawing || !at) {
      return;
    }
    const drag = this.#drag;
    if (drag?.isMove) {
      const [low, high] = drag.range;
      const shift = ((drag.x - at.x) / area.width) * (high - low);
      this.options.zoomTo([low + shift, high + shift]);
      return;
    }
    if (drag) {
      this.#showBrush(drag, at, area);
      return;
    }
    const share = (at.x - area.left) / area.width;
    if (share < -0.02 || share > 1.02) {
      this.options.pointAt(null);
      this.view.hovered(null);
      return;
    }
    const [low, high] = this.options.zoom ?? drawing.x;
    this.options.pointAt(this.view.nearest(low + share * (high - low)));
    this.view.hovered(at);
  }

  readonly #onLeave = (): void => {
    if (!this.#drag) {
      this.#last = undefined;
      this.options.pointAt(null);
      this.view.hovered(null);
    }
  };

  readonly #onDown = (event: PointerEvent): void => {
    const drawing = this.view.drawing();
    if (event.button !== 0 || !drawing) {
      return;
    }
    this.plot.setPointerCapture(event.pointerId);
    this.#drag = {
      x: event.offsetX,
      y: event.offsetY,
      isMove: event.shiftKey,
      range: this.options.zoom ?? drawing.x,
    };
    this.view.hovered(null);
  };

  readonly #onUp = (event: PointerEvent): void => {
    const drag = this.#drag;
    const area = this.view.area();
    const drawing = this.view.drawing();
    this.#end();
    if (!drag || drag.isMove || !area || !drawing) {
      return;
    }
    const [width, height] = [Math.abs(event.offsetX - drag.x), Math.abs(event.offsetY - drag.y)];
    if (Math.max(width, height) < LEAST_DRAG) {
      return;
    }
    const part = (from: number, to: number, start: number, length: number): Range => {
      const shares = [from, to].map((at) => Math.min(1, Math.max(0, (at - start) / length)));
      return [Math.min(...shares), Math.max(...shares)];
    };
    if (height >= NARROW) {
      const [upper, lower] = part(drag.y, event.offsetY, area.top, area.height);
      const scale = (value: number) => (drawing.log ? Math.log10(value) : value);
      const back = (value: number) => (drawing.log ? 10 ** value : value);
      const [low, high] = drawing.y.map(scale) as [number, number];
      const range: Range = [back(high - lower * (high - low)), back(high - upper * (high - low))];
      if (range[1] > range[0]) {
        this.options.zoomChart(this.chart, range);
      }
    }
    if (width >= NARROW || height < NARROW) {
      const [from, to] = part(drag.x, event.offsetX, area.left, area.width);
      const [low, high] = drag.range;
      if (to > from) {
        this.options.zoomTo([low + from * (high - low), low + to * (high - low)]);
      }
    }
  };

  readonly #onCancel = (): void => this.#end();

  #end(): void {
    this.#drag = undefined;
    this.#brush.hidden = true;
  }

  #showBrush(drag: Drag, at: { x: number; y: number }, area: Plot): void {
    const [width, height] = [Math.abs(at.x - drag.x), Math.abs(at.y - drag.y)];
    const isWide = width >= NARROW || height < NARROW;
    const isHigh = height >= NARROW;
    const clampX = (x: number) => Math.min(area.left + area.width, Math.max(area.left, x));
    const clampY = (y: number) => Math.min(area.top + area.height, Math.max(area.top, y));
    const left = isWide ? clampX(Math.min(at.x, drag.x)) : area.left;
    const right = isWide ? clampX(Math.max(at.x, drag.x)) : area.left + area.width;
    const top = isHigh ? clampY(Math.min(at.y, drag.y)) : area.top;
    const bottom = isHigh ? clampY(Math.max(at.y, drag.y)) : area.top + area.height;
    const { style } = this.#brush;
    style.left = `${left}px`;
    style.top = `${top}px`;
    style.width = `${right - left}px`;
    style.height = `${bottom - top}px`;
    this.#brush.hidden = Math.max(width, height) < LEAST_DRAG;
  }

  readonly #onDoubleClick = (): void => this.options.resetZoom();

  readonly #onWheel = (event: WheelEvent): void => {
    const area = this.view.area();
    const drawing = this.view.drawing();
    if (!area || !drawing || !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      return; // the page scrolls
    }
    event.preventDefault();
    event.stopPropagation();
    const [low, high] = this.options.zoom ?? drawing.x;
    const amount = event.deltaY || event.deltaX;
    if (event.shiftKey && !event.ctrlKey) {
      const shift = (amount / area.width) * (high - low);
      this.options.zoomTo([low + shift, high + shift]);
      return;
    }
    const share = Math.min(1, Math.max(0, (event.offsetX - area.left) / area.width));
    this.#zoomAt(low + share * (high - low), Math.exp(amount * WHEEL_ZOOM));
  };

  /** Shows a part that is `factor` times as long, with `x` where it is. */
  #zoomAt(x: number, factor: number): void {
    const drawing = this.view.drawing();
    if (!drawing) {
      return;
    }
    const [low, high] = this.options.zoom ?? drawing.x;
    const range: Range = [x - (x - low) * factor, x + (high - x) * factor];
    if (range[1] - range[0] > Math.max(Math.abs(x), 1) * 1e-12) {
      this.options.zoomTo(range);
    }
  }

  #pan(share: number): void {
    const drawing = this.view.drawing();
    if (drawing) {
      const [low, high] = this.options.zoom ?? drawing.x;
      const shift = share * (high - low);
      this.options.zoomTo([low + shift, high + shift]);
    }
  }

  readonly #onKeyDown = (event: KeyboardEvent): void => {
    const runs = this.view.runs();
    const drawing = this.view.drawing();
    const run = runs[0];
    if (!run || !drawing || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const axis = this.options.choices.xAxis;
    const positions = run.positions(axis);
    const [low, high] = this.options.zoom ?? drawing.x;
    const cursor = this.options.cursor ?? nearestPosition(runs, axis, high);
    const row = cursor === null ? run.rowCount - 1 : positions.nearestRow(cursor);
    const visible = positions.nearestRow(high) - positions.nearestRow(low);
    const stride = event.shiftKey ? Math.max(1, Math.round(visible / 20)) : 1;
    const goTo = (wanted: number) => {
      const step = wanted < row ? -1 : 1;
      // A row may have no position on this axis.
      for (
        let at = Math.min(Math.max(wanted, 0), run.rowCount - 1);
        at >= 0 && at < run.rowCount;
        at += step
      ) {
        if (Number.isFinite(positions.at(at))) {
          this.options.pointAt(positions.at(at));
          return;
        }
      }
    };
    switch (event.key) {
      case "ArrowLeft":
        goTo(row - stride);
        break;
      case "ArrowRight":
        goTo(row + stride);
        break;
      case "Home":
        goTo(0);
        break;
      case "End":
        goTo(run.rowCount - 1);
        break;
      case "+":
      case "=":
        this.#zoomAt(this.options.cursor ?? (low + high) / 2, KEY_ZOOM);
        break;
      case "-":
        this.#zoomAt(this.options.cursor ?? (low + high) / 2, 1 / KEY_ZOOM);
        break;
      case "PageUp":
        this.#pan(-0.5);
        break;
      case "PageDown":
        this.#pan(0.5);
        break;
      case "Escape":
        this.#end();
        this.options.pointAt(null);
        this.options.resetZoom();
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  #drag: Drag | undefined;
  #last: { x: number; y: number } | undefined;
  #frameRequest = 0;
  #isDisposed = false;
  readonly #brush = document.createElement("div");
}

interface Drag {
  readonly x: number;
  readonly y: number;
  /** The picture follows the pointer. */
  readonly isMove: boolean;
  readonly range: Range;
}
