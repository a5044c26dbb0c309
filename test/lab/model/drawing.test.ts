import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ChartSpec } from "../../../lab-extension/src/model/charts.js";
import {
  bucketWidth,
  decimate,
  type Points,
  visibleSpan,
} from "../../../lab-extension/src/model/decimate.js";
import { MovingAverage } from "../../../lab-extension/src/model/derived.js";
import { Drawer } from "../../../lab-extension/src/model/drawing.js";
import { Extremes } from "../../../lab-extension/src/model/extremes.js";
import { spikesOf } from "../../../lab-extension/src/model/marks.js";
import type { Run } from "../../../lab-extension/src/model/run.js";
import { groupAverage } from "../../../lab-extension/src/model/seedAverage.js";
import { Series } from "../../../lab-extension/src/model/series.js";
import { DEFAULT_CHOICES } from "../../../lab-extension/src/model/viewOptions.js";
import { trainingRows } from "../support/arrow.js";
import { batchOf, runOfColumns, runOfRows } from "../support/runs.js";

function seriesOf(values: readonly number[]): Series {
  const series = new Series();
  values.forEach((value, i) => {
    series.push(i, value);
  });
  return series;
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

const MEMORY: ChartSpec = {
  id: "memory",
  title: "Memory",
  unit: "bytes",
  stacked: true,
  total: "memory_total",
  lines: [
    { column: "memory_parameters", label: "Parameters" },
    { column: "memory_activations", label: "Activations" },
    { column: "memory_total", label: "Other" },
  ],
};

const values = fc.array(
  fc.oneof(
    { weight: 9, arbitrary: fc.double() },
    { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY) },
  ),
  { minLength: 1, maxLength: 400 },
);

const finite = (all: Iterable<number>) => [...all].filter(Number.isFinite);

describe("Extremes", () => {
  it("finds what looking at every value finds, in any range, however the values came", () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(1, 2, 3.5, -4, 0, Number.NaN, Number.POSITIVE_INFINITY), {
          minLength: 1,
          maxLength: 9000,
        }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 1, max: 5000 }),
        (list, a, b, piece) => {
          const y = Float64Array.from(list);
          const extremes = new Extremes();
          for (let length = piece; length < y.length; length += piece) extremes.extend(y, length);
          extremes.extend(y, y.length);
          const [from, to] = [a, b].map((share) => Math.floor(share * y.length)).sort((x, z) => x - z) as [
            number,
            number,
          ];
          const part = finite(y.subarray(from, to));
          extremes.find(from, to);
          if (part.length === 0) {
            expect([extremes.low, extremes.high]).toEqual([-1, -1]);
          } else {
            expect(y[extremes.low]).toBe(Math.min(...part));
            expect(y[extremes.high]).toBe(Math.max(...part));
            const mean = part.reduce((sum, value) => sum + value, 0) / part.length;
            expect(extremes.mean(from, to)).toBeCloseTo(mean, 9);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe("decimate", () => {
  it("keeps the lowest and the highest value and is at most two points a bucket", () => {
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 60 }), (list, buckets) => {
        const series = seriesOf(list);
        const points: Points = { x: [], y: [] };
        decimate(series, (i) => i, [0, series.length], bucketWidth(series.length, buckets), points);
        // One more bucket where the first is cut by the power of two.
        expect(points.y.length).toBeLessThanOrEqual(2 * (buckets + 1));
        expect(Math.max(...finite(points.y))).toBe(Math.max(...finite(list)));
        expect(Math.min(...finite(points.y))).toBe(Math.min(...finite(list)));
        expect(points.x).toEqual([...points.x].sort((a, b) => a - b));
        points.x.forEach((x, i) => {
          if (Number.isFinite(points.y[i])) {
            expect(points.y[i]).toBe(list[x]);
          }
        });
      }),
    );
  });

  it("shows one spike in a million steps, in a part of them too", () => {
    const y = new Float64Array(1_000_000).fill(2);
    y[612_345] = 90;
    const series = new Series();
    series.pushColumn(0, { values: y }, 0, y.length);
    for (const span of [
      [0, y.length],
      [600_001, 700_003],
    ] as const) {
      const points: Points = { x: [], y: [] };
      decimate(series, (i) => i, span, bucketWidth(span[1] - span[0], 800), points);
      expect(points.x[points.y.indexOf(90)]).toBe(612_345);
      expect(points.x.length).toBeLessThanOrEqual(1604);
    }
  });

  it("leaves the points where they are while a run grows", () => {
    const list = Array.from({ length: 3000 }, (_, i) => Math.sin(i * i));
    const of = (count: number) => {
      const points: Points = { x: [], y: [] };
      decimate(seriesOf(list.slice(0, count)), (i) => i, [0, count], bucketWidth(count, 100), points);
      return points.x;
    };
    const before = of(2700);
    expect(of(2800).slice(0, before.length - 4)).toEqual(before.slice(0, -4));
  });
});

