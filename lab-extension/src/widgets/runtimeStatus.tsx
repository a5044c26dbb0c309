import type { TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget } from "@jupyterlab/ui-components";
import { formatBytes, formatDuration, formatInteger, formatValue } from "../model/format.js";
import type { RuntimeAction, RuntimeLink } from "../model/runtimeLink.js";
import type { RuntimeProgram, RuntimeState } from "../model/runtimeState.js";
import { holderName } from "./deviceCards.js";

/** Rows of the table of programs; the rest is told by a number. */
const MOST_PROGRAMS = 30;

interface Actions {
  readonly busy: RuntimeAction | null;
  readonly log: string | null;
  readonly answer: { readonly ok: boolean; readonly text: string } | null;
  act(action: RuntimeAction): void;
}

function actionLabel(action: RuntimeAction, trans: TranslationBundle): string {
  switch (action) {
    case "start":
      return trans.__("Start");
    case "stop":
      return trans.__("Stop");
    case "restart":
      return trans.__("Restart");
    case "recover":
      return trans.__("Recover");
    case "logs":
      return trans.__("Log");
  }
}

function actionHint(action: RuntimeAction, trans: TranslationBundle): string {
  switch (action) {
    case "start":
      return trans.__("Start the runtime process");
    case "stop":
      return trans.__("End the runtime process; arrays on the devices are lost");
    case "restart":
      return trans.__("End the runtime process and start another; arrays on the devices are lost");
    case "recover":
      return trans.__("End programs that do not end; arrays that can be read are kept");
    case "logs":
      return trans.__("Show the end of the runtime's log");
  }
}

interface StatusProps extends Actions {
  readonly link: RuntimeLink | null;
  readonly trans: TranslationBundle;
}

function RuntimeStatus({ link, busy, log, answer, act, trans }: StatusProps): JSX.Element {
  const state = link?.state ?? null;
  if (!state) {
    return <p className="aronnax-Runtime-line">{unknownText(link, trans)}</p>;
  }
  const actions: RuntimeAction[] = state.running ? ["stop", "restart", "recover", "logs"] : ["start", "logs"];
  return (
    <>
      <p className="aronnax-Runtime-line" role="status" data-runtime={state.running ? "running" : "absent"}>
        {busy !== null && busy !== "logs" ? busyText(busy, trans) : stateText(state, trans)}
      </p>
      <div className="aronnax-Runtime-actions">
        {actions.map((action) => (
          <button
            key={action}
            type="button"
            className="aronnax-Button"
            data-action={action}
            disabled={busy !== null}
            title={actionHint(action, trans)}
            aria-expanded={action === "logs" ? log !== null : undefined}
            onClick={() => act(action)}
          >
            {actionLabel(action, trans)}
          </button>
        ))}
      </div>
      {answer && !answer.ok ? (
        <p className="aronnax-Notice" data-status="failed" role="alert">
          {answer.text || trans.__("The kernel did not answer.")}
        </p>
      ) : null}
      {log === null ? null : (
        <textarea
          className="aronnax-Runtime-log"
          readOnly
          rows={12}
          aria-label={trans.__("Log of the runtime")}
          value={log}
        />
      )}
    </>
  );
}

function unknownText(link: RuntimeLink | null, trans: TranslationBundle): string {
  if (!link) {
    return trans.__("Open a notebook with the Aronnax kernel: the panel asks it for the devices.");
  }
  if (link.isRefused) {
    return trans.__(
      "This notebook's kernel knows no runtime: it is of another language, or older than this panel.",
    );
  }
  return (
    link.problem ??
    (link.isConnected
      ? trans.__("Looking for the runtime…")
      : trans.__("No kernel. Start one, and the devices appear here."))
  );
}

function busyText(action: RuntimeAction, trans: TranslationBundle): string {
  return action === "start"
    ? trans.__("Starting…")
    : action === "stop"
      ? trans.__("Stopping…")
      : action === "restart"
        ? trans.__("Restarting…")
        : trans.__("Ending programs…");
}

function stateText(state: RuntimeState, trans: TranslationBundle): string {
  if (!state.running) {
    return state.lastExit === undefined
      ? trans.__("No runtime runs for %1. The first cell that computes starts it.", state.deviceSet)
      : trans.__("No runtime runs for %1. The last one: %2.", state.deviceSet, state.lastExit);
  }
  return trans.__(
    "Running on %1 for %2, process %3, jaxlib %4",
    state.deviceSet,
    formatDuration(state.uptimeSeconds ?? Number.NaN),
    String(state.pid ?? "–"),
    state.jaxlib ?? "–",
  );
}

function programState({ state, cached }: RuntimeProgram, trans: TranslationBundle): string {
  switch (state) {
    case "running":
      return trans.__("runs");
    case "compiling":
      return trans.__("is compiled");
    case "compiled":
      return cached === "disk" ? trans.__("from disk") : cached === "memory" ? trans.__("from memory") : "";
  }
}

