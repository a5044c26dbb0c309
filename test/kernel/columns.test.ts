import { tableFromIPC } from "apache-arrow";
import { describe, expect, it } from "vitest";
import { ColumnStore } from "../../kernel/src/metrics/columns.js";

describe("the columns of a run", () => {
  const read = (store: ColumnStore, from: number, name: string) => {
    const column = tableFromIPC(store.toArrow(from)).getChild(name)!;
    return Array.from({ length: column.length }, (_, row) => column.get(row) as number | null);
  };

  it("keep absent values apart from NaN, whenever a column comes up", () => {
    const store = new ColumnStore();
    store.append([
      { step: 0, loss: Number.NaN },
      { step: 1 },
      { step: 2, loss: Number.POSITIVE_INFINITY, late: 5 },
    ]);
    store.append([{ step: 3, late: null }]);
    expect(read(store, 0, "loss")).toEqual([Number.NaN, null, Number.POSITIVE_INFINITY, null]);
    expect(read(store, 0, "late")).toEqual([null, null, 5, null]);
    expect(read(store, 2, "step")).toEqual([2, 3]);
  });

  it("forget the oldest quarter when they are full, and go on counting", () => {
    const store = new ColumnStore(100);
    for (let step = 0; step < 1_000; step += 1)
      store.append([{ step, ...(step % 3 === 0 ? { third: step } : {}) }]);
    expect(store.rowCount).toBe(1_000);
    expect(store.firstRow).toBeGreaterThanOrEqual(900);
    const steps = read(store, 0, "step");
    expect(steps).toEqual(Array.from({ length: 1_000 - store.firstRow }, (_, i) => store.firstRow + i));
    expect(read(store, 0, "third")).toEqual(steps.map((step) => (step! % 3 === 0 ? step : null)));
  });
});
