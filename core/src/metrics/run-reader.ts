import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type DecodedMetrics, MetricsReader } from "./arrow.js";
import { RunError } from "./errors.js";
import { type MediaRecord, readMedia } from "./media-index.js";
import { type RunState, readRunState } from "./run-state.js";
import { FileSource, firstSegment, hasSegments, segmentsIn } from "./segments.js";

export interface RunFile extends DecodedMetrics {
  /** The folder's first metrics file, or the one that was asked for. */
  path: string;
  /** From `run.json`; undefined if there is none. */
  state?: RunState;
  /** What `media/index.jsonl` has; empty for one metrics file. */
  readonly media: MediaRecord[];
}

/**
 * Reads a run's folder, of this version or of before, or one of its metrics files. A file is read batch by batch, so that
 * it takes the memory of its numbers and no more; rows after a damaged or half-written place are left out, see `damage`.
 * What another process writes may be read at any time.
 */
export function readRun(path: string): RunFile {
  const single = path.endsWith(".arrow");
  const files = single ? [path] : segmentsIn(path).map((name) => join(path, name));
  if (files.length === 0) files.push(join(path, firstSegment));
  const reader = new MetricsReader();
  for (const file of files) {
    let source: FileSource;
    try {
      source = new FileSource(file);
    } catch (error) {
      throw new RunError(
        `The run ${file} cannot be read: ${(error as Error).message}`,
        "Give a run's folder (`runs/<name>`) or its metrics.arrow.",
        { cause: error },
      );
    }
    try {
      reader.add(source);
    } catch (error) {
      throw new RunError(`${file} is not a metrics file: ${(error as Error).message}`, undefined, {
        cause: error,
      });
    } finally {
      source.close();
    }
  }
  const state = single ? undefined : readRunState(path);
  let media: MediaRecord[] | undefined;
  return Object.defineProperty(
    Object.assign(reader.result(), { path: files[0]!, ...(state && { state }) }),
    "media",
    {
      enumerable: true,
      get: () => {
        media ??= single ? [] : readMedia(path);
        return media;
      },
    },
  ) as RunFile;
}

/** The names of the runs under a folder, in order of their last change. */
export function listRuns(root = "runs"): string[] {
  if (!existsSync(root)) return [];
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && hasSegments(join(root, entry.name)))
    .map((entry) => ({ name: entry.name, at: readRunState(join(root, entry.name))?.updatedAt ?? 0 }))
    .sort((a, b) => a.at - b.at)
    .map(({ name }) => name);
}
