/** The colours and font of a chart, as the theme has them now. */
export interface Palette {
  readonly background: string;
  readonly text: string;
  readonly grid: string;
  readonly error: string;
  readonly font: string;
  readonly fontSize: number;
  /** Colours of lines, in the order they are given out. */
  readonly series: readonly string[];
  /** The same colours for the areas of a stack. */
  readonly areas: readonly string[];
}

/** How many `--aronnax-series-*` colours style/base.css defines. */
export const SERIES_COLOURS = 6;

/** CSS for the nth line of a chart, for parts of the view that are styled by CSS itself. */
export function seriesColour(index: number): string {
  return `var(--aronnax-series-${(index % SERIES_COLOURS) + 1})`;
}

/**
 * Reads the theme's colours where `element` is. Plotly needs colours, not variables, and it does not know every form of
 * colour that a theme may use: the browser resolves them.
 */
export function readPalette(element: HTMLElement): Palette {
  const probe = document.createElement("span");
  element.append(probe);
  const resolve = (colour: string) => {
    probe.style.color = colour;
    return getComputedStyle(probe).color;
  };
  probe.style.fontSize = "var(--jp-ui-font-size0)";
  const style = getComputedStyle(probe);
  const font = style.fontFamily;
  const fontSize = Number.parseFloat(style.fontSize);
  const series = Array.from({ length: SERIES_COLOURS }, (_, i) => resolve(seriesColour(i)));
  const palette: Palette = {
    background: resolve("var(--jp-layout-color1)"),
    text: resolve("var(--jp-ui-font-color2)"),
    grid: resolve("var(--jp-border-color2)"),
    error: resolve("var(--jp-error-color1)"),
    font,
    fontSize,
    series,
    areas: series.map((colour) => colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.35)")),
  };
  probe.remove();
  return palette;
}
