import type { TranslationBundle } from "@jupyterlab/translation";
import type { ChartSpec, Unit } from "./charts.js";
import type { Run } from "./run.js";

/** A figure of the newest sample; undefined where the sample has none, which is not zero. */
export function figure(host: Run, column: string): number | undefined {
  return host.series(column)?.at(host.rowCount - 1);
}

/** Charts of one figure of every device that has it. */
const DEVICE_CHARTS: readonly {
  readonly id: string;
  readonly title: (trans: TranslationBundle) => string;
  readonly unit: Unit;
  /** The first that there is. */
  readonly figures: readonly string[];
}[] = [
  {
    id: "device_utilization",
    title: (trans) => trans.__("GPU utilization"),
    unit: "fraction",
    figures: ["utilization"],
  },
  {
    id: "device_memory",
    title: (trans) => trans.__("GPU memory"),
    unit: "bytes",
    figures: ["memory_used", "memory_in_use"],
  },
  {
    id: "device_power",
    title: (trans) => trans.__("GPU power, W"),
    unit: "number",
    figures: ["power_watts"],
  },
  {
    id: "device_temperature",
    title: (trans) => trans.__("GPU temperature, °C"),
    unit: "number",
    figures: ["temperature_celsius"],
  },
  {
    id: "device_clock",
    title: (trans) => trans.__("SM clock, MHz"),
    unit: "number",
    figures: ["sm_clock_megahertz"],
  },
  {
    id: "device_nvlink",
    title: (trans) => trans.__("NVLink, sent per second"),
    unit: "bytes",
    figures: ["nvlink_tx_bytes_per_second"],
  },
  {
    id: "device_nvlink_received",
    title: (trans) => trans.__("NVLink, received per second"),
    unit: "bytes",
    figures: ["nvlink_rx_bytes_per_second"],
  },
  {
    id: "device_pcie",
    title: (trans) => trans.__("PCIe, sent per second"),
    unit: "bytes",
    figures: ["pcie_tx_bytes_per_second"],
  },
  {
    id: "device_pcie_received",
    title: (trans) => trans.__("PCIe, received per second"),
    unit: "bytes",
    figures: ["pcie_rx_bytes_per_second"],
  },
];

/** The charts of a host that have something to show. */
export function hostCharts(host: Run, trans: TranslationBundle): readonly ChartSpec[] {
  const devices = host.info.devices ?? [];
  const charts: ChartSpec[] = DEVICE_CHARTS.map(({ id, title, unit, figures }) => ({
    id,
    title: title(trans),
    unit,
    lines: devices.flatMap((device) => {
      const columns = figures.map((name) => `device_${device.id}_${name}`);
      const column = columns.find((name) => host.series(name));
      return column === undefined ? [] : [{ column, label: trans.__("GPU %1", device.id) }];
    }),
  }));
  charts.push(
    {
      id: "host_cpu",
      title: trans.__("Host CPU"),
      unit: "fraction",
      lines: [{ column: "host_cpu_utilization", label: trans.__("Utilization") }],
    },
    {
      id: "host_memory",
      title: trans.__("Host memory"),
      unit: "bytes",
      lines: [
        { column: "host_process_bytes", label: trans.__("Runtime") },
        { column: "host_available_bytes", label: trans.__("Available") },
      ],
    },
  );
  return charts
    .map((chart) => ({ ...chart, lines: chart.lines.filter(({ column }) => host.series(column)) }))
    .filter(({ lines }) => lines.length > 0);
}
