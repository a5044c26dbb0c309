// What the set-up says while it works, and why it takes longer than usual.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

interface Steps {
  reasonForWaiting(step: {
    waited: number;
    usual: number;
    silent: number;
    from: string;
    load: number;
    cores: number;
  }): string;
  Step: new (
    place: string,
    title: string,
    detail: string,
    expected: { usual: number; from: string },
  ) => { progress(detail: string): void; done(detail: string): void };
}

const module = new URL("../../jupyter-config/setup/steps.mjs", import.meta.url).href;
const { reasonForWaiting, Step } = (await import(module)) as Steps;

describe("the reason for waiting", () => {
  const step = { waited: 100, usual: 40, silent: 2, from: "the package server", cores: 2 };

  it("is the machine where it has more to do than processors, and only once a step is late", () => {
    expect(reasonForWaiting({ ...step, load: 8.2 })).toBe(
      "the machine is busy: about 8 processes want its 2 processors",
    );
    expect(reasonForWaiting({ ...step, load: 8.2, waited: 20 })).toBe("");
    expect(reasonForWaiting({ ...step, load: 1.5 })).toBe("");
  });

  it("is what the step waits for where that is silent", () => {
    expect(reasonForWaiting({ ...step, load: 0.1, silent: 31.4 })).toBe(
      "waiting for the package server, silent for 31 s",
    );
  });
});

describe("a step without a terminal", () => {
  let lines: string[] = [];
  const isTTY = process.stdout.isTTY;
  beforeEach(() => {
    lines = [];
    process.stdout.isTTY = false;
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
    vi.spyOn(process.stdout, "write").mockImplementation((text) => lines.push(String(text)) > 0);
  });
  afterEach(() => {
    vi.restoreAllMocks();
    vi.useRealTimers();
    process.stdout.isTTY = isTTY;
  });

  it("says every ten seconds how long it takes, how long is usual and what it waits for, also when nothing moves", () => {
    const made = new Step("[1/5]", "Node packages", "", { usual: 500, from: "the package server" });
    made.progress("3 of 9 fetched");
    expect(lines).toEqual([]);
    vi.advanceTimersByTime(25_000);
    expect(lines).toEqual([
      "[1/5] Node packages          3 of 9 fetched (10 s, usually 500 s; waiting for the package server, silent for 10 s)\n",
      "[1/5] Node packages          3 of 9 fetched (20 s, usually 500 s; waiting for the package server, silent for 20 s)\n",
    ]);
    made.done("9 packages");
    vi.advanceTimersByTime(60_000);
    expect(lines.at(-1)).toMatch(/9 packages +25\.0 s\n$/);
  });
});
