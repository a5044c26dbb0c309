import { Unreachable } from "./metricsStream.js";
import { type FetchRange, type FileAddress, type FileRange, httpRanges } from "./rangeSource.js";
import { type ReaderEvent, RunReader } from "./runReader.js";

/** Where a file of a run is to be had: from the server by ranges, or through something of this page, as a kernel's comm. */
export type FilePlace =
  | { readonly address: FileAddress }
  | { readonly fetch: (offset: number, length: number) => Promise<FileRange> };

/** Reads the files of one run off the page's thread. */
export interface RunFilesReader {
  /**
   * Reads what is new in these files, the run's segments in their order; events tell.
   *
   * @param anew - another run has taken the place of the one that was read.
   */
  read(files: readonly { readonly name: string; readonly place: FilePlace }[], anew?: boolean): void;
  close(): void;
}

export type ToWorker =
  | { readonly type: "open"; readonly reader: number }
  | {
      readonly type: "read";
      readonly reader: number;
      readonly names: readonly string[];
      readonly anew: boolean;
      readonly addresses: readonly (readonly [string, FileAddress])[];
    }
  | { readonly type: "close"; readonly reader: number }
  | {
      readonly type: "fetched";
      readonly request: number;
      readonly range?: FileRange;
      readonly problem?: string;
    };

export type FromWorker =
  | { readonly type: "ready" }
  | { readonly type: "event"; readonly reader: number; readonly event: ReaderEvent }
  | {
      readonly type: "fetch";
      readonly reader: number;
      readonly request: number;
      readonly name: string;
      readonly offset: number;
      readonly length: number;
    };

interface Client {
  readonly emit: (event: ReaderEvent) => void;
  places: ReadonlyMap<string, FilePlace>;
  /** What it asked for last, should the worker not start. */
  files: Parameters<RunFilesReader["read"]>[0];
  local: RunFilesReader | undefined;
}

const START_MS = 20_000;

/** One thread of the page reads all runs; where a page may have no worker, its own thread does, batch by batch. */
class WorkerReaders {
  open(emit: (event: ReaderEvent) => void): RunFilesReader {
    const id = this.#nextId++;
    const client: Client = { emit, places: new Map(), files: [], local: undefined };
    this.#clients.set(id, client);
    const worker = this.#start();
    if (worker) {
      this.#post({ type: "open", reader: id });
    } else {
      client.local = localReader(emit);
    }
    return {
      read: (files, anew = false) => {
        client.files = files;
        client.places = new Map(files.map(({ name, place }) => [name, place]));
        if (client.local) {
          client.local.read(files, anew);
          return;
        }
        const addresses = files.flatMap(({ name, place }) =>
          "address" in place ? [[name, place.address] as const] : [],
        );
        this.#post({ type: "read", reader: id, names: files.map(({ name }) => name), anew, addresses });
      },
      close: () => {
        this.#clients.delete(id);
        client.local?.close();
        this.#post({ type: "close", reader: id });
      },
    };
  }

  #start(): Worker | undefined {
    if (this.#worker || this.#hasFailed) {
      return this.#worker;
    }
    try {
      const worker = new Worker(new URL("./runWorker.js", import.meta.url));
      const timer = setTimeout(() => this.#giveUp(), START_MS);
      worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => {
        clearTimeout(timer);
        this.#take(data);
      });
      // Also where the page's content security policy forbids workers.
      worker.addEventListener("error", () => this.#giveUp());
      this.#worker = worker;
    } catch {
      this.#giveUp();
    }
    return this.#worker;
  }

  #giveUp(): void {
    this.#hasFailed = true;
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const client of this.#clients.values()) {
      client.emit({ type: "reset" });
      client.local = localReader(client.emit);
      client.local.read(client.files);
    }
  }

  #take(message: FromWorker): void {
    if (message.type === "event") {
      this.#clients.get(message.reader)?.emit(message.event);
    } else if (message.type === "fetch") {
      const { request, name, offset, length } = message;
      const place = this.#clients.get(message.reader)?.places.get(name);
      const fetched =
        place && "fetch" in place
          ? place.fetch(offset, length)
          : Promise.reject(new Unreachable("it is not there any more"));
      fetched.then(
        (range) => this.#post({ type: "fetched", request, range }),
        (error: Error) => this.#post({ type: "fetched", request, problem: error.message }),
      );
    }
  }

  #post(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }

  #worker: Worker | undefined;
  #hasFailed = false;
  #nextId = 0;
  readonly #clients = new Map<number, Client>();
}

/** Reads on the caller's thread. */
export function localReader(emit: (event: ReaderEvent) => void): RunFilesReader {
  let places: ReadonlyMap<string, FilePlace> = new Map();
  const fetcher = (name: string): FetchRange => {
    const place = places.get(name)!;
    return "address" in place ? httpRanges(place.address) : place.fetch;
  };
  const reader = new RunReader(fetcher, emit);
  return {
    read: (files, anew) => {
      places = new Map(files.map(({ name, place }) => [name, place]));
      void reader.read(
        files.map(({ name }) => name),
        anew,
      );
    },
    close: () => reader.close(),
  };
}

let shared: WorkerReaders | undefined;

/** Opens a reader in the page's thread for files. */
export function openReader(emit: (event: ReaderEvent) => void): RunFilesReader {
  shared ??= new WorkerReaders();
  return shared.open(emit);
}
