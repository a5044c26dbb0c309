/** Ending a text at given strings while it is streamed. */
import { ArgumentError } from "../../graph/errors.js";

/**
 * Lets text through up to the stop string that is complete first. What could be the beginning of one is held back until it is clear that it is not, so
 * that nothing of a stop string is ever let through, however it is cut into pieces.
 */
export class StopStrings {
  private held = "";
  private found: string | undefined;

  constructor(private readonly stops: readonly string[]) {
    for (const stop of stops) {
      if (typeof stop !== "string" || stop === "") {
        throw new ArgumentError(
          `generate: stop holds ${JSON.stringify(stop)}`,
          "give strings that are not empty",
        );
      }
    }
  }

  /** Whether a stop string was met. */
  get stopped(): boolean {
    return this.found !== undefined;
  }

  /** The stop string that was met. */
  get met(): string | undefined {
    return this.found;
  }

  /** Takes the next piece; returns the text that is now certain. Nothing comes after a stop string. */
  push(piece: string): string {
    if (this.stopped) return "";
    const text = this.held + piece;
    const first = this.firstIn(text);
    if (first !== undefined) {
      this.found = first.stop;
      this.held = "";
      return text.slice(0, first.start);
    }
    let certain = text.length;
    for (const stop of this.stops) {
      for (let from = Math.max(0, text.length - stop.length + 1); from < certain; from++) {
        if (stop.startsWith(text.slice(from))) certain = from;
      }
    }
    this.held = text.slice(certain);
    return text.slice(0, certain);
  }

  /** Where the stop string begins that is complete first, of such with the same end the longest. */
  private firstIn(text: string): { readonly start: number; readonly stop: string } | undefined {
    let first: { start: number; end: number; stop: string } | undefined;
    for (const stop of this.stops) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      if (first === undefined || end < first.end || (end === first.end && start < first.start))
        first = { start, end, stop };
    }
    return first;
  }

  /** The rest, when nothing more comes. */
  end(): string {
    const rest = this.held;
    this.held = "";
    return rest;
  }
}