describe("visibleSpan", () => {
  it("takes one neighbour beyond each edge, so that lines reach it", () => {
    const x = (i: number) => i * 10;
    expect(visibleSpan([0, 100], x, null)).toEqual([0, 100]);
    expect(visibleSpan([0, 100], x, [205, 305])).toEqual([20, 33]);
    expect(visibleSpan([0, 100], x, [-50, 5000])).toEqual([0, 100]);
    expect(visibleSpan([25, 30], x, [205, 305])).toEqual([25, 30]);
  });
});

describe("MovingAverage", () => {
  const of = (weight: number, list: readonly number[]) => new MovingAverage(weight).of(seriesOf(list)).values;

  it("leaves a constant series as it is", () => {
    for (const average of of(0.99, new Array(2000).fill(0.1))) {
      expect(average).toBeCloseTo(0.1, 12);
    }
  });

  it("begins at the first value, not at zero", () => {
    expect(of(0.9, [5, 5.5])[0]).toBeCloseTo(5, 12);
  });

  it("gives the same however the series arrives, and leaves a gap where a value is not finite", () => {
    const list = [4, 3, Number.NaN, 2, 5, 1];
    const whole = of(0.8, list);
    const series = new Series();
    const grown = new MovingAverage(0.8);
    list.forEach((value, i) => {
      series.push(i, value);
      grown.of(series);
    });
    expect(Array.from(grown.of(series).values)).toEqual(Array.from(whole));
    expect(whole[2]).toBeNaN();
    expect(whole[3]).toBeCloseTo((2 * 0.2 + 0.8 * (3 * 0.2 + 0.8 * 4 * 0.2)) / (1 - 0.8 ** 3), 12);
  });

  it("begins again where a resumed run takes values back", () => {
    const series = seriesOf([1, 2, 3, 4]);
    const average = new MovingAverage(0.5);
    average.of(series);
    series.truncate(2);
    series.push(2, 30);
    series.push(3, 40);
    expect(Array.from(average.of(series).values)).toEqual(Array.from(of(0.5, [1, 2, 30, 40])));
  });
});

