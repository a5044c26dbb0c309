/** The part of plotly.js that the charts use; the package ships without types. */
declare module "plotly.js-basic-dist-min" {
  export interface Trace {
    type: "scatter";
    mode: "lines" | "markers" | "lines+markers";
    x: readonly number[];
    y: readonly number[];
    line?: { color?: string; width?: number; dash?: string; shape?: string };
    marker?: {
      color?: string | readonly string[];
      size?: number;
      symbol?: string | readonly string[];
      line?: object;
    };
    opacity?: number;
    fill?: "none" | "tozeroy" | "tonexty";
    fillcolor?: string;
    hoverinfo?: "skip";
    showlegend?: boolean;
    connectgaps?: boolean;
    cliponaxis?: boolean;
  }

  export interface Axis {
    type?: "linear" | "log";
    range: readonly [number, number];
    fixedrange?: boolean;
    tickmode?: "array" | "auto";
    tickvals?: readonly number[];
    ticktext?: readonly string[];
    color?: string;
    gridcolor?: string;
    linecolor?: string;
    showgrid?: boolean;
    showline?: boolean;
    zeroline?: boolean;
    nticks?: number;
  }

  export interface Layout {
    width: number;
    height: number;
    margin: { l: number; r: number; t: number; b: number; pad?: number; autoexpand: false };
    xaxis: Axis;
    yaxis: Axis;
    paper_bgcolor: string;
    plot_bgcolor: string;
    font: { family: string; size: number; color: string };
    hovermode: false;
    dragmode: "zoom";
    showlegend: false;
  }

  export interface Config {
    displayModeBar: boolean;
    displaylogo: boolean;
    showSendToCloud: boolean;
    responsive: boolean;
    doubleClick: false | "reset" | "autosize";
    scrollZoom: boolean;
    showTips: boolean;
  }

  export interface RelayoutEvent {
    "xaxis.range[0]"?: number;
    "xaxis.range[1]"?: number;
    "xaxis.autorange"?: boolean;
  }

  export interface PlotElement extends HTMLElement {
    on(event: "plotly_relayout", listener: (event: RelayoutEvent) => void): void;
    on(event: "plotly_doubleclick", listener: () => void): void;
    removeAllListeners(event: string): void;
  }

  export interface Plotly {
    react(
      element: HTMLElement,
      data: readonly Trace[],
      layout: Layout,
      config: Partial<Config>,
    ): Promise<PlotElement>;
    purge(element: HTMLElement): void;
  }

  const plotly: Plotly;
  // biome-ignore lint/style/noDefaultExport: this is how the library exports itself
  export default plotly;
}
