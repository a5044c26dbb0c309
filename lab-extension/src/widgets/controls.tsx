import type { TranslationBundle } from "@jupyterlab/translation";
import { downloadIcon, HTMLSelect, ReactWidget } from "@jupyterlab/ui-components";
import { type CSSProperties, useEffect, useId, useRef } from "react";
import type { Run } from "../model/run.js";
import { type ViewOptions, X_AXES, type XAxis } from "../model/viewOptions.js";
import { seriesColour } from "./palette.js";

function axisLabel(axis: XAxis, trans: TranslationBundle): string {
  switch (axis) {
    case "step":
      return trans.__("Steps");
    case "tokens":
      return trans.__("Tokens");
    case "time":
      return trans.__("Time");
  }
}

/** The slider is linear in how far the average looks back, which is what the eye sees: 0, 1, 2, 5 ... steps. */
const SMOOTHING = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995];

interface ControlsProps {
  readonly runs: readonly Run[];
  /** The runs on display, the header's first. */
  readonly shown: readonly Run[];
  readonly options: ViewOptions;
  readonly trans: TranslationBundle;
  readonly onExport: () => void;
}

function Controls({ runs, shown, options, trans, onExport }: ControlsProps): JSX.Element {
  const axisId = useId();
  const { choices, zoom } = options;
  const position = SMOOTHING.reduce(
    (best, weight, i) =>
      Math.abs(weight - choices.smoothing) < Math.abs(SMOOTHING[best]! - choices.smoothing) ? i : best,
    0,
  );
  return (
    <>
      {runs.length > 1 ? <RunChooser runs={runs} shown={shown} options={options} trans={trans} /> : null}
      <div className="aronnax-Control">
        <label htmlFor={axisId}>{trans.__("X axis")}</label>
        <HTMLSelect
          id={axisId}
          data-control="x-axis"
          value={choices.xAxis}
          onChange={(event) => options.set({ xAxis: event.currentTarget.value as XAxis })}
        >
          {X_AXES.map((axis) => (
            <option key={axis} value={axis}>
              {axisLabel(axis, trans)}
            </option>
          ))}
        </HTMLSelect>
      </div>
      <label
        className="aronnax-Control"
        title={trans.__("Weight of the past in the moving average of each line")}
      >
        <span>{trans.__("Smoothing")}</span>
        <input
          type="range"
          data-control="smoothing"
          min={0}
          max={SMOOTHING.length - 1}
          step={1}
          value={position}
          aria-valuetext={String(choices.smoothing)}
          onChange={(event) => options.set({ smoothing: SMOOTHING[event.currentTarget.valueAsNumber]! })}
        />
        <output>{choices.smoothing === 0 ? trans.__("off") : choices.smoothing}</output>
      </label>
      <span className="aronnax-Controls-spacer" />
      {zoom ? (
        <button type="button" className="aronnax-Button" onClick={() => options.zoomTo(null)}>
          {trans.__("Reset zoom")}
        </button>
      ) : null}
      <button
        type="button"
        className="aronnax-Button aronnax-mod-icon"
        data-control="export"
        title={trans.__("Download the metrics of the run as CSV")}
        aria-label={trans.__("Export CSV")}
        onClick={onExport}
      >
        <downloadIcon.react tag="span" width={16} height={16} />
      </button>
    </>
  );
}

type RunChooserProps = Omit<ControlsProps, "onExport">;

function RunChooser({ runs, shown, options, trans }: RunChooserProps): JSX.Element {
  const runId = useId();
  const menu = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = ({ target }: PointerEvent) => {
      if (menu.current && !menu.current.contains(target as Node)) {
        menu.current.open = false;
      }
    };
    document.addEventListener("pointerdown", close);
    return () => document.removeEventListener("pointerdown", close);
  }, []);
  const { choices } = options;
  const primary = shown[0];
  const others = runs.filter((run) => run !== primary);
  return (
    <>
      <div className="aronnax-Control">
        <label htmlFor={runId}>{trans.__("Run")}</label>
        <HTMLSelect
          id={runId}
          data-control="run"
          value={choices.run ?? ""}
          onChange={(event) => options.set({ run: event.currentTarget.value || null })}
        >
          <option value="">{trans.__("Newest")}</option>
          {runs.map((run) => (
            <option key={run.id} value={run.id}>
              {`${run.info.name} · ${new Date(run.info.startedAt).toLocaleTimeString()}`}
            </option>
          ))}
        </HTMLSelect>
      </div>
      <details
        ref={menu}
        className="aronnax-Compare"
        onKeyDown={({ key, currentTarget }) => {
          if (key === "Escape") {
            currentTarget.open = false;
          }
        }}
      >
        <summary className="aronnax-Button">{trans._n("Compare", "Compare (%1)", shown.length)}</summary>
        <div className="aronnax-Compare-list">
          {others.map((run) => {
            const colour = shown.indexOf(run);
            return (
              <label key={run.id}>
                <input
                  type="checkbox"
                  checked={colour >= 0}
                  onChange={(event) =>
                    options.set({
                      compare: event.currentTarget.checked
                        ? [...choices.compare, run.id]
                        : choices.compare.filter((id) => id !== run.id),
                    })
                  }
                />
                <span
                  className="aronnax-Legend-swatch"
                  style={
                    colour >= 0 ? ({ "--aronnax-colour": seriesColour(colour) } as CSSProperties) : undefined
                  }
                />
                <span>{`${run.info.name} · ${new Date(run.info.startedAt).toLocaleTimeString()}`}</span>
              </label>
            );
          })}
        </div>
      </details>
    </>
  );
}

/** What the user can choose in a view. */
export class ControlsWidget extends ReactWidget {
  constructor(
    private readonly options: ViewOptions,
    private readonly trans: TranslationBundle,
    private readonly onExport: () => void,
  ) {
    super();
    this.addClass("aronnax-Controls");
  }

  showRuns(runs: readonly Run[], shown: readonly Run[]): void {
    this.#runs = runs;
    this.#shown = shown;
    this.setHidden(shown.length === 0);
    this.update();
  }

  protected override render(): JSX.Element {
    return (
      <Controls
        runs={this.#runs}
        shown={this.#shown}
        options={this.options}
        trans={this.trans}
        onExport={this.onExport}
      />
    );
  }

  #runs: readonly Run[] = [];
  #shown: readonly Run[] = [];
}
