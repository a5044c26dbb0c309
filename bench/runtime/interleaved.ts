/**
 * Thousands of short-lived buffers in one queue: programs that take their first argument over, with and without exchange between devices,
 * uploads and downloads of many sizes, frees of what is still in use. Checked to the last element against the same arithmetic here.
 */
import { Sfc32 } from "../../core/dist/data/random.js";
import type { DeviceBuffer } from "../../core/dist/runtime/runtime.js";
import type { DeviceBench, Part } from "./gpus.ts";
import { check, f32, numbers, seconds } from "./parts.ts";
import { extremes, mix, ring } from "./programs.ts";

const OPERATIONS = 6000;
const SLOTS = 12;
const MODULUS = 8191;

/** Every element of row i is `rows[i]`. */
interface Slot {
  buffer: DeviceBuffer;
  rows: number[];
}

export async function interleaved(bench: DeviceBench, n: number): Promise<Part> {
  const runtime = await bench.attached();
  const random = new Sfc32([20261128]);
  const draw = (below: number): number => random.below(below);
  const widths = bench.cuda ? [8, 4096, 2 ** 20, 2 ** 22] : [8, 4096, 2 ** 16];
  const sizes = widths.map((width) => {
    const array = { ...f32([n, width]), sharding: ring(n) };
    const rows = { ...f32([n]), sharding: ring(n) };
    const kinds = [1, 30].flatMap((rounds) =>
      [false, true].map((exchange) => ({
        rounds,
        exchange,
        program: bench.compile(mix(n, width, rounds, exchange, MODULUS), [array], "mix"),
      })),
    );
    const put = (): Slot => {
      const rows = Array.from({ length: n }, () => draw(MODULUS));
      return {
        buffer: runtime.put(Float32Array.from(rows.flatMap((row) => Array(width).fill(row))), array),
        rows,
      };
    };
    const extreme = bench.compile(extremes(n, width), [rows, rows], "extremes");
    return { width, kinds, put, extreme, slots: Array.from({ length: SLOTS }, put) };
  });
  const pending: { found: DeviceBuffer[]; rows: number[] }[] = [];
  let checked = 0;
  const settle = async (): Promise<void> => {
    for (const { found, rows } of pending.splice(0)) {
      for (const buffer of found) {
        const values = await numbers(runtime, buffer);
        check(String(values) === String(rows), `operation ${checked}: ${values} is not ${rows}`);
        buffer.free();
      }
      checked++;
    }
  };
  const start = seconds();
  for (let done = 0; done < OPERATIONS; done++) {
    // Small arrays more often than large ones.
    const { width, kinds, put, extreme, slots } = sizes[Math.min(draw(sizes.length), draw(sizes.length))]!;
    const [i, j] = [draw(SLOTS), draw(SLOTS)];
    const what = draw(10);
    if (what === 0 && width <= 2 ** 20) {
      slots[i]!.buffer.free();
      slots[i] = put();
    } else if (what === 1) {
      pending.push({ found: runtime.execute(extreme, [slots[i]!.buffer]), rows: [...slots[i]!.rows] });
    } else if (what === 2 && width <= 4096) {
      const { buffer, rows } = slots[i]!;
      const values = await numbers(runtime, buffer);
      check(
        values.every((value, k) => value === rows[Math.floor(k / width)]),
        `operation ${done}: a download is wrong`,
      );
    } else if (i !== j) {
      const { rounds, exchange, program } = kinds[draw(kinds.length)]!;
      const [a, b] = [slots[i]!, slots[j]!];
      a.buffer = runtime.execute(program, [a.buffer, b.buffer])[0]!;
      for (let round = 0; round < rounds; round++) {
        const sum = exchange ? a.rows.reduce((x, y) => x + y) : 0;
        a.rows = a.rows.map((row, k) => (row + b.rows[k]! + sum) % MODULUS);
      }
    }
    if (pending.length >= 100) await settle();
  }
  for (const { extreme, slots } of sizes) {
    for (const { buffer, rows } of slots) pending.push({ found: runtime.execute(extreme, [buffer]), rows });
  }
  await settle();
  for (const { slots } of sizes) for (const { buffer } of slots) buffer.free();
  const taken = seconds() - start;
  return {
    operations: OPERATIONS,
    checked,
    seconds: taken,
    line: `${OPERATIONS} operations right, ${checked} arrays checked`,
  };
}
