import type { MediaRecord } from "../protocol.js";
import { type RunPlace, readBytes } from "./runPlace.js";

/** The lines of a run's `media/index.jsonl` that count, read further as it grows. */
export class MediaIndex {
  constructor(private readonly place: RunPlace) {}

  get records(): readonly MediaRecord[] {
    return this.#records;
  }

  /** Takes the lines that are whole. */
  async refresh(): Promise<void> {
    const bytes = await readBytes(this.place, "media/index.jsonl", this.#position);
    if (!bytes) {
      return;
    }
    const end = bytes.lastIndexOf(0x0a) + 1;
    this.#position += end;
    this.#take(new TextDecoder().decode(bytes.subarray(0, end)));
  }

  #take(text: string): void {
    for (const line of text.split("\n")) {
      const record = parse(line);
      if (record?.kind === "resume") {
        // What it had of later steps is made again.
        this.#records = this.#records.filter(({ step }) => step <= record.step);
      } else if (record && typeof record.name === "string" && typeof record.mime === "string") {
        this.#records.push(record as MediaRecord);
      }
    }
  }

  #records: MediaRecord[] = [];
  #position = 0;
}

function parse(line: string): { kind: string; step: number; name?: unknown; mime?: unknown } | undefined {
  try {
    const record = JSON.parse(line) as { kind?: unknown; step?: unknown } | null;
    return typeof record?.kind === "string" && typeof record.step === "number"
      ? (record as { kind: string; step: number })
      : undefined;
  } catch {
    return undefined; // a line that was not finished, or of another kind
  }
}