function Holders({
  state,
  trans,
}: {
  readonly state: RuntimeState;
  readonly trans: TranslationBundle;
}): JSX.Element {
  const held = state.holders.map((holder) => ({
    holder,
    bytes: holder.devices.reduce((sum, { bytes }) => sum + bytes, 0),
  }));
  return (
    <details open data-part="holders">
      <summary>{trans.__("Who holds memory")}</summary>
      {held.length === 0 ? (
        <p>{trans.__("Nobody.")}</p>
      ) : (
        <table>
          <tbody>
            {held
              .sort((a, b) => b.bytes - a.bytes)
              .map(({ holder, bytes }) => (
                <tr key={`${holder.kind} ${holder.name} ${holder.number ?? ""}`} data-kind={holder.kind}>
                  <th scope="row">{holderName(holder, trans)}</th>
                  <td>{formatBytes(bytes)}</td>
                  <td>
                    {holder.kind === "process"
                      ? ""
                      : trans._n("%1 array", "%1 arrays", holder.buffers, formatInteger(holder.buffers))}
                  </td>
                </tr>
              ))}
          </tbody>
        </table>
      )}
    </details>
  );
}

function Programs({
  state,
  trans,
}: {
  readonly state: RuntimeState;
  readonly trans: TranslationBundle;
}): JSX.Element {
  const { programs } = state;
  const total = programs.reduce(
    (sum, { state: what, seconds }) => sum + (what === "compiled" ? seconds : 0),
    0,
  );
  return (
    <details data-part="programs">
      <summary>
        {trans.__(
          "Programs: %1, compiled in %2",
          formatInteger(programs.length),
          formatValue(total, "seconds"),
        )}
      </summary>
      <table>
        <tbody>
          {programs.slice(0, MOST_PROGRAMS).map((program, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: several programs may be alike in all that is shown
            <tr key={i} data-state={program.state}>
              <th scope="row" title={program.client}>
                {program.name}
              </th>
              <td>{formatValue(program.seconds, "seconds")}</td>
              <td>{programState(program, trans)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {programs.length > MOST_PROGRAMS ? (
        <p>{trans.__("and %1 more", formatInteger(programs.length - MOST_PROGRAMS))}</p>
      ) : null}
    </details>
  );
}

/** The runtime process: whether it runs, and what can be done about it. */
export class RuntimeStatusWidget extends ReactWidget {
  /** @param confirm - asks the user before something is lost. */
  constructor(
    private readonly trans: TranslationBundle,
    private readonly confirm: (action: RuntimeAction, state: RuntimeState) => Promise<boolean>,
  ) {
    super();
    this.addClass("aronnax-Runtime");
  }

  set link(link: RuntimeLink | null) {
    this.#link?.changed.disconnect(this.#onChanged, this);
    this.#link = link;
    this.#log = null;
    this.#answer = null;
    this.#busy = null;
    link?.changed.connect(this.#onChanged, this);
    this.update();
  }

  protected override render(): JSX.Element {
    return (
      <RuntimeStatus
        link={this.#link}
        busy={this.#busy}
        log={this.#log}
        answer={this.#answer}
        act={(action) => void this.act(action)}
        trans={this.trans}
      />
    );
  }

  async act(action: RuntimeAction): Promise<void> {
    const link = this.#link;
    const state = link?.state;
    if (!link || !state || this.#busy !== null) {
      return;
    }
    if (action === "logs" && this.#log !== null) {
      this.#log = null;
      this.update();
      return;
    }
    if (!(await this.confirm(action, state))) {
      return;
    }
    this.#busy = action;
    this.#answer = null;
    this.update();
    const answer = await link.do(action);
    if (this.isDisposed || this.#link !== link) {
      return;
    }
    this.#busy = null;
    this.#answer = answer;
    if (action === "logs" && answer.ok) {
      this.#log = answer.text;
    }
    this.update();
  }

  #onChanged(): void {
    this.update();
  }

  #link: RuntimeLink | null = null;
  #busy: RuntimeAction | null = null;
  #log: string | null = null;
  #answer: { ok: boolean; text: string } | null = null;
}

/** What the runtime holds and has compiled. */
export class RuntimeContentWidget extends ReactWidget {
  constructor(private readonly trans: TranslationBundle) {
    super();
    this.addClass("aronnax-RuntimeContent");
  }

  showState(state: RuntimeState | null): void {
    this.#state = state?.running ? state : null;
    this.update();
  }

  protected override render(): JSX.Element | null {
    return this.#state ? (
      <>
        <Holders state={this.#state} trans={this.trans} />
        <Programs state={this.#state} trans={this.trans} />
      </>
    ) : null;
  }

  #state: RuntimeState | null = null;
}
