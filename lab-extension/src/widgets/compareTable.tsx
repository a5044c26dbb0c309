import type { TranslationBundle } from "@jupyterlab/translation";
import { HTMLSelect, ReactWidget } from "@jupyterlab/ui-components";
import { type CSSProperties, useId, useMemo, useState } from "react";
import { configOf, configText, differingKeys, keysOf } from "../model/config.js";
import { formatDelta, formatDuration, formatInteger, formatValue } from "../model/format.js";
import { groupRuns, parseQuery, runValue, type SortKey, sortRuns } from "../model/runQuery.js";
import type { RunEntry, SourceProgress } from "../model/source.js";
import type { ViewOptions } from "../model/viewOptions.js";
import { statusLabel, statusOf } from "../model/wording.js";
import { seriesColour } from "../painting/palette.js";
import { ParallelCoordinates } from "./parallelCoordinates.js";
import { Gap, useVisibleRows } from "./parts/virtualRows.js";

const ROW_HEIGHT = 30;
/** Metrics that are there at first, where runs have them. */
const FIRST_METRICS = ["loss", "valid_loss", "tokens_per_second"];
/** Keys of the configuration that are there at first: those that differ, as many as a table has room for. */
const FIRST_KEYS = 8;

interface CompareProps {
  readonly entries: readonly RunEntry[];
  readonly shown: readonly string[];
  readonly progress: SourceProgress;
  readonly options: ViewOptions;
  readonly trans: TranslationBundle;
}

interface Sorting {
  readonly key: SortKey;
  readonly isDescending: boolean;
}

function Compare({ entries, shown, progress, options, trans }: CompareProps): JSX.Element {
  const [query, setQuery] = useState("");
  const [sorting, setSorting] = useState<Sorting>({ key: { kind: "startedAt" }, isDescending: true });
  const [isWhole, setIsWhole] = useState(false);
  const [grouping, setGrouping] = useState("");
  const groupId = useId();
  const found = useMemo(() => {
    const sorted = sortRuns(entries.filter(parseQuery(query)), sorting.key, sorting.isDescending);
    // Groups stay together, in the order of their first.
    return grouping === "" ? sorted : groupRuns(sorted, grouping).flatMap(({ runs }) => runs);
  }, [entries, query, sorting, grouping]);
  const differing = useMemo(() => new Set(entries.length > 1 ? differingKeys(entries) : []), [entries]);
  const allKeys = useMemo(() => keysOf(entries), [entries]);
  const keys = isWhole ? allKeys : allKeys.filter((key) => differing.has(key)).slice(0, FIRST_KEYS);
  const metrics = useMemo(() => {
    const all = new Set(entries.flatMap((entry) => [...entry.columns.keys()]));
    for (const column of ["step", "time", "seconds_left"]) {
      all.delete(column);
    }
    return isWhole ? [...all] : FIRST_METRICS.filter((column) => all.has(column));
  }, [entries, isWhole]);
  const baseline = entries.find(({ id }) => id === options.choices.baseline);
  const { scroller, first, last, above, below } = useVisibleRows(found.length, ROW_HEIGHT);
  const columns = 6 + keys.length + metrics.length;
  const heading = (title: string, key: SortKey, differs = false) => {
    const isSorted = JSON.stringify(sorting.key) === JSON.stringify(key);
    return (
      <th
        key={`${key.kind} ${title}`}
        scope="col"
        data-differs={differs ? true : undefined}
        aria-sort={isSorted ? (sorting.isDescending ? "descending" : "ascending") : undefined}
      >
        <button
          type="button"
          onClick={() =>
            setSorting({ key, isDescending: isSorted ? !sorting.isDescending : key.kind === "startedAt" })
          }
        >
          {title}
          <span aria-hidden="true">{isSorted ? (sorting.isDescending ? " ↓" : " ↑") : ""}</span>
        </button>
      </th>
    );
  };
  return (
    <>
      <div className="aronnax-Config-tools">
        <input
          type="search"
          className="aronnax-Input"
          value={query}
          aria-label={trans.__("Filter runs")}
          placeholder={trans.__("Filter: lr>1e-4 loss<2 optimizer:adam status=failed")}
          onChange={(event) => setQuery(event.currentTarget.value)}
        />
        <span className="aronnax-RunList-count" role="status">
          {progress.runs
            ? trans.__("Read %1 of %2", formatInteger(progress.runs.read), formatInteger(progress.runs.total))
            : trans.__("%1 of %2 runs", found.length, entries.length)}
        </span>
        <div className="aronnax-Control">
          <label htmlFor={groupId}>{trans.__("Group by")}</label>
          <HTMLSelect
            id={groupId}
            data-control="table-group"
            value={grouping}
            onChange={(event) => setGrouping(event.currentTarget.value)}
          >
            <option value="">{trans.__("nothing")}</option>
            {allKeys.map((key) => (
              <option key={key} value={key}>
                {key}
              </option>
            ))}
          </HTMLSelect>
        </div>
        <label className="aronnax-Control">
          <input
            type="checkbox"
            checked={isWhole}
            onChange={(event) => setIsWhole(event.currentTarget.checked)}
          />
          <span>{trans.__("All parameters and metrics")}</span>
        </label>
      </div>
      <section
        ref={scroller}
        className="aronnax-TableFrame aronnax-mod-scrolled"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keys
        tabIndex={0}
        aria-label={trans.__("All runs")}
      >
        <table className="aronnax-Table aronnax-CompareTable" aria-rowcount={found.length + 1}>
          <thead>
            <tr>
              <th scope="col">
                <span className="aronnax-Hidden">{trans.__("In the charts")}</span>
              </th>
              {heading(trans.__("Run"), { kind: "name" })}
              {heading(trans.__("Status"), { kind: "status" })}
              {heading(trans.__("Begun"), { kind: "startedAt" })}
              {heading(trans.__("Step"), { kind: "step" })}
              {heading(trans.__("Took"), { kind: "seconds" })}
              {metrics.map((column) => heading(column, { kind: "metric", column }))}
              {keys.map((key) => heading(key, { kind: "config", key }, differing.has(key)))}
            </tr>
          </thead>
          <tbody>
            <Gap height={above} columns={columns} />
            {found.slice(first, last).map((entry, i) => (
              <CompareRow
                key={entry.id}
                entry={entry}
                index={first + i + 2}
                colour={shown.indexOf(entry.id)}
                baseline={baseline}
                isNewGroup={
                  grouping !== "" &&
                  first + i > 0 &&
                  configOf(found[first + i - 1]!).get(grouping) !== configOf(entry).get(grouping)
                }
                metrics={metrics}
                keys={keys}
                differing={differing}
                options={options}
                trans={trans}
              />
            ))}
            <Gap height={below} columns={columns} />
          </tbody>
        </table>
      </section>
      <ParallelCoordinates
        entries={found}
        shown={shown}
        keys={keys.filter((key) => differing.has(key))}
        metric={metrics[0] ?? ""}
        metrics={metrics}
        trans={trans}
      />
    </>
  );
}

