import { nullTranslator } from "@jupyterlab/translation";
import { describe, expect, it } from "vitest";
import { toCsv } from "../../../lab-extension/src/export/csv.js";
import { chartsOf } from "../../../lab-extension/src/model/charts.js";
import {
  formatBytes,
  formatDuration,
  formatTick,
  formatValue,
} from "../../../lab-extension/src/model/format.js";
import { progressOf } from "../../../lab-extension/src/model/progress.js";
import type { Run } from "../../../lab-extension/src/model/run.js";
import { integerTicks, linearTicks, logTicks, timeTicks } from "../../../lab-extension/src/model/ticks.js";
import { DEFAULT_CHOICES, readChoices } from "../../../lab-extension/src/model/viewOptions.js";
import { runOfColumns } from "../support/runs.js";

function runOf(columns: Record<string, (number | null)[]>, totalSteps?: number): Run {
  return runOfColumns(columns, { totalSteps });
}

describe("chartsOf", () => {
  const trans = nullTranslator.load("aronnax_lab");

  it("shows only what was measured, and a metric of the user's own in a chart of its own", () => {
    const run = runOf({ step: [1], time: [1], tokens: [1], loss: [2], reward: [0.5], memory_total: [1] });
    expect(chartsOf([run], trans).map((chart) => chart.id)).toEqual(["loss", "memory", "reward"]);
    expect(chartsOf([run], trans)[0]!.lines.map((line) => line.column)).toEqual(["loss"]);
  });

  it("draws the parts of a measure in one chart, beside a known one of that name", () => {
    const run = runOf({
      gradient_norm: [1],
      "gradient_norm/embed": [1],
      "gradient_norm/layers.0": [2],
      seconds_left: [9],
    });
    const charts = chartsOf([run], trans);
    expect(charts.map((chart) => chart.id)).toEqual(["gradient_norm", "gradient_norm/"]);
    expect(charts[1]!.lines.map((line) => line.label)).toEqual(["embed", "layers.0"]);
  });

  it("shows nothing before the first row", () => {
    expect(chartsOf([runOf({})], trans)).toEqual([]);
  });
});

describe("progressOf", () => {
  it("tells the time left by the speed of the last steps", () => {
    // The first step took a minute to compile.
    const steps = Array.from({ length: 100 }, (_, i) => i + 1);
    const run = runOf({ step: steps, time: steps.map((step) => 60 + step * 0.5) }, 200);
    expect(progressOf(run)).toEqual({ step: 100, totalSteps: 200, fraction: 0.5, elapsed: 110, left: 50 });
  });

  it("does not guess without a planned end or before the second row", () => {
    expect(progressOf(runOf({ step: [1, 2], time: [1, 2] })).left).toBeNaN();
    expect(progressOf(runOf({ step: [1], time: [1] }, 10)).left).toBeNaN();
    expect(progressOf(runOf({}, 10))).toMatchObject({ step: Number.NaN, fraction: undefined });
  });
});

describe("toCsv", () => {
  it("writes absent cells empty, NaN and infinities by name, and quotes names that need it", () => {
    const run = runOf({ step: [1, 2], loss: [Number.NaN, null], 'a,"b"': [null, Number.POSITIVE_INFINITY] });
    expect(toCsv(run)).toBe('step,loss,"a,""b"""\r\n1,NaN,\r\n2,,Infinity\r\n');
  });
});

describe("formats", () => {
  it.each([
    [8.14, "8.1 s"],
    [59.7, "1:00"],
    [245, "4:05"],
    [7989, "2:13:09"],
    [Number.NaN, "–"],
  ])("a duration of %d s is %s", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });

  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [15.5e6, "15.5 MB"],
    [141.2e9, "141 GB"],
  ])("%d bytes are %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it("names what is not finite", () => {
    expect(formatValue(Number.NaN, "number")).toBe("NaN");
    expect(formatValue(Number.NEGATIVE_INFINITY, "rate")).toBe("-∞");
  });

  it("keeps small numbers readable", () => {
    expect(formatValue(0.0003, "number")).toBe("3.00e-4");
    expect(formatTick(0.0003, "number")).toBe("3e-4");
    expect(formatTick(-0, "rate")).toBe("0");
    expect(formatValue(0.0123, "seconds")).toBe("12.3 ms");
  });
});

describe("ticks", () => {
  it("are round numbers inside the range", () => {
    expect(linearTicks(0.03, 1.02, 5)).toEqual([0.2, 0.4, 0.6000000000000001, 0.8, 1]);
    expect(integerTicks(1, 3, 10)).toEqual([1, 2, 3]);
    expect(timeTicks(0, 200, 5)).toEqual([0, 60, 120, 180]);
    expect(logTicks(0.5, 2000, 5)).toEqual([1, 10, 100, 1000]);
    expect(logTicks(1, 9, 5)).toEqual([1, 2, 5]);
  });

  it("exist for every range", () => {
    for (const ticks of [linearTicks, integerTicks, timeTicks]) {
      expect(ticks(3, 3, 5)).toEqual([3]);
      expect(ticks(0, 1e9, 5).length).toBeLessThan(12);
    }
    expect(logTicks(1.1, 1.3, 4).length).toBeGreaterThan(0);
  });
});

describe("readChoices", () => {
  it("takes over what is valid and defaults the rest", () => {
    expect(readChoices({ xAxis: "tokens", smoothing: 2, logCharts: ["loss", 3], run: "a" })).toEqual({
      ...DEFAULT_CHOICES,
      xAxis: "tokens",
      logCharts: ["loss"],
      run: "a",
    });
    expect(readChoices(undefined)).toEqual(DEFAULT_CHOICES);
  });
});
