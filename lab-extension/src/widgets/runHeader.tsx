import type { TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget, stopIcon } from "@jupyterlab/ui-components";
import type { Message } from "@lumino/messaging";
import { formatBytes, formatCount, formatDuration, formatInteger, formatValue } from "../model/format.js";
import { progressOf } from "../model/progress.js";
import type { RunStatus } from "../model/protocol.js";
import type { Run } from "../model/run.js";

function statusLabel(status: RunStatus, trans: TranslationBundle): string {
  switch (status) {
    case "running":
      return trans.__("Running");
    case "interrupted":
      return trans.__("Interrupted");
    case "finished":
      return trans.__("Finished");
    case "failed":
      return trans.__("Failed");
  }
}

interface TileProps {
  readonly label: string;
  readonly value: string;
  readonly detail?: string;
  readonly name: string;
}

function Tile({ label, value, detail, name }: TileProps): JSX.Element {
  return (
    <div className="aronnax-Tile" data-tile={name}>
      <span className="aronnax-Tile-label">{label}</span>
      <span className="aronnax-Tile-value">
        {value}
        {detail === undefined ? null : <small>{detail}</small>}
      </span>
    </div>
  );
}

interface RunHeaderProps {
  readonly run: Run;
  /** Seconds since the newest row, which the elapsed time is ahead of it. */
  readonly sinceRow: number;
  readonly onStop: (() => void) | undefined;
  readonly trans: TranslationBundle;
}

function RunHeader({ run, sinceRow, onStop, trans }: RunHeaderProps): JSX.Element {
  const { info } = run;
  const { step, totalSteps, fraction, elapsed, left } = progressOf(run);
  const running = info.status === "running";
  const waited = running ? sinceRow : 0;
  const optional = (name: string, label: string, column: string, text: (value: number) => string) =>
    run.series(column) ? <Tile name={name} label={label} value={text(run.last(column))} /> : null;
  const trouble = run.firstNonFinite;
  return (
    <>
      <div className="aronnax-Header-title">
        <h2 title={info.path}>{info.name}</h2>
        {info.status ? (
          <span className="aronnax-Status" role="status" data-status={info.status}>
            {statusLabel(info.status, trans)}
          </span>
        ) : null}
        {running && onStop ? (
          <button
            type="button"
            className="aronnax-Button aronnax-mod-icon"
            data-control="stop"
            title={trans.__("Interrupt the kernel: the run stops after this step and can go on later")}
            aria-label={trans.__("Interrupt")}
            onClick={onStop}
          >
            <stopIcon.react tag="span" width={16} height={16} />
          </button>
        ) : null}
      </div>
      <div
        className="aronnax-Progress"
        role="progressbar"
        aria-label={trans.__("Progress")}
        aria-valuenow={fraction === undefined ? undefined : Math.round(fraction * 100)}
        data-status={info.status}
      >
        <div style={{ width: `${(fraction ?? (running ? 1 : 0)) * 100}%` }} />
      </div>
      <div className="aronnax-Tiles">
        <Tile
          name="step"
          label={trans.__("Step")}
          value={formatInteger(step)}
          detail={totalSteps === undefined ? undefined : `/ ${formatInteger(totalSteps)}`}
        />
        {optional("loss", trans.__("Loss"), "loss", (value) => formatValue(value, "number"))}
        {optional("valid_loss", trans.__("Validation"), "valid_loss", (value) =>
          formatValue(value, "number"),
        )}
        {optional("tokens_per_second", trans.__("Tokens/s"), "tokens_per_second", formatCount)}
        {optional("tokens", trans.__("Tokens"), "tokens", formatCount)}
        {optional("mfu", trans.__("MFU"), "mfu", (value) => formatValue(value, "fraction"))}
        {optional("memory", trans.__("Memory"), "memory_total", formatBytes)}
        <Tile
          name="elapsed"
          label={trans.__("Elapsed")}
          value={formatDuration((Number.isNaN(elapsed) ? 0 : elapsed) + waited)}
        />
        {running && Number.isFinite(left) ? (
          <Tile
            name="left"
            label={trans.__("Time left")}
            value={formatDuration(Math.max(0, left - waited))}
          />
        ) : null}
      </div>
      {info.message && info.status !== "finished" ? (
        <p className="aronnax-Notice" data-status={info.status} role="alert">
          {info.message}
        </p>
      ) : null}
      {trouble ? (
        <p className="aronnax-Notice" data-status="failed" role="alert">
          {trans.__("%1 is not finite since step %2.", trouble.column, formatInteger(trouble.step))}
        </p>
      ) : null}
    </>
  );
}

/** The name, status, progress and newest figures of a run. */
export class RunHeaderWidget extends ReactWidget {
  constructor(private readonly trans: TranslationBundle) {
    super();
    this.addClass("aronnax-Header");
  }

  /**
   * Shows a run as it is now.
   *
   * @param onStop - what interrupts it, where that can be done from here.
   */
  showRun(run: Run | undefined, onStop?: () => void): void {
    this.#onStop = onStop;
    if (run !== this.#run || run?.version !== this.#version) {
      this.#run = run;
      this.#version = run?.version;
      this.#shownAt = performance.now();
      this.setHidden(run === undefined);
      this.update();
    }
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    // The clock goes on between the rows: the first step may take a minute to compile.
    this.#clock = setInterval(() => {
      if (this.isVisible && this.#run?.info.status === "running") {
        this.update();
      }
    }, 1000);
  }

  protected override onBeforeDetach(message: Message): void {
    clearInterval(this.#clock);
    super.onBeforeDetach(message);
  }

  protected override render(): JSX.Element | null {
    return this.#run ? (
      <RunHeader
        run={this.#run}
        sinceRow={(performance.now() - this.#shownAt) / 1000}
        onStop={this.#onStop}
        trans={this.trans}
      />
    ) : null;
  }

  #run: Run | undefined;
  #version: number | undefined;
  #shownAt = 0;
  #onStop: (() => void) | undefined;
  #clock: ReturnType<typeof setInterval> | undefined;
}