describe("Drawer", () => {
  const run = runOfRows(trainingRows(200));
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

  it("draws over tokens, over time and over any column, also one that few rows have", () => {
    const drawer = new Drawer(LOSS);
    expect(draw(drawer, [run], { xAxis: "tokens" }).x).toEqual([4096, 200 * 4096]);
    expect(draw(drawer, [run], { xAxis: "time" }).x[1]).toBeCloseTo(70);
    const byValidation = draw(drawer, [run], { xAxis: "valid_loss" }).lines[0]!;
    expect(byValidation.style).toBe("dots");
    expect(new Set(byValidation.points.x)).toEqual(new Set(run.series("valid_loss")!.values));
    expect(draw(drawer, [run], { xAxis: "nothing" }).lines).toEqual([]);
  });

  it("draws a column that goes back and forth as a cloud, with every point in a cell of its own", () => {
    const cloud = draw(new Drawer(LOSS), [runOfRows(trainingRows(2000))], { xAxis: "gradient_norm" })
      .lines[0]!;
    expect(cloud.style).toBe("dots");
    expect(cloud.points.x.length).toBeGreaterThan(200);
  });

  it("puts the average over the values it was made from", () => {
    const { lines } = draw(new Drawer(LOSS), [run], { smoothing: 0.9 });
    expect(lines.map((line) => line.style)).toEqual(["faint", "solid", "solid"]);
  });

  it("draws what is too dense for a line as its mean and, faintly, all its extremes", () => {
    const rows = trainingRows(20_000).map((row) => (row.step === 7777 ? { ...row, loss: 95 } : row));
    const { lines } = draw(new Drawer(LOSS), [runOfRows(rows)]);
    expect(lines.map((line) => line.style)).toEqual(["faint", "solid", "solid"]);
    expect(lines[0]!.points.x[lines[0]!.points.y.indexOf(95)]).toBe(7777);
    expect(lines[1]!.points.x.length).toBeLessThanOrEqual(802);
    // From the first step to the last, whatever the extremes are.
    expect(draw(new Drawer(LOSS), [runOfRows(rows)]).x).toEqual([1, 20_000]);
  });

  it("follows a run that grows", () => {
    const growing = runOfRows(trainingRows(10));
    const drawer = new Drawer(LOSS);
    draw(drawer, [growing], { smoothing: 0.5 });
    const more = trainingRows(5, { from: 10 });
    const names = Object.keys(more[0]!);
    growing.append(
      batchOf(Object.fromEntries(names.map((name) => [name, more.map((row) => row[name]!)]))),
      10,
    );
    expect(draw(drawer, [growing], { smoothing: 0.5 }).lines[1]!.points.x.at(-1)).toBe(15);
  });

  it("zooms to a part, and its vertical range with it", () => {
    const all = draw(new Drawer(LOSS), [run]);
    const part = draw(new Drawer(LOSS), [run], {}, [150, 200]);
    expect(part.x).toEqual([150, 200]);
    expect(part.y[1]).toBeLessThan(all.y[1] * 0.7);
    expect(new Drawer(LOSS).draw([run], DEFAULT_CHOICES, null, 400, [1, 2]).y).toEqual([1, 2]);
  });

  it("leaves out what a logarithmic scale cannot show, and counts it", () => {
    const odd = runOfRows([
      { step: 1, loss: 10 },
      { step: 2, loss: -1 },
      { step: 3, loss: 0.1 },
    ]);
    const drawing = draw(new Drawer(LOSS), [odd], { logCharts: ["loss"] });
    expect(drawing.log).toBe(true);
    expect(drawing.lines[0]!.points.y).toEqual([10, Number.NaN, 0.1]);
    expect(drawing.y[0]).toBeGreaterThan(0);
    expect(drawing.notPositive).toBe(1);
  });

  it("survives a run that has never been finite", () => {
    const lost = runOfRows([{ step: 1, loss: Number.NaN }]);
    for (const logCharts of [[], ["loss"]]) {
      const drawing = draw(new Drawer(LOSS), [lost], { logCharts });
      expect(drawing.nonFinite).toEqual([{ x: 1, end: 1, kind: "NaN" }]);
      expect([...drawing.x, ...drawing.y].every(Number.isFinite)).toBe(true);
    }
  });

  it("says from where to where values are not finite, and is bounded where that is so for a million steps", () => {
    const odd = runOfColumns({
      step: [1, 2, 3, 4, 5, 6],
      loss: [1, Number.NaN, Number.NaN, 2, Number.POSITIVE_INFINITY, 3],
    });
    expect(draw(new Drawer(LOSS), [odd]).nonFinite).toEqual([
      { x: 2, end: 3, kind: "NaN" },
      { x: 5, end: 5, kind: "Infinity" },
    ]);
    const step = Array.from({ length: 100_000 }, (_, i) => i);
    const loss = step.map((i) => (i % 2 ? Number.NaN : 1));
    expect(draw(new Drawer(LOSS), [runOfColumns({ step, loss })]).nonFinite.length).toBeLessThanOrEqual(401);
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
    expect(draw(new Drawer(spec), [runOfRows(usual)]).outside).toEqual([]);
    const { outside, lines, y } = draw(new Drawer(spec), [runOfRows(lucky)]);
    expect(outside).toEqual([{ x: 77, colour: 0, isAbove: true }]);
    expect(lines[0]!.points.y).toContain(1e9);
    expect(y[1]).toBeLessThan(50_000);
  });

  it("leaves outliers out of the range where that is chosen, and marks them", () => {
    const odd = trainingRows(300).map((row) => (row.step === 150 ? { ...row, loss: 95 } : row));
    expect(draw(new Drawer(LOSS), [runOfRows(odd)]).y[1]).toBeGreaterThan(95);
    const { y, outside } = draw(new Drawer(LOSS), [runOfRows(odd)], { robust: true });
    expect(y[1]).toBeLessThan(20);
    expect(outside).toContainEqual({ x: 150, colour: 0, isAbove: true });
  });

  it("stacks memory up to its total, and shows a peak of one step in twenty thousand", () => {
    const count = 20_000;
    const steps = Array.from({ length: count }, (_, i) => i + 1);
    const big = runOfColumns({
      step: steps,
      memory_parameters: steps.map(() => 4e6),
      memory_activations: steps.map((step) => (step === 7778 ? 600e6 : 60e6)),
      memory_total: steps.map((step) => (step === 7778 ? 614e6 : 74e6)),
    });
    const { lines, y } = draw(new Drawer(MEMORY), [big]);
    expect(lines.map((line) => line.style)).toEqual(["area", "area", "area"]);
    const at = lines[2]!.points.x.indexOf(7778);
    expect(lines.map((line) => line.points.y[at])).toEqual([4e6, 604e6, 614e6]);
    // They lie on each other at every point that is drawn.
    expect(lines[1]!.base).toEqual(lines[0]!.points.y);
    expect(y[0]).toBe(0);
    expect(y[1]).toBeGreaterThan(614e6);
    // Of several runs the totals are compared.
    const other = runOfColumns({ step: [1], memory_total: [5] }, { id: "b" });
    expect(draw(new Drawer(MEMORY), [big, other]).lines).toHaveLength(2);
  });

  it("does not take a total for less than its parts", () => {
    const between = runOfColumns({
      step: [1, 2],
      memory_parameters: [8e6, 8e6],
      memory_activations: [190e6, 190e6],
      memory_total: [9.31e6, 9.31e6],
    });
    expect(draw(new Drawer(MEMORY), [between]).lines[2]!.points.y).toEqual([198e6, 198e6]);
  });

  it("gives each of several runs a colour, and each of its lines a dash", () => {
    const { lines } = draw(new Drawer(LOSS), [run, runOfRows(trainingRows(60, { seed: 3 }), { id: "b" })]);
    expect(lines.map(({ colour, style }) => [colour, style])).toEqual([
      [0, "solid"],
      [0, "dashed"],
      [1, "solid"],
      [1, "dashed"],
    ]);
  });

  it("draws both parts of a run whose steps go back, and marks where", () => {
    const steps = [1, 2, 3, 4, 3, 4, 5];
    const back = runOfColumns({ step: steps, loss: steps.map((_, i) => 10 - i) });
    expect(back.stepsBack).toEqual([{ row: 4, from: 4, to: 3 }]);
    const { lines, marks } = draw(new Drawer(LOSS), [back]);
    expect(lines[0]!.points.x).toEqual([1, 2, 3, 4, Number.NaN, 3, 4, 5]);
    expect(marks).toEqual([{ kind: "resume", x: 3, step: 3 }]);
    expect(draw(new Drawer(LOSS), [back], {}, [4.5, 5]).lines[0]!.points.x).toContain(5);
  });

  it("marks checkpoints, interrupts, validations and spikes where they were", () => {
    const rows = trainingRows(300).map((row) => (row.step === 250 ? { ...row, loss: 95 } : row));
    const marked = runOfRows(rows, { status: "interrupted", checkpoints: [100, 200] });
    const { marks } = draw(new Drawer(LOSS), [marked], { xAxis: "tokens" });
    const at = (kind: string) => marks.filter((mark) => mark.kind === kind).map(({ step }) => step);
    expect(at("checkpoint")).toEqual([100, 200]);
    expect(at("interrupt")).toEqual([300]);
    expect(at("validation")).toEqual([50, 100, 150, 200, 250, 300]);
    expect(at("spike")).toEqual([250]);
    expect(marks.find(({ kind }) => kind === "checkpoint")!.x).toBe(100 * 4096);
  });
});

