/** The colours and font of a chart, as the theme has them now. */
export interface Palette {
  readonly background: string;
  readonly text: string;
  /** Text that is read first. */
  readonly strong: string;
  readonly grid: string;
  readonly axis: string;
  readonly error: string;
  readonly warning: string;
  readonly font: string;
  readonly fontSize: number;
  /** Colours of lines, in the order they are given out. */
  readonly series: readonly string[];
}

/** How many `--aronnax-series-*` colours style/view.css defines. */
export const SERIES_COLOURS = 10;

/** CSS for the nth line of a chart, for parts of the view that are styled by CSS itself. */
export function seriesColour(index: number): string {
  return `var(--aronnax-series-${(index % SERIES_COLOURS) + 1})`;
}

/** Reads the theme's colours where `element` is: a canvas needs colours, not variables. */
export function readPalette(element: HTMLElement): Palette {
  const probe = document.createElement("span");
  element.append(probe);
  const resolve = (colour: string) => {
    probe.style.color = colour;
    return getComputedStyle(probe).color;
  };
  probe.style.fontSize = "var(--jp-ui-font-size0)";
  const style = getComputedStyle(probe);
  const palette: Palette = {
    font: style.fontFamily,
    fontSize: Number.parseFloat(style.fontSize),
    background: resolve("var(--jp-layout-color1)"),
    text: resolve("var(--jp-ui-font-color2)"),
    strong: resolve("var(--jp-ui-font-color1)"),
    grid: resolve("var(--jp-border-color2)"),
    axis: resolve("var(--jp-border-color1)"),
    error: resolve("var(--jp-error-color1)"),
    warning: resolve("var(--jp-warn-color1)"),
    series: Array.from({ length: SERIES_COLOURS }, (_, i) => resolve(seriesColour(i))),
  };
  probe.remove();
  return palette;
}
