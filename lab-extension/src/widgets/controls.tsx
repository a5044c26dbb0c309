import type { TranslationBundle } from "@jupyterlab/translation";
import { downloadIcon, HTMLSelect, ReactWidget } from "@jupyterlab/ui-components";
import { useEffect, useId, useRef } from "react";
import { EXPORTS, type ExportKind, exportLabel } from "../export/kinds.js";
import { keysOf } from "../model/config.js";
import { axisTitle } from "../model/format.js";
import type { Run } from "../model/run.js";
import { entryOf } from "../model/source.js";
import { TABS, type Tab, type ViewOptions, X_AXES } from "../model/viewOptions.js";

/** The slider is linear in how far the average looks back, which is what the eye sees: 0, 1, 2, 5 ... steps. */
const SMOOTHING = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995];

function tabLabel(tab: Tab, trans: TranslationBundle): string {
  switch (tab) {
    case "charts":
      return trans.__("Charts");
    case "samples":
      return trans.__("Samples");
    case "configuration":
      return trans.__("Configuration");
    case "compare":
      return trans.__("Compare");
  }
}

interface ControlsProps {
  /** The runs on display, the header's first. */
  readonly shown: readonly Run[];
  readonly tabs: readonly Tab[];
  readonly options: ViewOptions;
  readonly trans: TranslationBundle;
  readonly onExport: (kind: ExportKind) => void;
}

