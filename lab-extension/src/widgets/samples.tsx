import type { TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget } from "@jupyterlab/ui-components";
import { useEffect, useId, useMemo, useState } from "react";
import { formatInteger } from "../model/format.js";
import type { MediaRecord } from "../model/protocol.js";
import type { Run } from "../model/run.js";
import type { RunFileAccess } from "../model/source.js";
import { seriesColour } from "../painting/palette.js";

/** Rows of a table that are shown; the others are counted. */
const MOST_ROWS = 200;

interface SampledRun {
  readonly run: Run;
  readonly name: string;
  readonly media: readonly MediaRecord[];
  readonly files: RunFileAccess | undefined;
}

interface SamplesProps {
  readonly runs: readonly SampledRun[];
  readonly trans: TranslationBundle;
}

function Samples({ runs, trans }: SamplesProps): JSX.Element {
  const sliderId = useId();
  const steps = useMemo(
    () => [...new Set(runs.flatMap(({ media }) => media.map(({ step }) => step)))].sort((a, b) => a - b),
    [runs],
  );
  const names = [...new Set(runs.flatMap(({ media }) => media.map(({ name }) => name)))];
  const [chosen, setChosen] = useState<number | null>(null);
  if (steps.length === 0) {
    return (
      <p className="aronnax-Empty">
        {trans.__(
          "The run has no samples yet. training.sample and run.media keep texts, images, audio and more.",
        )}
      </p>
    );
  }
  // Without a choice the newest is followed.
  const index =
    chosen === null
      ? steps.length - 1
      : Math.max(
          0,
          steps.findLastIndex((step) => step <= chosen),
        );
  const step = steps[index]!;
  return (
    <>
      <div className="aronnax-Samples-slider">
        <label htmlFor={sliderId}>{trans.__("Step")}</label>
        <input
          id={sliderId}
          type="range"
          data-control="sample-step"
          min={0}
          max={steps.length - 1}
          step={1}
          value={index}
          aria-valuetext={formatInteger(step)}
          onChange={(event) => {
            const at = event.currentTarget.valueAsNumber;
            setChosen(at === steps.length - 1 ? null : steps[at]!);
          }}
        />
        <output>{formatInteger(step)}</output>
        <span>{trans._n("%1 step with samples", "%1 steps with samples", steps.length)}</span>
      </div>
      {names.map((name) => (
        <section key={name} className="aronnax-Sample" aria-label={name}>
          <h3>{name}</h3>
          <div className="aronnax-Sample-runs">
            {runs.map(({ run, name: runName, media, files }, colour) => {
              const records = media.filter((record) => record.name === name && record.step <= step);
              const newest = records.at(-1)?.step;
              const shown = records.filter((record) => record.step === newest);
              return (
                <div key={run.id} className="aronnax-Sample-run">
                  <p className="aronnax-Sample-of">
                    {runs.length > 1 ? (
                      <>
                        <span
                          className="aronnax-Legend-swatch"
                          style={{ "--aronnax-colour": seriesColour(colour) } as React.CSSProperties}
                        />
                        {runName}
                      </>
                    ) : null}{" "}
                    {newest === undefined
                      ? trans.__("nothing so far")
                      : trans.__("step %1", formatInteger(newest))}
                  </p>
                  {shown.map((record, i) => (
                    <figure key={`${record.step} ${String(record.file ?? i)}`}>
                      <Sample record={record} files={files} trans={trans} />
                      {typeof record.caption === "string" ? <figcaption>{record.caption}</figcaption> : null}
                    </figure>
                  ))}
                </div>
              );
            })}
          </div>
        </section>
      ))}
    </>
  );
}

interface SampleProps {
  readonly record: MediaRecord;
  readonly files: RunFileAccess | undefined;
  readonly trans: TranslationBundle;
}

