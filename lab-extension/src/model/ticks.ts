/** Lengths of time that people count in, in seconds. */
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400];

function decimalStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const leading = rough / power;
  return power * (leading <= 1 ? 1 : leading <= 2 ? 2 : leading <= 5 ? 5 : 10);
}

function multiples(low: number, high: number, step: number): number[] {
  const ticks: number[] = [];
  // "+ 0" makes a zero of the minus zero that rounding up gives.
  for (let i = Math.ceil(low / step - 1e-9) + 0; i * step <= high + step * 1e-9; i++) {
    ticks.push(i * step);
  }
  return ticks;
}

/** The fewest that `make` gives for about `count` which are two at least: one alone says nothing of the scale. */
function atLeastTwo(count: number, make: (count: number) => number[]): number[] {
  let ticks = make(count);
  for (let more = count + 1; ticks.length < 2 && more <= count + 6; more++) {
    ticks = make(more);
  }
  return ticks;
}

/** At most about `count` round values in `[low, high]`, two at least. */
export function linearTicks(low: number, high: number, count: number): number[] {
  return high > low ? atLeastTwo(count, (n) => multiples(low, high, decimalStep((high - low) / n))) : [low];
}

/** Like `linearTicks`, whole numbers only, of which there may be one or none. */
export function integerTicks(low: number, high: number, count: number): number[] {
  return high > low
    ? atLeastTwo(count, (n) => multiples(low, high, Math.max(1, decimalStep((high - low) / n))))
    : [low];
}

/** Seconds, at steps of a clock. */
export function timeTicks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const step = TIME_STEPS.find((candidate) => candidate >= rough);
  return step === undefined || rough < 0.5
    ? linearTicks(low, high, count)
    : atLeastTwo(count, (n) => multiples(low, high, TIME_STEPS.find((s) => s >= (high - low) / n) ?? step));
}

/** Powers of ten in `[low, high]`, with 2 and 5 between them where there are few; values, not exponents. */
export function logTicks(low: number, high: number, count: number): number[] {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const decades = last - first;
  const factors = decades <= count / 3 ? [1, 2, 5] : [1];
  const stride = Math.max(1, Math.ceil(decades / count));
  const ticks: number[] = [];
  for (let power = first; power <= last; power += stride) {
    for (const factor of factors) {
      const tick = factor * 10 ** power;
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) {
        ticks.push(tick);
      }
    }
  }
  return ticks.length >= 2 ? ticks : linearTicks(low, high, count).filter((tick) => tick > 0);
}
