import type { TranslationBundle } from "@jupyterlab/translation";

/** What can be made of the runs on display. */
export const EXPORTS = ["csv", "parquet", "png", "svg", "report"] as const;
export type ExportKind = (typeof EXPORTS)[number];

export function exportLabel(kind: ExportKind, trans: TranslationBundle): string {
  switch (kind) {
    case "csv":
      return trans.__("Metrics as CSV");
    case "parquet":
      return trans.__("Metrics as Parquet");
    case "png":
      return trans.__("Charts as PNG");
    case "svg":
      return trans.__("Charts as SVG");
    case "report":
      return trans.__("Report, one HTML file");
  }
}
