/** The part of plotly.js that the explored charts use; the package ships without types. */
declare module "plotly.js-basic-dist-min" {
  export interface Trace {
    type: "scatter";
    mode: "lines" | "markers" | "lines+markers";
    name: string;
    x: Float64Array | readonly number[];
    y: Float64Array | readonly number[];
    line?: { color: string; width: number; dash?: "solid" | "dash" };
    marker?: { color: string; size: number; symbol?: string };
    text?: readonly string[];
    hoverinfo?: "text" | "skip";
    connectgaps: boolean;
    showlegend: boolean;
  }

  export interface Axis {
    title: { text: string };
    type: "linear" | "log";
    color: string;
    gridcolor: string;
    zeroline: boolean;
    range?: readonly [number, number];
  }

  export interface Layout {
    xaxis: Axis;
    yaxis: Axis;
    paper_bgcolor: string;
    plot_bgcolor: string;
    font: { family: string; size: number; color: string };
    hovermode: "x unified";
    hoverlabel: { bgcolor: string };
    showlegend: boolean;
    legend: { orientation: "h" };
    margin: { l: number; r: number; t: number; b: number };
    /** What the user zoomed to stays while this does. */
    uirevision: string;
  }

  export interface Config {
    displaylogo: boolean;
    showSendToCloud: boolean;
    responsive: boolean;
    toImageButtonOptions: { filename: string; scale: number };
    modeBarButtonsToAdd: readonly {
      name: string;
      title: string;
      icon: object;
      click: (plot: HTMLElement) => void;
    }[];
  }

  export interface Plotly {
    readonly Icons: { readonly disk: object };
    react(element: HTMLElement, data: readonly Trace[], layout: Layout, config: Config): Promise<HTMLElement>;
    downloadImage(
      element: HTMLElement,
      options: { format: "svg" | "png"; filename: string },
    ): Promise<string>;
    purge(element: HTMLElement): void;
    readonly Plots: { resize(element: HTMLElement): void };
  }

  const plotly: Plotly;
  // biome-ignore lint/style/noDefaultExport: this is how the library exports itself
  export default plotly;
}
