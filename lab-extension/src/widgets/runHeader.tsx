import type { TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget, stopIcon } from "@jupyterlab/ui-components";
import type { Message } from "@lumino/messaging";
import { formatBytes, formatCount, formatDuration, formatInteger, formatValue } from "../model/format.js";
import { memoryOf, progressOf } from "../model/progress.js";
import type { Run } from "../model/run.js";
import { nonFiniteText, statusLabel, statusOf } from "../model/wording.js";

interface TileProps {
  readonly label: string;
  readonly value: string;
  readonly detail?: string;
  readonly name: string;
  readonly hint?: string;
}

function Tile({ label, value, detail, name, hint }: TileProps): JSX.Element {
  return (
    <div className="aronnax-Tile" data-tile={name} title={hint}>
      <span className="aronnax-Tile-label">{label}</span>
      <span className="aronnax-Tile-value">
        {value}
        {detail === undefined ? null : <small>{detail}</small>}
      </span>
    </div>
  );
}

/** Sentences on values that are not finite; the others are counted. */
const MOST_SENTENCES = 4;

function Notices({
  run,
  trans,
}: {
  readonly run: Run;
  readonly trans: TranslationBundle;
}): JSX.Element | null {
  const { nonFinite, stepsBack } = run;
  const sentences = [
    ...nonFinite.slice(0, MOST_SENTENCES).map((range) => nonFiniteText(range, trans)),
    ...(nonFinite.length > MOST_SENTENCES
      ? [trans._n("And %1 more range.", "And %1 more ranges.", nonFinite.length - MOST_SENTENCES)]
      : []),
  ];
  const back = stepsBack[0];
  return (
    <>
      {sentences.length === 0 ? null : (
        <p className="aronnax-Notice" data-status="failed" data-notice="not-finite" role="alert">
          {sentences.join(" ")}
        </p>
      )}
      {back === undefined ? null : (
        <p className="aronnax-Notice" data-status="interrupted" data-notice="steps-back">
          {stepsBack.length === 1
            ? trans.__(
                "The steps go back from %1 to %2: both parts are drawn.",
                formatInteger(back.from),
                formatInteger(back.to),
              )
            : trans.__(
                "The steps go back %1 times, first from %2 to %3: all parts are drawn.",
                stepsBack.length,
                formatInteger(back.from),
                formatInteger(back.to),
              )}
        </p>
      )}
    </>
  );
}

/** What a run said when it ended: its first line, and the rest on demand. */
function EndMessage({
  message,
  status,
  trans,
}: {
  readonly message: string;
  readonly status: string | undefined;
  readonly trans: TranslationBundle;
}): JSX.Element {
  const [first = "", ...rest] = message.trim().split("\n");
  return (
    <div className="aronnax-Notice" data-status={status} role="alert">
      {first}
      {rest.length === 0 ? null : (
        <details>
          <summary>{trans._n("%1 more line", "%1 more lines", rest.length)}</summary>
          <pre>{rest.join("\n")}</pre>
        </details>
      )}
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
  const status = statusOf(info);
  const running = status === "running";
  const waited = running ? sinceRow : 0;
  const optional = (name: string, label: string, column: string, text: (value: number) => string) =>
    run.series(column) ? <Tile name={name} label={label} value={text(run.last(column))} /> : null;
  const memory = memoryOf(run);
  return (
    <>
      <div className="aronnax-Header-title">
        <h2 title={info.path ?? info.name}>{info.name}</h2>
        {status ? (
          <span className="aronnax-Status" role="status" data-status={status}>
            {statusLabel(status, trans)}
          </span>
        ) : null}
        {info.startedAt > 0 ? (
          <time className="aronnax-Header-time" dateTime={new Date(info.startedAt).toISOString()}>
            {new Date(info.startedAt).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}
          </time>
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
        data-status={status}
        data-unknown={fraction === undefined && running ? true : undefined}
      >
        <div style={{ width: `${(fraction ?? 0) * 100}%` }} />
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
        {memory === undefined ? null : (
          <Tile
            name="memory"
            label={trans.__("Memory")}
            value={formatBytes(memory)}
            hint={trans.__("All categories together, as the top of the chart's stack")}
          />
        )}
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
      {status === "stale" ? (
        <p className="aronnax-Notice" data-status="stale" data-notice="stale" role="alert">
          {trans.__("The run says that it is running, but its process is gone: this is as far as it came.")}
        </p>
      ) : null}
      {info.message && info.status !== "finished" ? (
        <EndMessage message={info.message} status={status} trans={trans} />
      ) : null}
      <Notices run={run} trans={trans} />
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
      if (run !== this.#run || run?.rowCount !== this.#rowCount) {
        this.#shownAt = performance.now();
      }
      this.#run = run;
      this.#version = run?.version;
      this.#rowCount = run?.rowCount;
      this.setHidden(run === undefined);
      this.update();
    }
  }

  /** Seconds since the newest row came. */
  get silence(): number {
    return (performance.now() - this.#shownAt) / 1000;
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
      <RunHeader run={this.#run} sinceRow={this.silence} onStop={this.#onStop} trans={this.trans} />
    ) : null;
  }

  #run: Run | undefined;
  #version: number | undefined;
  #rowCount: number | undefined;
  #shownAt = 0;
  #onStop: (() => void) | undefined;
  #clock: ReturnType<typeof setInterval> | undefined;
}
