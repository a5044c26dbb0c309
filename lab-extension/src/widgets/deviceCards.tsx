import type { TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget } from "@jupyterlab/ui-components";
import { figure } from "../model/devices.js";
import { formatBytes, formatInteger, formatValue } from "../model/format.js";
import type { Run } from "../model/run.js";
import { type Holder, holdersOf, type RuntimeState } from "../model/runtimeState.js";

/** What a holder is called. */
export function holderName({ kind, name, number }: Holder, trans: TranslationBundle): string {
  switch (kind) {
    case "workspace":
      return trans.__("workspace %1", name);
    case "client":
      return name;
    case "process":
      return trans.__("%1, process %2", name, number ?? 0);
  }
}

interface BarProps {
  readonly label: string;
  readonly name: string;
  readonly text: string;
  /** Parts of the whole, 0 to 1, each with a colour of the palette. */
  readonly parts: readonly { readonly share: number; readonly title: string }[];
}

function Bar({ label, name, text, parts }: BarProps): JSX.Element {
  return (
    <div className="aronnax-Card-bar" data-figure={name}>
      <span>{label}</span>
      <span>{text}</span>
      <div role="img" aria-label={`${label}: ${text}`}>
        {parts.map(({ share, title }, i) => (
          <i
            // biome-ignore lint/suspicious/noArrayIndexKey: the parts have no identity, only an order
            key={i}
            title={title}
            style={{
              width: `${100 * Math.min(1, Math.max(0, share))}%`,
              background: `var(--aronnax-series-${1 + (i % 10)})`,
            }}
          />
        ))}
      </div>
    </div>
  );
}

interface CardProps {
  readonly host: Run;
  readonly device: { readonly id: number; readonly kind: string };
  readonly state: RuntimeState | null;
  readonly trans: TranslationBundle;
}

function DeviceCard({ host, device, state, trans }: CardProps): JSX.Element {
  const read = (name: string) => figure(host, `device_${device.id}_${name}`);
  const title = device.kind !== "cpu" ? trans.__("GPU %1", device.id) : trans.__("Device %1", device.id);
  if (read("lost") === 1) {
    return (
      <section className="aronnax-Card" data-device={device.id} aria-label={title}>
        <h4>
          {title} <small>{device.kind}</small>
        </h4>
        <p className="aronnax-Notice" data-status="failed" role="alert">
          {trans.__(
            "The driver has lost this GPU. Its arrays are gone; the machine may have to be restarted.",
          )}
        </p>
      </section>
    );
  }
  const utilization = read("utilization");
  const held = state ? holdersOf(state, device.id) : [];
  const used = read("memory_used") ?? read("memory_in_use") ?? (held.length > 0 ? sum(held) : undefined);
  const total = read("memory_total") ?? state?.devices.find(({ id }) => id === device.id)?.limit;
  const watts = read("power_watts");
  const limit = read("power_limit_watts");
  const rate = (name: string) => {
    const bytes = read(name);
    return bytes === undefined ? undefined : `${formatBytes(bytes)}/s`;
  };
  const pair = (sent: string | undefined, received: string | undefined) =>
    sent === undefined && received === undefined ? undefined : `↑ ${sent ?? "–"}  ↓ ${received ?? "–"}`;
  const clock = read("sm_clock_megahertz");
  const memoryClock = read("memory_clock_megahertz");
  const temperature = read("temperature_celsius");
  const rows: readonly (readonly [name: string, label: string, text: string | undefined])[] = [
    [
      "temperature",
      trans.__("Temperature"),
      temperature === undefined ? undefined : `${formatInteger(temperature)} °C`,
    ],
    [
      "clock",
      trans.__("Clocks"),
      clock === undefined
        ? undefined
        : memoryClock === undefined
          ? `${formatInteger(clock)} MHz`
          : trans.__("SM %1, memory %2 MHz", formatInteger(clock), formatInteger(memoryClock)),
    ],
    [
      "nvlink",
      trans.__("NVLink"),
      pair(rate("nvlink_tx_bytes_per_second"), rate("nvlink_rx_bytes_per_second")),
    ],
    ["pcie", trans.__("PCIe"), pair(rate("pcie_tx_bytes_per_second"), rate("pcie_rx_bytes_per_second"))],
  ];
  const whole = total ?? used ?? 0;
  const parts = held.map(({ holder, bytes }) => ({
    share: whole > 0 ? bytes / whole : 0,
    title: `${holderName(holder, trans)}: ${formatBytes(bytes)}`,
  }));
  const rest = used === undefined ? 0 : used - sum(held);
  if (rest > 0 && whole > 0) {
    // Programs' temporaries, what the allocator keeps, and what nobody told of.
    parts.push({ share: rest / whole, title: trans.__("other: %1", formatBytes(rest)) });
  }
  return (
    <section className="aronnax-Card" data-device={device.id} aria-label={title}>
      <h4>
        {title} <small>{device.kind}</small>
      </h4>
      {utilization === undefined ? null : (
        <Bar
          name="utilization"
          label={trans.__("Utilization")}
          text={formatValue(utilization, "fraction")}
          parts={[{ share: utilization, title: formatValue(utilization, "fraction") }]}
        />
      )}
      {used === undefined ? null : (
        <Bar
          name="memory"
          label={trans.__("Memory")}
          text={total === undefined ? formatBytes(used) : `${formatBytes(used)} / ${formatBytes(total)}`}
          parts={parts}
        />
      )}
      {watts === undefined ? null : (
        <Bar
          name="power"
          label={trans.__("Power")}
          text={
            limit === undefined
              ? `${formatInteger(watts)} W`
              : `${formatInteger(watts)} / ${formatInteger(limit)} W`
          }
          parts={limit === undefined ? [] : [{ share: watts / limit, title: `${formatInteger(watts)} W` }]}
        />
      )}
      <dl>
        {rows.map(([name, label, text]) =>
          text === undefined ? null : (
            <div key={name} data-figure={name}>
              <dt>{label}</dt>
              <dd>{text}</dd>
            </div>
          ),
        )}
      </dl>
    </section>
  );
}

