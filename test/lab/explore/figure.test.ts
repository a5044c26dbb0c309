import type { TranslationBundle } from "@jupyterlab/translation";
import { expect, it } from "vitest";
import { figureOf, MOST_MARKS, MOST_POINTS } from "../../../lab-extension/src/explore/figure.js";
import type { ChartSpec } from "../../../lab-extension/src/model/charts.js";
import type { Palette } from "../../../lab-extension/src/painting/palette.js";
import { runOfColumns } from "../support/runs.js";

const LOSS: ChartSpec = {
  id: "loss",
  title: "Loss",
  unit: "number",
  lines: [
    { column: "loss", label: "Training", smooth: true },
    { column: "valid_loss", label: "Validation" },
  ],
};
const palette: Palette = {
  background: "white",
  text: "gray",
  strong: "black",
  grid: "silver",
  axis: "gray",
  error: "red",
  warning: "orange",
  font: "sans-serif",
  fontSize: 11,
  series: ["blue", "green"],
};
const trans = { __: (text: string) => text } as unknown as TranslationBundle;
const figure = (columns: Parameters<typeof runOfColumns>[0], logCharts: string[] = []) =>
  figureOf(LOSS, [runOfColumns(columns)], { xAxis: "step", logCharts }, palette, trans);

it("has every value of every line where it was logged", () => {
  const { data, layout } = figure({
    step: [1, 2, 3, 4],
    loss: [4, 3, 2, 1],
    valid_loss: [null, 3.5, null, 1.5],
  });
  expect(data.map(({ name, x, y }) => [name, [...x], [...y]])).toEqual([
    ["Training", [1, 2, 3, 4], [4, 3, 2, 1]],
    ["Validation", [2, 4], [3.5, 1.5]],
  ]);
  expect([layout.yaxis.type, layout.showlegend]).toEqual(["linear", true]);
  expect(figure({ step: [1], loss: [1] }, ["loss"]).layout.yaxis.type).toBe("log");
});

it("leaves a gap where values are not finite, with a mark at the height of the last one that was", () => {
  const [line, marks] = figure({
    step: [1, 2, 3, 4],
    loss: [4, Number.NaN, Number.POSITIVE_INFINITY, 1],
  }).data;
  expect([...line!.y]).toEqual([4, Number.NaN, Number.NaN, 1]);
  expect([[...marks!.x], [...marks!.y], marks!.text]).toEqual([
    [2, 3],
    [4, 4],
    ["NaN", "Infinity"],
  ]);
});

it("begins a new stretch where the steps go back", () => {
  const [line] = figure({ step: [1, 2, 3, 2, 3], loss: [5, 4, 3, 2, 1] }).data;
  expect([...line!.x]).toEqual([1, 2, 3, Number.NaN, 2, 3]);
  expect([...line!.y]).toEqual([5, 4, 3, Number.NaN, 2, 1]);
});

it("keeps the extremes of a long run", () => {
  const count = 300_000;
  const loss = Array.from({ length: count }, (_, i) => Math.sin(i / 1000));
  loss[123_457] = 77;
  loss[200_001] = -55;
  const [line] = figure({ step: loss.map((_, i) => i + 1), loss }).data;
  expect(line!.x.length).toBeLessThanOrEqual(MOST_POINTS);
  const [x, y] = [[...line!.x], [...line!.y]];
  expect(y[x.indexOf(123_458)]).toBe(77);
  expect(y[x.indexOf(200_002)]).toBe(-55);
});

it("keeps the gaps of a long run, has not more marks than one can see, and marks what never was finite on a logarithmic axis", () => {
  const count = 300_000;
  const loss = Array.from({ length: count }, (_, i) => (i % 100 === 50 ? Number.NaN : Math.sin(i / 1000)));
  const [line, marks] = figure({ step: loss.map((_, i) => i + 1), loss }).data;
  const gaps = [...line!.x].filter((_, i) => Number.isNaN(line!.y[i]!));
  // One of three thousand a hundred steps, in order.
  expect(gaps).toEqual(Array.from({ length: 3000 }, (_, i) => 100 * i + 51));
  const x = [...line!.x];
  expect(x).toEqual(x.toSorted((a, b) => a - b));
  expect(marks!.x.length).toBe(MOST_MARKS);
  expect(figure({ step: [1], loss: [Number.NaN] }, ["loss"]).data[1]!.y).toEqual([1]);
});
