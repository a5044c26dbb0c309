import type { Json } from "../protocol/wire.js";
import { type Answer, RunFiles } from "./run-files.js";

export const FILES_TARGET = "aronnax.files";

type Send = (commId: string, data: Json, buffers: Uint8Array[]) => void;

/** The requests about files of the `aronnax.metrics` comm, and comms that have nothing else: for a front end that wants no rows. */
export class FilesComms {
  readonly #files: RunFiles;
  readonly #open = new Set<string>();

  constructor(
    folderOf: (run: string) => string | undefined,
    private readonly send: Send,
  ) {
    this.#files = new RunFiles(folderOf);
  }

  open(commId: string): void {
    this.#open.add(commId);
    this.send(commId, { version: 2, type: "ready" }, []);
  }

  message(commId: string, data: Json): void {
    this.answer(commId, data, (content, buffers) => {
      if (this.#open.has(commId)) this.send(commId, { version: 2, ...content }, buffers);
    });
  }

  close(commId: string): void {
    this.#open.delete(commId);
    this.forget(commId);
  }

  answer(client: string, data: Json, answer: Answer): void {
    if (data.type === "read") this.#files.read(client, data, answer);
    else if (data.type === "runs") this.#files.list(client, data, answer);
  }

  forget(client: string): void {
    this.#files.forget(client);
  }
}