function Sample({ record, files, trans }: SampleProps): JSX.Element {
  const { kind, mime, file, data } = record;
  const title = `${record.name}, ${trans.__("step %1", formatInteger(record.step))}`;
  if (file !== undefined && kind !== "text" && kind !== "table" && kind !== "histogram") {
    return <FileSample record={record} file={file} files={files} title={title} trans={trans} />;
  }
  if (file !== undefined) {
    return <TextFile record={record} file={file} files={files} trans={trans} />;
  }
  if (typeof data === "string" && (kind === "image" || kind === "video" || kind === "audio")) {
    return <Media kind={kind} url={`data:${mime};base64,${data}`} title={title} />;
  }
  return <Data kind={kind} data={data} title={title} trans={trans} />;
}

function useAddress(file: string, files: RunFileAccess | undefined): string | null | undefined {
  const [url, setUrl] = useState<string | null>();
  useEffect(() => {
    let isCurrent = true;
    let made: string | undefined;
    setUrl(undefined);
    (files?.urlOf(file) ?? Promise.reject(new Error("no files"))).then(
      (found) => {
        made = found;
        if (isCurrent) {
          setUrl(found);
        }
      },
      () => isCurrent && setUrl(null),
    );
    return () => {
      isCurrent = false;
      if (made?.startsWith("blob:")) {
        URL.revokeObjectURL(made);
      }
    };
  }, [file, files]);
  return url;
}

function FileSample({
  record,
  file,
  files,
  title,
  trans,
}: SampleProps & { readonly file: string; readonly title: string }): JSX.Element {
  const url = useAddress(file, files);
  if (url === null) {
    return <p className="aronnax-Sample-missing">{trans.__("%1 cannot be read.", file)}</p>;
  }
  if (url === undefined) {
    return <p className="aronnax-Sample-missing">{trans.__("Loading…")}</p>;
  }
  return <Media kind={record.kind} url={url} title={title} width={record.width} height={record.height} />;
}

function Media({
  kind,
  url,
  title,
  width,
  height,
}: {
  readonly kind: string;
  readonly url: string;
  readonly title: string;
  readonly width?: unknown;
  readonly height?: unknown;
}): JSX.Element {
  if (kind === "audio") {
    // biome-ignore lint/a11y/useMediaCaption: a sample of a model has no captions
    return <audio controls src={url} aria-label={title} />;
  }
  const size = typeof width === "number" && typeof height === "number" ? { width, height } : undefined;
  // A small picture is shown larger, with its pixels as they are.
  const scale = size && Math.max(size.width, size.height) < 100 ? 4 : 1;
  return (
    <img
      src={url}
      alt={title}
      className={scale > 1 ? "aronnax-mod-pixels" : undefined}
      {...(size && { width: size.width * scale, height: size.height * scale })}
    />
  );
}

