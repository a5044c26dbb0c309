import type { TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget } from "@jupyterlab/ui-components";
import { figure } from "../model/devices.js";
import { formatBytes, formatInteger, formatValue } from "../model/format.js";
import type { Device } from "../model/protocol.js";
import type { Run } from "../model/run.js";

interface Figure {
  readonly text: string;
  /** The share of what there is, 0 to 1, drawn as a bar. */
  readonly share?: number;
}

interface Column {
  readonly id: string;
  readonly title: string;
  readonly read: (figures: (name: string) => number | undefined) => Figure | undefined;
}

/** The columns of the table; one that no device has a figure for is left out. */
function columnsFor(trans: TranslationBundle): readonly Column[] {
  const single = (id: string, title: string, name: string, text: (value: number) => string): Column => ({
    id,
    title,
    read: (figures) => {
      const value = figures(name);
      return value === undefined ? undefined : { text: text(value) };
    },
  });
  return [
    {
      id: "utilization",
      title: trans.__("Utilization"),
      read: (figures) => {
        const share = figures("utilization");
        return share === undefined ? undefined : { text: formatValue(share, "fraction"), share };
      },
    },
    {
      id: "memory",
      title: trans.__("Memory"),
      read: (figures) => {
        const used = figures("memory_used") ?? figures("memory_in_use");
        const total = figures("memory_total");
        if (used === undefined) {
          return undefined;
        }
        return total === undefined
          ? { text: formatBytes(used) }
          : { text: `${formatBytes(used)} / ${formatBytes(total)}`, share: used / total };
      },
    },
    {
      id: "power",
      title: trans.__("Power"),
      read: (figures) => {
        const watts = figures("power_watts");
        const limit = figures("power_limit_watts");
        if (watts === undefined) {
          return undefined;
        }
        return limit === undefined
          ? { text: `${formatInteger(watts)} W` }
          : { text: `${formatInteger(watts)} / ${formatInteger(limit)} W`, share: watts / limit };
      },
    },
    single(
      "temperature",
      trans.__("Temperature"),
      "temperature_celsius",
      (value) => `${formatInteger(value)} °C`,
    ),
    single("clock", trans.__("SM clock"), "sm_clock_megahertz", (value) => `${formatInteger(value)} MHz`),
    single(
      "nvlink",
      trans.__("NVLink sent"),
      "nvlink_tx_bytes_per_second",
      (value) => `${formatBytes(value)}/s`,
    ),
  ];
}

interface DeviceTableProps {
  readonly host: Run;
  readonly isOneOfSeveral: boolean;
  readonly trans: TranslationBundle;
}

function DeviceTable({ host, isOneOfSeveral, trans }: DeviceTableProps): JSX.Element {
  const devices = host.info.devices ?? [];
  const figuresOf = (device: Device) => (name: string) => figure(host, `device_${device.id}_${name}`);
  const columns = columnsFor(trans).filter(({ read }) => devices.some((device) => read(figuresOf(device))));
  const cpu = figure(host, "host_cpu_utilization");
  const count = figure(host, "host_cpu_count");
  const available = figure(host, "host_available_bytes");
  const total = figure(host, "host_total_bytes");
  const kinds = [...new Set(devices.map(({ kind }) => kind))].join(", ");
  return (
    <>
      <h3 className="aronnax-Host-title">
        {isOneOfSeveral ? trans.__("Devices of host %1", host.id) : trans.__("Devices")}
        <small>{devices.length > 1 ? `${devices.length} × ${kinds}` : kinds}</small>
      </h3>
      <p className="aronnax-Host-figures">
        {cpu === undefined ? null : (
          <span data-host="cpu">
            {count === undefined
              ? trans.__("CPU %1", formatValue(cpu, "fraction"))
              : trans.__("CPU %1 of %2", formatValue(cpu, "fraction"), formatInteger(count))}
          </span>
        )}
        {available === undefined || total === undefined ? null : (
          <span data-host="memory">
            {trans.__("Memory %1 / %2", formatBytes(total - available), formatBytes(total))}
          </span>
        )}
        <span className="aronnax-Host-stale">
          {trans.__("No figures for ten seconds: the runtime is gone, or the kernel is busy.")}
        </span>
      </p>
      {columns.length === 0 ? null : (
        <table className="aronnax-DeviceTable">
          <thead>
            <tr>
              <th scope="col">{trans.__("Device")}</th>
              {columns.map(({ id, title }) => (
                <th key={id} scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {devices.map((device) => (
              <tr key={device.id} data-device={device.id}>
                <th scope="row">{trans.__("GPU %1", device.id)}</th>
                {columns.map(({ id, read }) => {
                  const shown = read(figuresOf(device));
                  return (
                    <td key={id} data-figure={id}>
                      {shown?.text ?? "–"}
                      {shown?.share === undefined ? null : (
                        <span className="aronnax-Share">
                          <span style={{ width: `${Math.min(1, Math.max(0, shown.share)) * 100}%` }} />
                        </span>
                      )}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

/** The newest figures of a host and its devices. */
export class DeviceTableWidget extends ReactWidget {
  constructor(private readonly trans: TranslationBundle) {
    super();
  }

  showHost(host: Run, isOneOfSeveral: boolean): void {
    this.#host = host;
    this.#isOneOfSeveral = isOneOfSeveral;
    this.update();
  }

  protected override render(): JSX.Element | null {
    return this.#host ? (
      <DeviceTable host={this.#host} isOneOfSeveral={this.#isOneOfSeveral} trans={this.trans} />
    ) : null;
  }

  #host: Run | undefined;
  #isOneOfSeveral = false;
}
