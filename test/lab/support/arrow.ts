import { Float64, makeVector, Table, tableToIPC, vectorFromArray } from "apache-arrow";

export type Row = Readonly<Record<string, number>>;

/** Rows as the kernel sends them and a run's file holds them: an Arrow IPC stream of nullable float64 columns. */
export function arrowStream(rows: readonly Row[], run?: object): Uint8Array {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns = names.map((name) => {
    const values = rows.map((row) => row[name] ?? null);
    return values.includes(null)
      ? vectorFromArray(values, new Float64())
      : makeVector(Float64Array.from(values as number[]));
  });
  const table = new Table(Object.fromEntries(names.map((name, i) => [name, columns[i]!])));
  if (run !== undefined) {
    table.schema.metadata.set("aronnax.run", JSON.stringify(run));
  }
  return tableToIPC(table, "stream");
}

/** A training run like a small language model's: a loss that falls with noise, warm-up, validation now and then. */
export function trainingRows(count: number, options: { from?: number; seed?: number } = {}): Row[] {
  let state = options.seed ?? 1;
  const random = () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
  const tokensPerStep = 4096;
  return Array.from({ length: count }, (_, i) => {
    const step = (options.from ?? 0) + i + 1;
    const loss = 1.6 + 3.9 * Math.exp(-step / 120) + 0.25 * (random() - 0.5);
    const row: Record<string, number> = {
      step,
      time: step * 0.35,
      tokens: step * tokensPerStep,
      loss,
      learning_rate: 3e-4 * Math.min(1, step / 50) * (0.55 + 0.45 * Math.cos((Math.PI * step) / 500)),
      gradient_norm: 0.6 + 2 * Math.exp(-step / 40) + 0.4 * random(),
      tokens_per_second: 11_700 * (0.95 + 0.1 * random()),
      step_seconds: 0.35 * (0.95 + 0.1 * random()),
      memory_parameters: 4.2e6,
      memory_optimizer: 8.4e6,
      memory_data: 0.5e6 + 0.3e6 * random(),
      memory_total: 15.5e6,
    };
    if (step % 50 === 0) {
      row.valid_loss = 1.75 + 3.9 * Math.exp(-step / 120);
    }
    return row;
  });
}
