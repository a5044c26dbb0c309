import { appendFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { replaceFileSync } from "../../files/atomic.js";
import type { JsonValue } from "../../files/json.js";
import type { RunStatus } from "../hub.js";
import type { LoggedRun, MetricsLogger } from "./logger.js";
import { contentOf, type KeptTable } from "./media-values.js";

export interface MlflowOptions {
  /** The tracking folder, which `mlflow ui --backend-store-uri` opens. Default `mlruns`. */
  folder?: string;
  /** Default `Default`. */
  experiment?: string;
}

/**
 * MLflow's file store: an experiment, in it a run with parameters (the run's config), tags and metrics, and the run's media
 * as artifacts, tables as `mlflow.log_table` writes them.
 */
export function mlflowLogger(options: MlflowOptions = {}): MetricsLogger {
  const root = resolve(options.folder ?? "mlruns");
  const experiment = options.experiment ?? "Default";
  const experimentId = experiment === "Default" ? "0" : stableId(experiment);
  let folder = "";
  /** Numbers the artifacts. */
  let things = 0;
  let run: LoggedRun | undefined;
  const writeMeta = (status: RunStatus) =>
    replaceFileSync(
      join(folder, "meta.yaml"),
      runMeta(run!, experimentId, join(folder, "artifacts"), status),
    );
  return {
    name: "MLflow",
    start(started) {
      run = started;
      const id = started.id.replaceAll("-", "");
      folder = join(root, experimentId, id);
      for (const part of ["metrics", "params", "tags", "artifacts"])
        mkdirSync(join(folder, part), { recursive: true });
      const experimentFile = join(root, experimentId, "meta.yaml");
      if (!existsSync(experimentFile)) {
        replaceFileSync(experimentFile, experimentMeta(experiment, experimentId, root, started.startedAt));
      }
      writeMeta("running");
      writeFileSync(join(folder, "tags", "mlflow.runName"), started.name);
      writeFileSync(join(folder, "tags", "mlflow.source.name"), "aronnax");
      for (const [key, value] of flatten(started.config ?? {}))
        writeFileSync(join(folder, "params", key), value);
      this.rows(started.earlier);
    },
    rows(rows) {
      const lines = new Map<string, string>();
      for (const { step, time, ...values } of rows) {
        const at = Math.round(run!.startedAt + 1000 * ((time ?? 0) - (run!.earlier.at(-1)?.time ?? 0)));
        for (const [key, value] of Object.entries(values)) {
          const file = safeName(key);
          lines.set(file, `${lines.get(file) ?? ""}${at} ${python(value)} ${step}\n`);
        }
      }
      for (const [file, text] of lines) appendFileSync(join(folder, "metrics", file), text);
    },
    media(item) {
      const { kind, name, step, file } = item.record;
      const place = join(folder, "artifacts", kind);
      mkdirSync(place, { recursive: true });
      let content = item.content;
      let extension = file?.split(".").at(-1) ?? (kind === "text" ? "txt" : "json");
      if (kind === "table") {
        const { columns, rows } = contentOf(item) as KeptTable;
        content = Buffer.from(JSON.stringify({ columns, data: rows }));
        extension = "json";
      } else if (content === undefined) {
        const value = contentOf(item);
        content = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
      }
      writeFileSync(
        join(place, `${safeName(name)}-${String(step).padStart(8, "0")}-${things++}.${extension}`),
        content,
      );
    },
    status(status) {
      writeMeta(status);
    },
  };
}

function experimentMeta(name: string, id: string, root: string, now: number): string {
  return yaml({
    artifact_location: pathToFileURL(join(root, id)).href,
    creation_time: now,
    experiment_id: id,
    last_update_time: now,
    lifecycle_stage: "active",
    name,
  });
}

function runMeta(run: LoggedRun, experimentId: string, artifacts: string, status: RunStatus): string {
  const id = run.id.replaceAll("-", "");
  return yaml({
    artifact_uri: pathToFileURL(artifacts).href,
    end_time: status === "running" ? null : Date.now(),
    entry_point_name: "",
    experiment_id: experimentId,
    lifecycle_stage: "active",
    run_id: id,
    run_name: run.name,
    run_uuid: id,
    source_name: "",
    source_type: 4,
    source_version: "",
    start_time: run.startedAt,
    // The codes of MLflow's RunStatus.
    status: { running: 1, finished: 3, failed: 4, interrupted: 5 }[status],
    tags: [],
    user_id: userInfo().username,
  });
}

/** JSON scalars are YAML scalars. */
function yaml(fields: Record<string, JsonValue>): string {
  return Object.entries(fields)
    .map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`)
    .join("");
}

function* flatten(value: JsonValue, path = ""): Iterable<[key: string, value: string]> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    for (const [key, item] of Object.entries(value))
      yield* flatten(item, path === "" ? key : `${path}.${key}`);
  } else if (path !== "" && value !== undefined) {
    yield [safeName(path), typeof value === "string" ? value : JSON.stringify(value)];
  }
}

/** What MLflow allows in a name, without its folders. */
function safeName(name: string): string {
  return name.replaceAll(/[^\w.\- ]/g, "_");
}

function python(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (Number.isFinite(value)) return String(value);
  return value > 0 ? "inf" : "-inf";
}

/** A number in 18 digits that is always the same for a name (FNV-1a). */
function stableId(name: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(name)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return (100_000_000_000_000_000n + (hash % 900_000_000_000_000_000n)).toString();
}