describe("spikesOf", () => {
  it("finds one however the values came, and none in noise", () => {
    const list = Array.from({ length: 2000 }, (_, i) => 2 + Math.sin(i * i) * 0.1);
    expect(spikesOf(seriesOf(list))).toEqual([]);
    list[900] = 30;
    const growing = new Series();
    for (const [i, value] of list.entries()) {
      growing.push(i, value);
      if (i % 7 === 0) spikesOf(growing);
    }
    expect(spikesOf(growing)).toEqual([900]);
    expect(spikesOf(seriesOf(list))).toEqual([900]);
  });
});

describe("groupAverage", () => {
  it("is the mean and the standard deviation over runs, also where one has ended", () => {
    const runs = [1, 2, 6].map((level, i) =>
      runOfColumns(
        { step: [1, 2, 3, 4].slice(0, i === 2 ? 2 : 4), loss: new Array(i === 2 ? 2 : 4).fill(level) },
        { id: String(i) },
      ),
    );
    const { x, mean, low, high } = groupAverage(runs, "loss", "step", null, 4, 0);
    expect(x).toEqual([1, 2, 3, 4]);
    expect(mean).toEqual([3, 3, 1.5, 1.5]);
    const deviation = Math.sqrt((4 + 1 + 9) / 2);
    expect(high[0]).toBeCloseTo(3 + deviation);
    expect(low[0]).toBeCloseTo(3 - deviation);
    expect(high[3]).toBeCloseTo(1.5 + Math.SQRT1_2);
  });
});

describe("nearestRow", () => {
  it("finds the row nearest to a position on any axis", () => {
    const run = runOfRows(trainingRows(100));
    expect(run.positions("step").nearestRow(42.4)).toBe(41);
    expect(run.positions("tokens").nearestRow(4096 * 10)).toBe(9);
    expect(run.positions("step").nearestRow(-5)).toBe(0);
    expect(run.positions("step").nearestRow(1e9)).toBe(99);
    expect(run.positions("nothing").nearestRow(3)).toBe(-1);
  });
});