interface CompareRowProps extends Pick<CompareProps, "options" | "trans"> {
  readonly entry: RunEntry;
  readonly index: number;
  readonly colour: number;
  readonly baseline: RunEntry | undefined;
  readonly isNewGroup: boolean;
  readonly metrics: readonly string[];
  readonly keys: readonly string[];
  readonly differing: ReadonlySet<string>;
}

function CompareRow(props: CompareRowProps): JSX.Element {
  const { entry, index, colour, baseline, isNewGroup, metrics, keys, differing, options, trans } = props;
  const { choices } = options;
  const status = statusOf(entry);
  const isBaseline = entry.id === choices.baseline;
  return (
    <tr
      data-run={entry.id}
      aria-rowindex={index}
      className={isNewGroup ? "aronnax-mod-newGroup" : undefined}
      data-baseline={isBaseline ? true : undefined}
    >
      <td>
        <input
          type="checkbox"
          checked={colour >= 0}
          aria-label={trans.__("Show %1 in the charts", entry.name)}
          style={colour >= 0 ? ({ accentColor: seriesColour(colour) } as CSSProperties) : undefined}
          onChange={(event) =>
            options.set({
              compare: event.currentTarget.checked
                ? [...choices.compare, entry.id]
                : choices.compare.filter((id) => id !== entry.id),
            })
          }
        />
      </td>
      <th scope="row">
        <button
          type="button"
          className="aronnax-Pin"
          aria-pressed={isBaseline}
          title={trans.__("Compare the others with this run")}
          aria-label={trans.__("%1 is the baseline", entry.name)}
          onClick={() => options.set({ baseline: isBaseline ? null : entry.id })}
        >
          ◆
        </button>
        {entry.name}
      </th>
      <td>
        {status ? (
          <>
            <span className="aronnax-Dot" data-status={status} /> {statusLabel(status, trans)}
          </>
        ) : (
          "–"
        )}
      </td>
      <td>{entry.startedAt > 0 ? new Date(entry.startedAt).toLocaleString() : "–"}</td>
      <td className="aronnax-mod-number">{formatInteger(entry.step)}</td>
      <td className="aronnax-mod-number">{formatDuration(entry.seconds)}</td>
      {metrics.map((column) => (
        <MetricCell key={column} entry={entry} column={column} baseline={isBaseline ? undefined : baseline} />
      ))}
      {keys.map((key) => {
        const value = configOf(entry).get(key);
        const isOther = baseline !== undefined && !isBaseline && configOf(baseline).get(key) !== value;
        return (
          <td
            key={key}
            data-key={key}
            data-differs={differing.has(key) ? true : undefined}
            className={`${typeof value === "number" ? "aronnax-mod-number" : ""} ${isOther ? "aronnax-mod-other" : ""}`}
          >
            {configText(value)}
          </td>
        );
      })}
    </tr>
  );
}

function MetricCell({
  entry,
  column,
  baseline,
}: {
  readonly entry: RunEntry;
  readonly column: string;
  readonly baseline: RunEntry | undefined;
}): JSX.Element {
  const value = runValue(entry, { kind: "metric", column });
  const base = baseline && runValue(baseline, { kind: "metric", column });
  return (
    <td className="aronnax-mod-number" data-metric={column}>
      {typeof value === "number" ? formatValue(value, "number") : "–"}
      {typeof value === "number" && typeof base === "number" ? (
        <small className="aronnax-Delta">{formatDelta(value - base, "number")}</small>
      ) : null}
    </td>
  );
}

/** All runs of a source as a table, and a sweep as parallel coordinates. */
export class CompareWidget extends ReactWidget {
  constructor(
    private readonly options: ViewOptions,
    private readonly trans: TranslationBundle,
  ) {
    super();
    this.addClass("aronnax-CompareView");
  }

  showRuns(entries: readonly RunEntry[], shown: readonly string[], progress: SourceProgress): void {
    this.#props = { entries, shown, progress };
    this.update();
  }

  protected override render(): JSX.Element | null {
    return this.#props.entries.length === 0 ? null : (
      <Compare {...this.#props} options={this.options} trans={this.trans} />
    );
  }

  #props: Pick<CompareProps, "entries" | "shown" | "progress"> = { entries: [], shown: [], progress: {} };
}
