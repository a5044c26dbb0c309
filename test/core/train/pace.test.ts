import { Trainer } from "aronnax";
import { expect, it } from "vitest";
import { Pace, type TimedStep } from "../../../core/src/train/pace.js";
import { config } from "./support.js";

const step = (queuedAt: number, at: number, more: Partial<TimedStep> = {}): TimedStep => ({
  queuedAt,
  at,
  compiled: false,
  own: { tokens: 1000 },
  flops: 2e6,
  ...more,
});

it("takes steps whose results come in one turn for as long as they took since the first was queued", () => {
  const pace = new Pace();
  const first = pace.add(step(5000, 5100, { compiled: true }));
  expect(first).toEqual({ stepSeconds: 0.1, perSecond: { tokens: 10_000 }, flops: 2e7, steps: 1 });
  // Queued while the first ran, and told of 5 microseconds after it.
  expect(pace.add(step(5001, 5100.005)).perSecond.tokens).toBeCloseTo(2000 / 0.100005, 6);
  expect(pace.add(step(5002, 5100.01)).perSecond.tokens).toBeCloseTo(3000 / 0.10001, 6);
});

it("measures over eight steps at least, and over a second at least", () => {
  const long = new Pace();
  // Of 2 s each, and of 1 s each from the tenth on.
  let at = 0;
  const next = (milliseconds: number): TimedStep => {
    at += milliseconds;
    return step(at - milliseconds, at);
  };
  for (let i = 0; i < 9; i++) long.add(next(2000));
  let speeds = long.add(next(1000));
  expect(speeds).toEqual({
    stepSeconds: 15 / 8,
    perSecond: { tokens: 8000 / 15 },
    flops: 16e6 / 15,
    steps: 8,
  });
  for (let i = 0; i < 7; i++) speeds = long.add(next(1000));
  expect(speeds.stepSeconds).toBe(1);
  const short = new Pace();
  // Of 1 ms each, told of in threes.
  for (let i = 1; i <= 5000; i++) speeds = short.add(step(i - 1, 3 * Math.ceil(i / 3)));
  expect(speeds.steps).toBeGreaterThanOrEqual(1000);
  expect(speeds.steps).toBeLessThan(1010);
  expect(speeds.perSecond.tokens).toBeGreaterThan(0.99e6);
  expect(speeds.perSecond.tokens).toBeLessThan(1.01e6);
});

it("leaves out what was no training", () => {
  const pace = new Pace();
  pace.add(step(0, 100));
  pace.add(step(50, 200));
  // A validation until 9000; the batch then took 10 ms to come.
  pace.goOn(9000);
  expect(pace.add(step(9010, 9100)).perSecond.tokens).toBe(1000 / 0.1);
  // Another shape, compiled until 50000.
  expect(pace.add(step(50_000, 50_200, { compiled: true })).perSecond.tokens).toBe(1000 / 0.2);
  expect(pace.add(step(50_001, 50_300)).stepSeconds).toBe(0.15);
});

it("adds up what the batches of each unit held", () => {
  const pace = new Pace();
  pace.add(step(0, 500, { own: { frames: 30 } }));
  const speeds = pace.add(step(400, 1000, { own: { frames: 10, seconds: 2.5 }, flops: undefined }));
  expect(speeds.perSecond).toEqual({ frames: 40, seconds: 2.5 });
});

it("no row of a training says more than the steps around it can have done", async () => {
  const trainer = new Trainer(
    config({ steps: 40, validation: { every: 10, batches: 2 }, checkpoints: { every: 15 } }),
  );
  await trainer.fit();
  const rows = trainer.rows.filter((row) => row.loss !== undefined);
  expect(rows).toHaveLength(40);
  const began = rows[0]!.time! - rows[0]!.step_seconds!;
  for (const row of rows) {
    expect(row.tokens_per_second! * row.step_seconds!).toBeCloseTo(64, 3);
    // Before the first pause, of all steps so far since the first was queued: rows are logged somewhat after their results have come.
    if (row.step! < 10) expect(row.tokens_per_second! / (row.tokens! / (row.time! - began))).toBeLessThan(50);
  }
  // Seconds of whole stretches without a pause add up to what passed, give or take the turns of the event loop.
  const stretch = rows[9]!.time! - began;
  expect(rows[7]!.step_seconds! * 8).toBeLessThanOrEqual(stretch + 0.05);
});