function TextFile({ record, file, files, trans }: SampleProps & { readonly file: string }): JSX.Element {
  const url = useAddress(file, files);
  const [text, setText] = useState<string | null>();
  useEffect(() => {
    if (url) {
      fetch(url)
        .then((response) => (response.ok ? response.text() : Promise.reject(new Error(response.statusText))))
        .then(setText, () => setText(null));
    }
  }, [url]);
  if (url === null || text === null) {
    return <p className="aronnax-Sample-missing">{trans.__("%1 cannot be read.", file)}</p>;
  }
  if (text === undefined) {
    return <p className="aronnax-Sample-missing">{trans.__("Loading…")}</p>;
  }
  let data: MediaRecord["data"] = text;
  if (record.kind !== "text") {
    try {
      data = JSON.parse(text);
    } catch {
      data = undefined;
    }
  }
  return <Data kind={record.kind} data={data} title={record.name} trans={trans} />;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function Data({
  kind,
  data,
  title,
  trans,
}: {
  readonly kind: string;
  readonly data: unknown;
  readonly title: string;
  readonly trans: TranslationBundle;
}): JSX.Element {
  if (kind === "text" && typeof data === "string") {
    return <pre className="aronnax-Sample-text">{data}</pre>;
  }
  if (kind === "table" && isRecord(data) && Array.isArray(data.columns) && Array.isArray(data.rows)) {
    return <TableSample columns={data.columns} rows={data.rows} trans={trans} />;
  }
  if (kind === "histogram" && isRecord(data) && Array.isArray(data.edges) && Array.isArray(data.counts)) {
    return <Histogram data={data} title={title} trans={trans} />;
  }
  return (
    <p className="aronnax-Sample-missing">{trans.__("A sample of the kind “%1” cannot be shown.", kind)}</p>
  );
}

function TableSample({
  columns,
  rows,
  trans,
}: {
  readonly columns: readonly unknown[];
  readonly rows: readonly unknown[];
  readonly trans: TranslationBundle;
}): JSX.Element {
  const text = (value: unknown) =>
    value === null || value === undefined
      ? ""
      : typeof value === "object"
        ? JSON.stringify(value)
        : String(value);
  return (
    <section
      className="aronnax-TableFrame"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keys
      tabIndex={0}
      aria-label={trans.__("Table")}
    >
      <table className="aronnax-Table">
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={text(column)} scope="col">
                {text(column)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, MOST_ROWS).map((row, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: rows of a table have nothing else
            <tr key={i}>
              {(Array.isArray(row) ? row : [row]).map((value: unknown, column) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: cells of a row have nothing else
                <td key={column}>{text(value)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > MOST_ROWS ? (
        <p>{trans._n("and %1 more row", "and %1 more rows", rows.length - MOST_ROWS)}</p>
      ) : null}
    </section>
  );
}

const HISTOGRAM = { width: 320, height: 120, bottom: 18 };

function Histogram({
  data,
  title,
  trans,
}: {
  readonly data: Record<string, unknown>;
  readonly title: string;
  readonly trans: TranslationBundle;
}): JSX.Element {
  const numbers = (value: unknown) => (Array.isArray(value) ? value : []).map(Number);
  const edges = numbers(data.edges);
  const counts = numbers(data.counts);
  const most = Math.max(1, ...counts);
  const { width, height, bottom } = HISTOGRAM;
  const [low, high] = [edges[0] ?? 0, edges.at(-1) ?? 1];
  const x = (value: number) => ((value - low) / (high - low || 1)) * width;
  const text = (value: number) => String(Number(value.toPrecision(3)));
  const left = [
    Number(data.nan) > 0 ? trans.__("%1 NaN", formatInteger(Number(data.nan))) : "",
    Number(data.infinite) > 0 ? trans.__("%1 infinite", formatInteger(Number(data.infinite))) : "",
  ].filter((part) => part !== "");
  return (
    <>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        width={width}
        height={height}
        className="aronnax-Histogram"
        role="img"
        aria-label={trans.__(
          "Histogram %1, %2 values from %3 to %4",
          title,
          Number(data.count),
          text(low),
          text(high),
        )}
      >
        {counts.map((count, i) => {
          const barHeight = (count / most) * (height - bottom - 4);
          return (
            <rect
              // biome-ignore lint/suspicious/noArrayIndexKey: bins are told by their place
              key={i}
              x={x(edges[i]!)}
              y={height - bottom - barHeight}
              width={Math.max(0.5, x(edges[i + 1]!) - x(edges[i]!) - 0.5)}
              height={barHeight}
            />
          );
        })}
        <text x={0} y={height - 4}>
          {text(low)}
        </text>
        <text x={width} y={height - 4} textAnchor="end">
          {text(high)}
        </text>
      </svg>
      {left.length > 0 ? <p className="aronnax-Sample-missing">{left.join(", ")}</p> : null}
    </>
  );
}

/** What runs made by the way: texts, images, sounds, and the like, by step. */
export class SamplesWidget extends ReactWidget {
  constructor(private readonly trans: TranslationBundle) {
    super();
    this.addClass("aronnax-Samples");
  }

  showRuns(runs: readonly Omit<SampledRun, "media">[]): void {
    const key = runs.map(({ run }) => `${run.id} ${run.media.length}`).join("\n");
    if (key !== this.#key) {
      this.#key = key;
      this.#runs = runs.map((run) => ({ ...run, media: [...run.run.media] }));
      this.update();
    }
  }

  protected override render(): JSX.Element | null {
    return this.#runs.length === 0 ? null : <Samples runs={this.#runs} trans={this.trans} />;
  }

  #key = "";
  #runs: readonly SampledRun[] = [];
}
