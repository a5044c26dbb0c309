import { configOf, configText, differingKeys, keysOf } from "../model/config.js";
import { formatBytes, formatCount, formatDuration, formatInteger, formatValue } from "../model/format.js";
import { memoryOf } from "../model/progress.js";
import type { MediaRecord } from "../model/protocol.js";
import type { Run } from "../model/run.js";
import { entryOf, type RunFileAccess } from "../model/source.js";
import { nameOf, nonFiniteText, statusLabel, statusOf } from "../model/wording.js";
import { escapeXml } from "../painting/pen.js";
import { chartSvg, type PictureParts } from "./pictures.js";

/** Larger samples are named, not carried: a report is to be sent. */
const LARGEST_SAMPLE = 4 << 20;

/**
 * Runs as one HTML file that needs nothing else: figures, charts, configuration, and the newest samples.
 *
 * @param filesOf - gives the files of a run's samples.
 */
export async function toReport(
  parts: PictureParts,
  filesOf: (run: Run) => RunFileAccess | undefined,
): Promise<string> {
  const { runs, trans } = parts;
  const title = runs.map((run) => nameOf(run, runs)).join(", ");
  const samples = await Promise.all(
    runs.map(async (run) => ({ run, html: await samplesOf(run, filesOf(run)) })),
  );
  const charts = parts.specs.map((spec) => `<figure>${chartSvg(spec, parts)}</figure>`).join("\n");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeXml(title)}</title>
<style>
body { max-width: 1180px; margin: 2em auto; padding: 0 1em; background: ${parts.palette.background}; color: ${parts.palette.strong}; font-family: ${parts.palette.font.replaceAll('"', "'")}, sans-serif; line-height: 1.45; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 540px), 1fr)); gap: 16px; }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
table { border-collapse: collapse; } th, td { padding: 3px 14px 3px 0; border-bottom: 1px solid ${parts.palette.grid}; text-align: left; vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 600; } tr.differs td { font-weight: 600; } pre { white-space: pre-wrap; overflow-wrap: anywhere; } img { max-width: 100%; image-rendering: pixelated; }
</style>
</head>
<body>
<h1>${escapeXml(title)}</h1>
${figures(runs, parts)}
<h2>${escapeXml(trans.__("Charts"))}</h2>
<div class="charts">
${charts}
</div>
${configuration(runs, parts)}
${samples
  .filter(({ html }) => html !== "")
  .map(({ run, html }) => `<h2>${escapeXml(trans.__("Samples of %1", nameOf(run, runs)))}</h2>\n${html}`)
  .join("\n")}
</body>
</html>
`;
}

function table(
  head: readonly string[],
  rows: readonly { cells: readonly string[]; differs?: boolean }[],
): string {
  const cells = (tag: string, texts: readonly string[]) =>
    texts.map((text) => `<${tag}>${escapeXml(text)}</${tag}>`).join("");
  return `<table><thead><tr>${cells("th", head)}</tr></thead><tbody>${rows
    .map(({ cells: texts, differs }) => `<tr${differs ? ' class="differs"' : ""}>${cells("td", texts)}</tr>`)
    .join("")}</tbody></table>`;
}

function figures(runs: readonly Run[], { trans }: PictureParts): string {
  const head = [
    trans.__("Run"),
    trans.__("Status"),
    trans.__("Begun"),
    trans.__("Step"),
    trans.__("Took"),
    trans.__("Loss"),
    trans.__("Validation"),
    trans.__("Tokens"),
    trans.__("Tokens/s"),
    trans.__("Memory"),
  ];
  const number = (run: Run, column: string, text: (value: number) => string) =>
    run.series(column) ? text(run.last(column)) : "–";
  const rows = runs.map((run) => {
    const status = statusOf(run.info);
    const memory = memoryOf(run);
    return {
      cells: [
        nameOf(run, runs),
        status === undefined ? "–" : statusLabel(status, trans),
        run.info.startedAt > 0 ? new Date(run.info.startedAt).toISOString() : "–",
        formatInteger(run.last("step")),
        formatDuration(run.last("time")),
        number(run, "loss", (value) => formatValue(value, "number")),
        number(run, "valid_loss", (value) => formatValue(value, "number")),
        number(run, "tokens", formatCount),
        number(run, "tokens_per_second", formatCount),
        memory === undefined ? "–" : formatBytes(memory),
      ],
    };
  });
  const notes = runs.flatMap((run) =>
    run.nonFinite.slice(0, 10).map((range) => `${nameOf(run, runs)}: ${nonFiniteText(range, trans)}`),
  );
  return table(head, rows) + notes.map((note) => `<p>${escapeXml(note)}</p>`).join("");
}

function configuration(runs: readonly Run[], { trans }: PictureParts): string {
  const entries = runs.map(entryOf);
  const keys = keysOf(entries);
  if (keys.length === 0) {
    return "";
  }
  const differing = new Set(runs.length > 1 ? differingKeys(entries) : []);
  const rows = keys.map((key) => ({
    cells: [key, ...entries.map((entry) => configText(configOf(entry).get(key)))],
    differs: differing.has(key),
  }));
  return `<h2>${escapeXml(trans.__("Configuration"))}</h2>\n${table(
    [trans.__("Parameter"), ...runs.map((run) => nameOf(run, runs))],
    rows,
  )}`;
}

/** The newest sample of each name. */
async function samplesOf(run: Run, files: RunFileAccess | undefined): Promise<string> {
  const newest = new Map<string, MediaRecord>();
  for (const record of run.media) {
    newest.set(record.name, record);
  }
  const parts: string[] = [];
  for (const record of newest.values()) {
    const content = await contentOf(record, files).catch(() => undefined);
    if (content !== undefined) {
      parts.push(
        `<section><h3>${escapeXml(record.name)} · ${formatInteger(record.step)}</h3>${content}</section>`,
      );
    }
  }
  return parts.join("\n");
}

async function contentOf(record: MediaRecord, files: RunFileAccess | undefined): Promise<string | undefined> {
  const { kind, mime, file, data } = record;
  if (file === undefined) {
    return kind === "text" && typeof data === "string" ? `<pre>${escapeXml(data)}</pre>` : undefined;
  }
  const url = await files?.urlOf(file);
  if (url === undefined) {
    return undefined;
  }
  const response = await fetch(url);
  if (!response.ok) {
    return undefined;
  }
  const blob = await response.blob();
  if (blob.size > LARGEST_SAMPLE) {
    return `<p>${escapeXml(file)}</p>`;
  }
  if (kind === "text") {
    return `<pre>${escapeXml(await blob.text())}</pre>`;
  }
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  const address = `data:${escapeXml(mime)};base64,${btoa(text)}`;
  if (kind === "image" || kind === "video") {
    return `<img src="${address}" alt="${escapeXml(record.name)}">`;
  }
  return kind === "audio" ? `<audio controls src="${address}"></audio>` : undefined;
}
