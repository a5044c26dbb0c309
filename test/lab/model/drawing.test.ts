import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ChartSpec } from "../../../lab-extension/src/model/charts.js";
import { decimate, nonFinitePoints, visibleRange } from "../../../lab-extension/src/model/decimate.js";
import { Drawer, rowAt } from "../../../lab-extension/src/model/drawing.js";
import { Run } from "../../../lab-extension/src/model/run.js";
import { Series } from "../../../lab-extension/src/model/series.js";
import { MovingAverage } from "../../../lab-extension/src/model/smoothing.js";
import { DEFAULT_CHOICES } from "../../../lab-extension/src/model/viewOptions.js";
import { type Row, trainingRows } from "../support/arrow.js";

function seriesOf(values: readonly number[]): Series {
  const series = new Series();
  values.forEach((value, i) => {
    series.push(i, value);
  });
  return series;
}

function runOf(rows: readonly Row[], id = "a"): Run {
  const run = new Run({ id, name: id, startedAt: 0, status: "running" });
  const names = new Set(rows.flatMap((row) => Object.keys(row)));
  const columns = new Map([...names].map((name) => [name, rows.map((row) => row[name] ?? null)]));
  run.append({ rowCount: rows.length, columns }, 0);
  return run;
}

const LOSS: ChartSpec = {
  id: "loss",
  title: "Loss",
  unit: "number",
  lines: [
    { column: "loss", label: "Training", smooth: true },
    { column: "valid_loss", label: "Validation" },
  ],
};

const values = fc.array(
  fc.oneof({ weight: 9, arbitrary: fc.double() }, { weight: 1, arbitrary: fc.constant(Number.NaN) }),
  {
    minLength: 1,
    maxLength: 400,
  },
);

describe("decimate", () => {
  it("keeps the lowest and the highest value and is at most two points a bucket", () => {
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 60 }), (list, buckets) => {
        const y = Float64Array.from(list);
        const points = decimate(y, (i) => i, [0, y.length], buckets);
        const finite = (all: Iterable<number>) => [...all].filter(Number.isFinite);
        expect(points.y.length).toBeLessThanOrEqual(Math.max(2 * buckets, 0));
        expect(Math.max(...finite(points.y))).toBe(Math.max(...finite(y)));
        expect(Math.min(...finite(points.y))).toBe(Math.min(...finite(y)));
        expect(points.x).toEqual([...points.x].sort((a, b) => a - b));
        points.x.forEach((x, i) => {
          if (Number.isFinite(points.y[i])) {
            expect(points.y[i]).toBe(y[x]);
          }
        });
      }),
    );
  });

  it("shows one spike in a million steps", () => {
    const y = new Float64Array(1_000_000).fill(2);
    y[612_345] = 90;
    const points = decimate(y, (i) => i, [0, y.length], 800);
    expect(points.x[points.y.indexOf(90)]).toBe(612_345);
  });
});

