import { PathExt } from "@jupyterlab/coreutils";
import type { Contents, ServerConnection } from "@jupyterlab/services";
import type { FileRange } from "./rangeSource.js";
import { httpRanges } from "./rangeSource.js";
import type { FilePlace } from "./readers.js";
import { SEGMENT_NAME } from "./runState.js";

/** The folder of a run, wherever its files are had from. */
export interface RunPlace {
  /** What to call it. */
  readonly name: string;
  /** The names in a folder of it, `""` for itself; undefined where there is no such folder, or nobody can tell. */
  list(folder: string): Promise<readonly string[] | undefined>;
  file(name: string): Promise<FilePlace>;
}

/** A folder that the server of Jupyter serves. */
export class ServerPlace implements RunPlace {
  /** @param path - of the folder, in the contents. */
  constructor(
    private readonly contents: Contents.IManager,
    private readonly settings: ServerConnection.ISettings,
    readonly path: string,
  ) {}

  get name(): string {
    return PathExt.basename(this.path);
  }

  async list(folder: string): Promise<readonly string[] | undefined> {
    const path = folder === "" ? this.path : PathExt.join(this.path, folder);
    try {
      const model = await this.contents.get(path, { type: "directory", content: true });
      return (model.content as Contents.IModel[]).map(({ name }) => name);
    } catch {
      return undefined;
    }
  }

  async file(name: string): Promise<FilePlace> {
    return { address: { url: await this.url(name), headers: headersOf(this.settings) } };
  }

  url(name: string): Promise<string> {
    return this.contents.getDownloadUrl(PathExt.join(this.path, name));
  }
}

export function headersOf({ token }: ServerConnection.ISettings): Record<string, string> {
  return token === "" ? {} : { Authorization: `token ${token}` };
}

/** Gives ranges of the files of a run, as a kernel does over its comm. */
export type ReadRange = (file: string, offset: number, length: number) => Promise<FileRange>;

/** A folder that only a kernel sees. */
export class KernelPlace implements RunPlace {
  constructor(
    readonly name: string,
    private readonly read: ReadRange,
  ) {}

  async list(folder: string): Promise<readonly string[] | undefined> {
    if (folder !== "") {
      return undefined;
    }
    // The kernel lists no folders, but the run's description names its segments.
    const text = await readText(this, "run.json");
    try {
      const { segments } = JSON.parse(text ?? "{}") as { segments?: unknown };
      const names = (Array.isArray(segments) ? segments : ["metrics.arrow"]).filter(
        (name): name is string => typeof name === "string" && SEGMENT_NAME.test(name),
      );
      return text === undefined ? names : [...names, "run.json", "media"];
    } catch {
      return ["metrics.arrow"];
    }
  }

  async file(name: string): Promise<FilePlace> {
    return { fetch: (offset, length) => this.read(name, offset, length) };
  }
}

const TEXT_CHUNK = 1 << 20;

/** Reads a file from `offset` to its end; undefined where it is not there. */
export async function readBytes(place: RunPlace, name: string, offset = 0): Promise<Uint8Array | undefined> {
  try {
    const file = await place.file(name);
    const fetchRange = "address" in file ? httpRanges(file.address) : file.fetch;
    const parts: Uint8Array[] = [];
    let at = offset;
    for (;;) {
      const { bytes, size } = await fetchRange(at, TEXT_CHUNK);
      parts.push(bytes);
      at += bytes.length;
      if (bytes.length === 0 || at >= size) {
        break;
      }
    }
    const whole = new Uint8Array(at - offset);
    let end = 0;
    for (const part of parts) {
      whole.set(part, end);
      end += part.length;
    }
    return whole;
  } catch {
    return undefined;
  }
}

/** Reads a text file; undefined where it is not there. */
export async function readText(place: RunPlace, name: string): Promise<string | undefined> {
  const bytes = await readBytes(place, name);
  return bytes && new TextDecoder().decode(bytes);
}