function sum(held: readonly { readonly bytes: number }[]): number {
  return held.reduce((total, { bytes }) => total + bytes, 0);
}

/** The newest figures of a host and of each of its devices, in a narrow column. */
export class DeviceCardsWidget extends ReactWidget {
  constructor(private readonly trans: TranslationBundle) {
    super();
    this.addClass("aronnax-Cards");
  }

  showHost(host: Run, state: RuntimeState | null): void {
    this.#host = host;
    this.#state = state;
    this.update();
  }

  protected override render(): JSX.Element | null {
    const host = this.#host;
    if (!host) {
      return null;
    }
    const { trans } = this;
    const cpu = figure(host, "host_cpu_utilization");
    const available = figure(host, "host_available_bytes");
    const total = figure(host, "host_total_bytes");
    const own = figure(host, "host_process_bytes");
    return (
      <>
        {(host.info.devices ?? []).map((device) => (
          <DeviceCard key={device.id} host={host} device={device} state={this.#state} trans={trans} />
        ))}
        <section className="aronnax-Card" data-device="host" aria-label={trans.__("Host")}>
          <h4>{trans.__("Host")}</h4>
          {cpu === undefined ? null : (
            <Bar
              name="cpu"
              label={trans.__("CPU")}
              text={formatValue(cpu, "fraction")}
              parts={[{ share: cpu, title: formatValue(cpu, "fraction") }]}
            />
          )}
          {available === undefined || total === undefined ? null : (
            <Bar
              name="memory"
              label={trans.__("Memory")}
              text={`${formatBytes(total - available)} / ${formatBytes(total)}`}
              parts={[
                { share: (own ?? 0) / total, title: trans.__("runtime: %1", formatBytes(own ?? 0)) },
                {
                  share: Math.max(0, total - available - (own ?? 0)) / total,
                  title: trans.__("other: %1", formatBytes(Math.max(0, total - available - (own ?? 0)))),
                },
              ]}
            />
          )}
        </section>
      </>
    );
  }

  #host: Run | undefined;
  #state: RuntimeState | null = null;
}
