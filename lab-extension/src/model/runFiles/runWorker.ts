/** The thread that fetches, checks and decodes the files of runs, so that a page never stands still for one. */

import { Unreachable } from "./metricsStream.js";
import { type FetchRange, type FileAddress, type FileRange, httpRanges } from "./rangeSource.js";
import type { FromWorker, ToWorker } from "./readers.js";
import { RunReader, transferables } from "./runReader.js";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker, transfer?: ArrayBuffer[]): void;
};

const readers = new Map<number, { reader: RunReader; addresses: Map<string, FileAddress> }>();
const waiting = new Map<number, { resolve(range: FileRange): void; reject(error: Error): void }>();
let nextRequest = 0;

function fetcher(reader: number): (name: string) => FetchRange {
  return (name) => {
    const address = readers.get(reader)?.addresses.get(name);
    if (address) {
      return httpRanges(address);
    }
    return (offset, length) =>
      new Promise((resolve, reject) => {
        const request = nextRequest++;
        waiting.set(request, { resolve, reject });
        scope.postMessage({ type: "fetch", reader, request, name, offset, length });
      });
  };
}

scope.onmessage = ({ data: message }) => {
  switch (message.type) {
    case "open": {
      const { reader } = message;
      const emit = (event: Parameters<ConstructorParameters<typeof RunReader>[1]>[0]) =>
        scope.postMessage({ type: "event", reader, event }, transferables(event));
      readers.set(reader, { reader: new RunReader(fetcher(reader), emit), addresses: new Map() });
      break;
    }
    case "read": {
      const opened = readers.get(message.reader);
      if (opened) {
        opened.addresses = new Map(message.addresses);
        void opened.reader.read(message.names, message.anew);
      }
      break;
    }
    case "close":
      readers.get(message.reader)?.reader.close();
      readers.delete(message.reader);
      break;
    case "fetched": {
      const request = waiting.get(message.request);
      waiting.delete(message.request);
      if (message.range) {
        request?.resolve(message.range);
      } else {
        request?.reject(new Unreachable(message.problem ?? "it cannot be read"));
      }
      break;
    }
  }
};

scope.postMessage({ type: "ready" });
