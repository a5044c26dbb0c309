import type { TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget } from "@jupyterlab/ui-components";
import { type CSSProperties, useMemo, useState } from "react";
import { formatInteger, formatValue } from "../model/format.js";
import { parseQuery } from "../model/runQuery.js";
import type { RunEntry, SourceProgress } from "../model/source.js";
import type { ViewOptions } from "../model/viewOptions.js";
import { statusLabel, statusOf } from "../model/wording.js";
import { seriesColour } from "../painting/palette.js";
import { useVisibleRows } from "./parts/virtualRows.js";

const ROW_HEIGHT = 44;

interface RunListProps {
  readonly entries: readonly RunEntry[];
  /** Ids of the runs on display, the header's first. */
  readonly shown: readonly string[];
  readonly progress: SourceProgress;
  readonly options: ViewOptions;
  readonly trans: TranslationBundle;
}

function RunList({ entries, shown, progress, options, trans }: RunListProps): JSX.Element {
  const [query, setQuery] = useState("");
  const found = useMemo(() => entries.filter(parseQuery(query)), [entries, query]);
  const { scroller, first, last, above, below } = useVisibleRows(found.length, ROW_HEIGHT);
  const { choices } = options;
  const toggle = (id: string, isWanted: boolean) => {
    if (isWanted) {
      options.set({ compare: [...choices.compare.filter((other) => other !== id), id] });
    } else if (id === shown[0]) {
      options.set({ run: shown[1] ?? null, compare: choices.compare.filter((other) => other !== shown[1]) });
    } else {
      options.set({ compare: choices.compare.filter((other) => other !== id) });
    }
  };
  return (
    <>
      <div className="aronnax-RunList-search">
        <input
          type="search"
          className="aronnax-Input"
          value={query}
          aria-label={trans.__("Search runs")}
          placeholder={trans.__("Search: name, lr>1e-4, status=failed")}
          onChange={(event) => setQuery(event.currentTarget.value)}
        />
        <span className="aronnax-RunList-count" role="status">
          {progress.runs
            ? trans.__("Read %1 of %2", formatInteger(progress.runs.read), formatInteger(progress.runs.total))
            : query === ""
              ? trans._n("%1 run", "%1 runs", entries.length)
              : trans.__("%1 of %2 runs", found.length, entries.length)}
        </span>
      </div>
      <div ref={scroller} className="aronnax-RunList-rows" tabIndex={-1}>
        <ul aria-label={trans.__("Runs")} style={{ paddingTop: above, paddingBottom: below }}>
          {found.slice(first, last).map((entry) => (
            <RunRow
              key={entry.id}
              entry={entry}
              colour={shown.indexOf(entry.id)}
              isBaseline={choices.baseline === entry.id}
              trans={trans}
              onToggle={(isWanted) => toggle(entry.id, isWanted)}
              onChoose={() =>
                options.set({ run: entry.id, compare: choices.compare.filter((id) => id !== entry.id) })
              }
            />
          ))}
        </ul>
      </div>
    </>
  );
}

interface RunRowProps {
  readonly entry: RunEntry;
  /** -1 where it is not on display. */
  readonly colour: number;
  readonly isBaseline: boolean;
  readonly trans: TranslationBundle;
  readonly onToggle: (isWanted: boolean) => void;
  readonly onChoose: () => void;
}

function RunRow({ entry, colour, isBaseline, trans, onToggle, onChoose }: RunRowProps): JSX.Element {
  const status = statusOf(entry);
  const loss = entry.columns.get("loss")?.last;
  const details = [
    Number.isFinite(entry.step) ? trans.__("step %1", formatInteger(entry.step)) : "",
    loss === undefined ? "" : trans.__("loss %1", formatValue(loss, "number")),
  ].filter((text) => text !== "");
  const started = entry.startedAt > 0 ? new Date(entry.startedAt) : undefined;
  return (
    <li className="aronnax-RunList-row" data-run={entry.id} data-shown={colour >= 0 ? true : undefined}>
      <input
        type="checkbox"
        checked={colour >= 0}
        aria-label={trans.__("Show %1 in the charts", entry.name)}
        style={colour >= 0 ? ({ accentColor: seriesColour(colour) } as CSSProperties) : undefined}
        onChange={(event) => onToggle(event.currentTarget.checked)}
      />
      <button
        type="button"
        onClick={onChoose}
        aria-current={colour === 0 ? "true" : undefined}
        title={started ? trans.__("%1, begun %2", entry.name, started.toLocaleString()) : entry.name}
      >
        <span className="aronnax-RunList-name">
          {isBaseline ? <span title={trans.__("Baseline")}>◆ </span> : null}
          {entry.name}
        </span>
        <span className="aronnax-RunList-details">
          {status ? (
            <span className="aronnax-Dot" data-status={status} title={statusLabel(status, trans)}>
              <span className="aronnax-Hidden">{statusLabel(status, trans)}</span>
            </span>
          ) : null}
          {started ? (
            <time dateTime={started.toISOString()}>
              {started.toLocaleString(undefined, {
                month: "short",
                day: "numeric",
                hour: "numeric",
                minute: "2-digit",
              })}
            </time>
          ) : null}
          <span>{details.join(" · ")}</span>
        </span>
      </button>
    </li>
  );
}

/** The runs to choose from. */
export class RunListWidget extends ReactWidget {
  constructor(
    private readonly options: ViewOptions,
    private readonly trans: TranslationBundle,
  ) {
    super();
    this.addClass("aronnax-RunList");
    this.node.setAttribute("role", "navigation");
    this.node.setAttribute("aria-label", trans.__("Training runs"));
  }

  showRuns(entries: readonly RunEntry[], shown: readonly string[], progress: SourceProgress): void {
    this.#entries = entries;
    this.#shown = shown;
    this.#progress = progress;
    this.update();
  }

  protected override render(): JSX.Element {
    return (
      <RunList
        entries={this.#entries}
        shown={this.#shown}
        progress={this.#progress}
        options={this.options}
        trans={this.trans}
      />
    );
  }

  #entries: readonly RunEntry[] = [];
  #shown: readonly string[] = [];
  #progress: SourceProgress = {};
}
