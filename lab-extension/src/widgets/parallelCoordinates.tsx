import type { TranslationBundle } from "@jupyterlab/translation";
import { HTMLSelect } from "@jupyterlab/ui-components";
import { useId, useMemo, useState } from "react";
import { configOf, configText } from "../model/config.js";
import { formatValue } from "../model/format.js";
import type { RunEntry } from "../model/source.js";
import { seriesColour } from "../painting/palette.js";

const WIDTH = 900;
const HEIGHT = 240;
const MARGIN = { top: 30, bottom: 16, side: 60 };
/** More lines than this are a surface. */
const MOST_RUNS = 400;

interface ParallelCoordinatesProps {
  readonly entries: readonly RunEntry[];
  /** Ids of the runs that are in the charts, which keep their colours. */
  readonly shown: readonly string[];
  readonly keys: readonly string[];
  readonly metric: string;
  readonly metrics: readonly string[];
  readonly trans: TranslationBundle;
}

interface Axis {
  readonly title: string;
  readonly place: (entry: RunEntry) => number;
  readonly labels: readonly { readonly at: number; readonly text: string }[];
}

/** Where the runs lie between the least and the greatest value, or, of words, in their order. */
function axisOf(title: string, entries: readonly RunEntry[], value: (entry: RunEntry) => unknown): Axis {
  const values = entries.map(value);
  const numbers = values.filter((one): one is number => typeof one === "number" && Number.isFinite(one));
  if (numbers.length > 0 && values.every((one) => typeof one === "number" || one === undefined)) {
    const positive = numbers.every((one) => one > 0);
    const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
    // A sweep over orders of magnitude is one in the exponent.
    const scale = positive && most / least >= 50 ? Math.log10 : (one: number) => one;
    const length = scale(most) - scale(least) || 1;
    return {
      title,
      place: (entry) => {
        const one = value(entry);
        return typeof one === "number" ? (scale(one) - scale(least)) / length : Number.NaN;
      },
      labels: [
        { at: 0, text: formatValue(least, "number") },
        { at: 1, text: formatValue(most, "number") },
      ],
    };
  }
  const words = [...new Set(values.map((one) => configText(one as string | undefined)))].sort();
  const at = (word: string) => (words.length < 2 ? 0.5 : words.indexOf(word) / (words.length - 1));
  return {
    title,
    place: (entry) => at(configText(value(entry) as string | undefined)),
    labels: words.slice(0, 8).map((word) => ({ at: at(word), text: word })),
  };
}

/** A sweep: a line a run, through its parameters to what became of them. */
export function ParallelCoordinates(props: ParallelCoordinatesProps): JSX.Element | null {
  const { entries, shown, keys, metrics, trans } = props;
  const metricId = useId();
  const [chosen, setChosen] = useState("");
  const [pointed, setPointed] = useState<string | null>(null);
  const metric = metrics.includes(chosen) ? chosen : props.metric;
  const drawn = useMemo(
    () => entries.filter((entry) => entry.columns.has(metric)).slice(0, MOST_RUNS),
    [entries, metric],
  );
  const axes = useMemo(
    () =>
      metric === "" || drawn.length < 2
        ? []
        : [
            ...keys.map((key) => axisOf(key, drawn, (entry) => configOf(entry).get(key))),
            axisOf(metric, drawn, (entry) => entry.columns.get(metric)?.last),
          ],
    [drawn, keys, metric],
  );
  if (keys.length === 0 || axes.length === 0) {
    return null;
  }
  const x = (i: number) =>
    MARGIN.side + (axes.length < 2 ? 0 : (i * (WIDTH - 2 * MARGIN.side)) / (axes.length - 1));
  const y = (share: number) => HEIGHT - MARGIN.bottom - share * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const result = axes.at(-1)!;
  const named = drawn.find(({ id }) => id === pointed);
  return (
    <section className="aronnax-Parallel" aria-label={trans.__("Parallel coordinates")}>
      <header>
        <h3>{trans.__("Parameters and result")}</h3>
        <span className="aronnax-Parallel-named" aria-live="polite">
          {named
            ? `${named.name}: ${metric} ${formatValue(named.columns.get(metric)!.last, "number")}`
            : trans.__("Point at a line to see its run")}
        </span>
        <div className="aronnax-Control">
          <label htmlFor={metricId}>{trans.__("Result")}</label>
          <HTMLSelect id={metricId} value={metric} onChange={(event) => setChosen(event.currentTarget.value)}>
            {metrics.map((column) => (
              <option key={column} value={column}>
                {column}
              </option>
            ))}
          </HTMLSelect>
        </div>
      </header>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={trans.__("%1 runs over %2 and %3", drawn.length, keys.join(", "), metric)}
        onPointerLeave={() => setPointed(null)}
      >
        {axes.map((axis, i) => (
          <g key={axis.title}>
            <line className="aronnax-Parallel-axis" x1={x(i)} x2={x(i)} y1={y(0)} y2={y(1)} />
            <text x={x(i)} y={12} textAnchor="middle" className="aronnax-Parallel-title">
              {axis.title.length > 22 ? `…${axis.title.slice(-21)}` : axis.title}
            </text>
            {axis.labels.map(({ at, text }) => (
              <text key={text} x={x(i) - 5} y={y(at) + 4} textAnchor="end">
                {text.length > 12 ? `${text.slice(0, 11)}…` : text}
              </text>
            ))}
          </g>
        ))}
        {drawn.map((entry) => {
          const points = axes.flatMap((axis, i) => {
            const share = axis.place(entry);
            return Number.isFinite(share) ? [`${x(i)},${y(share)}`] : [];
          });
          const place = result.place(entry);
          const colour = shown.indexOf(entry.id);
          const style =
            colour >= 0
              ? { stroke: seriesColour(colour) }
              : {
                  stroke: `color-mix(in srgb, var(--jp-brand-color1) ${Math.round(100 * (1 - (Number.isFinite(place) ? place : 1)))}%, var(--jp-warn-color1))`,
                };
          return (
            <polyline
              key={entry.id}
              data-run={entry.id}
              className={`aronnax-Parallel-run${pointed === entry.id ? " aronnax-mod-pointed" : ""}`}
              points={points.join(" ")}
              style={style}
              onPointerEnter={() => setPointed(entry.id)}
            >
              <title>{entry.name}</title>
            </polyline>
          );
        })}
      </svg>
    </section>
  );
}