function Controls({ shown, tabs, options, trans, onExport }: ControlsProps): JSX.Element {
  const axisId = useId();
  const groupId = useId();
  const { choices } = options;
  const position = SMOOTHING.reduce(
    (best, weight, i) =>
      Math.abs(weight - choices.smoothing) < Math.abs(SMOOTHING[best]! - choices.smoothing) ? i : best,
    0,
  );
  const columns = [...new Set([...X_AXES, ...shown.flatMap((run) => run.columns), choices.xAxis])];
  const keys = shown.length > 2 ? keysOf(shown.map(entryOf)) : [];
  const isCharts = choices.tab === "charts";
  return (
    <>
      {tabs.length > 1 ? <Tabs tabs={tabs} options={options} trans={trans} /> : null}
      {isCharts ? (
        <>
          <div className="aronnax-Control">
            <label htmlFor={axisId}>{trans.__("X axis")}</label>
            <HTMLSelect
              id={axisId}
              data-control="x-axis"
              value={choices.xAxis}
              onChange={(event) => options.set({ xAxis: event.currentTarget.value })}
            >
              {columns.map((axis) => (
                <option key={axis} value={axis}>
                  {axisTitle(axis, trans)}
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
            <span className="aronnax-Control-value">
              {choices.smoothing === 0 ? trans.__("off") : choices.smoothing}
            </span>
          </label>
          <label
            className="aronnax-Control"
            title={trans.__(
              "Leave the few values that are far from all others out of the y axes, and mark them",
            )}
          >
            <input
              type="checkbox"
              data-control="robust"
              checked={choices.robust}
              onChange={(event) => options.set({ robust: event.currentTarget.checked })}
            />
            <span>{trans.__("Ignore outliers")}</span>
          </label>
          {keys.length > 0 ? (
            <div className="aronnax-Control">
              <label htmlFor={groupId}>{trans.__("Average by")}</label>
              <HTMLSelect
                id={groupId}
                data-control="group-by"
                value={choices.groupBy ?? ""}
                onChange={(event) => options.set({ groupBy: event.currentTarget.value || null })}
              >
                <option value="">{trans.__("nothing")}</option>
                {keys.map((key) => (
                  <option key={key} value={key}>
                    {key}
                  </option>
                ))}
              </HTMLSelect>
            </div>
          ) : null}
        </>
      ) : null}
      <span className="aronnax-Controls-spacer" />
      {isCharts && options.isZoomed ? (
        <button type="button" className="aronnax-Button" onClick={() => options.resetZoom()}>
          {trans.__("Reset zoom")}
        </button>
      ) : null}
      <ExportMenu trans={trans} onExport={onExport} />
    </>
  );
}

function Tabs({ tabs, options, trans }: Pick<ControlsProps, "tabs" | "options" | "trans">): JSX.Element {
  const list = useRef<HTMLDivElement>(null);
  const current = options.choices.tab;
  const go = (by: number) => {
    const next = tabs[(tabs.indexOf(current) + by + tabs.length) % tabs.length]!;
    options.set({ tab: next });
    requestAnimationFrame(() =>
      list.current?.querySelector<HTMLElement>('[role="tab"][aria-selected="true"]')?.focus(),
    );
  };
  return (
    <div
      ref={list}
      className="aronnax-Tabs"
      role="tablist"
      aria-label={trans.__("Parts of the view")}
      onKeyDown={(event) => {
        if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
          go(event.key === "ArrowLeft" ? -1 : 1);
          event.preventDefault();
        }
      }}
    >
      {tabs.map((tab) => (
        <button
          key={tab}
          type="button"
          role="tab"
          data-tab={tab}
          aria-selected={tab === current}
          tabIndex={tab === current ? 0 : -1}
          onClick={() => options.set({ tab })}
        >
          {tabLabel(tab, trans)}
        </button>
      ))}
    </div>
  );
}

function ExportMenu({ trans, onExport }: Pick<ControlsProps, "trans" | "onExport">): JSX.Element {
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
  return (
    <details
      ref={menu}
      className="aronnax-Menu"
      onKeyDown={({ key, currentTarget }) => {
        if (key === "Escape") {
          currentTarget.open = false;
          currentTarget.querySelector("summary")?.focus();
        }
      }}
    >
      <summary className="aronnax-Button aronnax-mod-icon" data-control="export" title={trans.__("Export")}>
        <downloadIcon.react tag="span" width={16} height={16} />
        <span>{trans.__("Export")}</span>
      </summary>
      <div className="aronnax-Menu-list">
        {EXPORTS.map((kind) => (
          <button
            key={kind}
            type="button"
            data-export={kind}
            onClick={() => {
              menu.current!.open = false;
              onExport(kind);
            }}
          >
            {exportLabel(kind, trans)}
          </button>
        ))}
      </div>
    </details>
  );
}

/** What the user can choose in a view. */
export class ControlsWidget extends ReactWidget {
  constructor(
    private readonly options: ViewOptions,
    private readonly trans: TranslationBundle,
    private readonly onExport: (kind: ExportKind) => void,
  ) {
    super();
    this.addClass("aronnax-Controls");
    options.zoomChanged.connect(this.#onZoom, this);
  }

  /** @param tabs - those that there is something for. */
  showRuns(shown: readonly Run[], tabs: readonly Tab[] = TABS): void {
    this.#shown = shown;
    this.#tabs = tabs;
    this.setHidden(shown.length === 0 && tabs.length < 2);
    const state = JSON.stringify([
      tabs,
      this.options.choices,
      this.options.isZoomed,
      shown.map((run) => [run.id, run.columns.length]),
    ]);
    if (state !== this.#state) {
      this.#state = state;
      this.update();
    }
  }

  override dispose(): void {
    this.options.zoomChanged.disconnect(this.#onZoom, this);
    super.dispose();
  }

  #onZoom(): void {
    if (this.options.isZoomed !== this.#isZoomed) {
      this.#isZoomed = this.options.isZoomed;
      this.update();
    }
  }

  protected override render(): JSX.Element {
    return (
      <Controls
        shown={this.#shown}
        tabs={this.#tabs}
        options={this.options}
        trans={this.trans}
        onExport={this.onExport}
      />
    );
  }

  #state = "";
  #isZoomed = false;
  #shown: readonly Run[] = [];
  #tabs: readonly Tab[] = [];
}