describe("nonFinitePoints", () => {
  it("finds every kind of value that cannot be drawn", () => {
    const y = Float64Array.of(1, Number.NaN, 2, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
    expect(nonFinitePoints(y, (i) => 10 * i, [0, 5], 100)).toEqual([
      { x: 10, value: Number.NaN },
      { x: 30, value: Number.POSITIVE_INFINITY },
      { x: 40, value: Number.NEGATIVE_INFINITY },
    ]);
  });

  it("is bounded on a run that is NaN for a million steps", () => {
    const y = new Float64Array(1_000_000).fill(Number.NaN);
    expect(nonFinitePoints(y, (i) => i, [0, y.length], 500).length).toBeLessThanOrEqual(500);
  });
});

describe("visibleRange", () => {
  it("takes one neighbour beyond each edge, so that lines reach it", () => {
    const x = (i: number) => i * 10;
    expect(visibleRange(100, x, null)).toEqual([0, 100]);
    expect(visibleRange(100, x, [205, 305])).toEqual([20, 33]);
    expect(visibleRange(100, x, [-50, 5000])).toEqual([0, 100]);
  });
});

describe("MovingAverage", () => {
  it("leaves a constant series as it is", () => {
    const averages = new MovingAverage(0.99).of(seriesOf(new Array(2000).fill(0.1)));
    for (const average of averages) {
      expect(average).toBeCloseTo(0.1, 12);
    }
  });

  it("begins at the first value, not at zero", () => {
    expect(new MovingAverage(0.9).of(seriesOf([5, 5.5]))[0]).toBeCloseTo(5, 12);
  });

  it("gives the same however the series arrives, and leaves a gap where a value is not finite", () => {
    const list = [4, 3, Number.NaN, 2, 5, 1];
    const whole = new MovingAverage(0.8).of(seriesOf(list));
    const series = new Series();
    const grown = new MovingAverage(0.8);
    list.forEach((value, i) => {
      series.push(i, value);
      grown.of(series);
    });
    expect(Array.from(grown.of(series))).toEqual(Array.from(whole));
    expect(whole[2]).toBeNaN();
    expect(whole[3]).toBeCloseTo((2 * 0.2 + 0.8 * (3 * 0.2 + 0.8 * 4 * 0.2)) / (1 - 0.8 ** 3), 12);
  });
});

describe("Drawer", () => {
  const run = runOf(trainingRows(200));
  const draw = (drawer: Drawer, runs: readonly Run[], choices = {}, zoom: [number, number] | null = null) =>
    drawer.draw(runs, { ...DEFAULT_CHOICES, ...choices }, zoom, 400);

  it("draws training and validation at the steps they were measured", () => {
    const { lines, x, y } = draw(new Drawer(LOSS), [run]);
    expect(lines.map((line) => line.points.x.length)).toEqual([200, 4]);
    expect(lines[1]!.points.x).toEqual([50, 100, 150, 200]);
    expect(lines[1]!.marked).toBe(true);
    expect(x).toEqual([1, 200]);
    const highest = Math.max(...run.series("loss")!.values);
    expect(y[1]).toBeGreaterThan(highest);
  });

  it("draws over tokens and over time", () => {
    const drawer = new Drawer(LOSS);
    expect(draw(drawer, [run], { xAxis: "tokens" }).x).toEqual([4096, 200 * 4096]);
    expect(draw(drawer, [run], { xAxis: "time" }).x[1]).toBeCloseTo(70);
  });

  it("puts the average over the values it was made from", () => {
    const { lines } = draw(new Drawer(LOSS), [run], { smoothing: 0.9 });
    expect(lines.map((line) => line.style)).toEqual(["faint", "solid", "solid"]);
  });

  it("follows a run that grows", () => {
    const growing = runOf(trainingRows(10));
    const drawer = new Drawer(LOSS);
    draw(drawer, [growing], { smoothing: 0.5 });
    const more = trainingRows(5, { from: 10 });
    const names = Object.keys(more[0]!);
    growing.append(
      { rowCount: 5, columns: new Map(names.map((name) => [name, more.map((row) => row[name]!)])) },
      10,
    );
    expect(draw(drawer, [growing], { smoothing: 0.5 }).lines[1]!.points.x.at(-1)).toBe(15);
  });

  it("zooms to a part, and its vertical range with it", () => {
    const all = draw(new Drawer(LOSS), [run]);
    const part = draw(new Drawer(LOSS), [run], {}, [150, 200]);
    expect(part.x).toEqual([150, 200]);
    expect(part.y[1]).toBeLessThan(all.y[1] * 0.7);
  });

  it("leaves out what a logarithmic scale cannot show", () => {
    const odd = runOf([
      { step: 1, loss: 10 },
      { step: 2, loss: -1 },
      { step: 3, loss: 0.1 },
    ]);
    const drawing = draw(new Drawer(LOSS), [odd], { logCharts: ["loss"] });
    expect(drawing.log).toBe(true);
    expect(drawing.lines[0]!.points.y).toEqual([10, Number.NaN, 0.1]);
    expect(drawing.y[0]).toBeGreaterThan(0);
  });

  it("survives a run that has never been finite", () => {
    const lost = runOf([{ step: 1, loss: Number.NaN }]);
    for (const logCharts of [[], ["loss"]]) {
      const drawing = draw(new Drawer(LOSS), [lost], { logCharts });
      expect(drawing.nonFinite).toEqual([{ x: 1, value: Number.NaN }]);
      expect([...drawing.x, ...drawing.y].every(Number.isFinite)).toBe(true);
    }
  });

  it("marks a lucky step instead of flattening all the others under it", () => {
    const spec: ChartSpec = {
      id: "throughput",
      title: "Tokens per second",
      unit: "rate",
      clipped: true,
      lines: [{ column: "tokens_per_second", label: "Tokens/s" }],
    };
    const usual = trainingRows(200);
    const lucky = usual.map((row) => (row.step === 77 ? { ...row, tokens_per_second: 1e9 } : row));
    expect(draw(new Drawer(spec), [runOf(usual)]).above).toEqual([]);
    const { above, lines, y } = draw(new Drawer(spec), [runOf(lucky)]);
    expect(above).toEqual([{ x: 77, colour: 0 }]);
    expect(lines[0]!.points.y).toContain(1e9);
    expect(y[1]).toBeLessThan(50_000);
  });

  it("stacks memory by category, the total as a line", () => {
    const spec: ChartSpec = {
      id: "memory",
      title: "Memory",
      unit: "bytes",
      stacked: true,
      lines: [
        { column: "memory_parameters", label: "Parameters" },
        { column: "memory_optimizer", label: "Optimizer" },
        { column: "memory_total", label: "Total", overlay: true },
      ],
    };
    const { lines, y } = draw(new Drawer(spec), [run]);
    expect(lines.map((line) => line.style)).toEqual(["area", "area", "dashed"]);
    expect(lines[1]!.points.y[0]).toBeCloseTo(4.2e6 + 8.4e6);
    expect(y[0]).toBe(0);
    expect(draw(new Drawer(spec), [run, runOf(trainingRows(20), "b")]).lines).toHaveLength(2);
  });

  it("gives each of several runs a colour, and each of its lines a dash", () => {
    const { lines } = draw(new Drawer(LOSS), [run, runOf(trainingRows(60, { seed: 3 }), "b")]);
    expect(lines.map(({ colour, style }) => [colour, style])).toEqual([
      [0, "solid"],
      [0, "dashed"],
      [1, "solid"],
      [1, "dashed"],
    ]);
  });
});

describe("rowAt", () => {
  it("finds the row nearest to a position on any axis", () => {
    const run = runOf(trainingRows(100));
    expect(rowAt(run, "step", 42.4)).toBe(41);
    expect(rowAt(run, "tokens", 4096 * 10)).toBe(9);
    expect(rowAt(run, "step", -5)).toBe(0);
    expect(rowAt(run, "step", 1e9)).toBe(99);
  });
});
