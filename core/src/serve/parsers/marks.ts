/** Finds marks in a text that arrives in pieces; what may yet become one is held back. */
export class MarkScanner {
  private held = "";

  get rest(): string {
    return this.held;
  }

  push(text: string): void {
    this.held += text;
  }

  /**
   * The text before the first of the marks, and the mark; without a mark, the text that can be no part of one. Of marks that begin at one
   * place the longest counts, so a mark that may grow into a longer one is not given yet.
   */
  until(marks: readonly string[], ended: boolean): { text: string; mark?: string } {
    const { held } = this;
    for (let at = 0; at < held.length; at++) {
      const growing = marks.some((mark) => held.length - at < mark.length && mark.startsWith(held.slice(at)));
      if (growing && !ended) return this.take(at);
      const mark = marks.filter((one) => held.startsWith(one, at)).sort((a, b) => b.length - a.length)[0];
      if (mark === undefined) continue;
      const text = held.slice(0, at);
      this.held = held.slice(at + mark.length);
      return { text, mark };
    }
    return this.take(held.length);
  }

  take(length: number): { text: string } {
    const text = this.held.slice(0, length);
    this.held = this.held.slice(length);
    return { text };
  }
}
